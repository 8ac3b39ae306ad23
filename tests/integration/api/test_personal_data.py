"""Personal data in the API: stored sealed, returned readable, unreadable after erasure."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
from typing import Any

import asyncpg
import httpx
import pytest

from api.auth.ownership import customer_of
from api.context import canonical_payload, short_hash
from api.problems.errors import UnknownOrder
from eventlog import log
from settings import Settings
from tests.support.api_requests import BASKET, problem, shown
from tests.support.personal_data import (
    ADA,
    BOB,
    ERASED,
    FORGED,
    SET_SHIPPING,
    UNREADABLE,
    erase,
    new_customer,
    whole,
)
from tests.support.processes import assert_one_sentence, run_inside
from tests.support.servers import Running, run_api, run_orderly
from tests.support.shop import PlacedOrder, Shop


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


async def opened(http: httpx.AsyncClient, customer: str, **changes: Any) -> str:
    """The path of a new order with two lines, whose last version is 5 or later."""
    body = {**BASKET, "customer_id": customer, "shipping_address": ADA, "billing_address": BOB}
    response = await http.post("/v1/orders", json={**body, **changes})
    assert response.status_code == 201, response.text
    path: str = response.headers["Location"]
    return path


async def addresses_in_history(http: httpx.AsyncClient, path: str) -> list[Any]:
    history = (await http.get(f"{path}/history")).json()["items"]
    return [item["data"]["address"] for item in history if "address" in item["data"]]


# Requests and responses


async def test_addresses_are_returned_as_given(http: httpx.AsyncClient) -> None:
    customer = new_customer()
    path = await opened(http, customer)
    document = await shown(http, path, 5)
    assert document["shipping_address"] == whole(ADA)
    assert document["billing_address"] == whole(BOB)
    listed = (await http.get("/v1/orders", params={"customer_id": customer})).json()["items"]
    assert listed == [document]
    assert await addresses_in_history(http, path) == [whole(ADA), whole(BOB)]


async def test_address_is_set_by_a_command_alone_or_in_a_batch(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http, new_customer(), shipping_address=None, billing_address=None)
    single = await http.post(f"{path}/{SET_SHIPPING}", json={"address": ADA})
    assert single.json()["events"] == [{"version": 4, "type": "shipping-address-set"}]
    several = [
        {"type": "set-shipping-address", "address": BOB},
        {"type": "set-billing-address", "address": ADA},
        {"type": "add-note", "text": "ring twice"},
    ]
    batch = await http.post(f"{path}/commands", json={"commands": several})
    assert batch.status_code == 200, batch.text
    document = await shown(http, path, 7)
    assert document["shipping_address"] == whole(BOB)
    assert document["billing_address"] == whole(ADA)


async def test_schemas_show_the_unsealed_address(http: httpx.AsyncClient) -> None:
    path = await opened(http, new_customer())
    await shown(http, path, 5)
    listed = (await http.get(f"{path}/commands")).json()["commands"]
    schema = next(c for c in listed if c["type"] == "set-shipping-address")["json_schema"]
    assert schema["properties"]["address"] == {"$ref": "#/$defs/Address"}
    assert "postal_code" in schema["$defs"]["Address"]["properties"]

    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    for command in ("SetShippingAddress", "SetBillingAddress"):
        assert schemas[command]["properties"]["address"]["$ref"] == "#/components/schemas/Address"
    read = schemas["Order"]["properties"]["shipping_address"]["anyOf"]
    assert [s.get("$ref", s.get("type")).split("/")[-1] for s in read] == [
        *("Address", "ErasedAddress", "UnreadableAddress", "null")
    ]


@pytest.mark.parametrize(
    ("route", "body", "pointer"),
    [
        (SET_SHIPPING, {"address": FORGED}, "#/address"),
        (
            "commands",
            {"commands": [{"type": "set-billing-address", "address": FORGED}]},
            "#/commands/0/address",
        ),
        (None, {**BASKET, "shipping_address": FORGED}, "#/shipping_address"),
    ],
    ids=["command", "commands", "order"],
)
async def test_sealed_token_from_a_client_is_rejected(
    http: httpx.AsyncClient, route: str | None, body: dict[str, Any], pointer: str
) -> None:
    path = f"{await opened(http, new_customer())}/{route}" if route else "/v1/orders"
    response = await http.post(path, json=body)
    errors = problem(response, 422, "malformed-request")["errors"]
    assert [error["pointer"] for error in errors] == [pointer]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Ada\u0007"),
        ("name", ["Ada"]),
        ("line1", "Ada" * 50),
        ("country", "Ada"),
        ("email", "Ada"),
        ("phone", "Ada"),
        ("postal_code", "Ada\n"),
        ("planet", "Ada"),
    ],
)
async def test_invalid_address_field_is_named_without_its_value(
    http: httpx.AsyncClient, field: str, value: Any
) -> None:
    body: dict[str, Any] = {**BASKET, "billing_address": {**ADA, field: value}}
    response = await http.post("/v1/orders", json=body)
    errors = problem(response, 422, "malformed-request")["errors"]
    assert [error["pointer"] for error in errors] == [f"#/billing_address/{field}"]
    assert "Ada" not in response.text


async def test_text_that_looks_like_a_sealed_token_is_unchanged(http: httpx.AsyncClient) -> None:
    path = await opened(http, new_customer())
    text = f'"address":"{FORGED}" {FORGED}'
    await http.post(f"{path}/commands/add-note", json={"text": text, "note_id": FORGED})
    document = await shown(http, path, 6)
    assert document["notes"] == [{"note_id": FORGED, "text": text}]
    assert document["shipping_address"] == whole(ADA)
    history = (await http.get(f"{path}/history")).json()["items"]
    assert history[-1]["data"]["text"] == text


# Retries


async def test_repeated_request_gets_the_first_response_although_sealed_again(
    http: httpx.AsyncClient,
) -> None:
    customer, key = new_customer(), new_key()
    body: dict[str, Any] = {**BASKET, "customer_id": customer, "shipping_address": ADA}
    first = await http.post("/v1/orders", json=body, headers=key)
    again = await http.post("/v1/orders", json=dict(reversed(body.items())), headers=key)
    assert (again.status_code, again.text) == (201, first.text)
    assert again.headers["Idempotent-Replayed"] == "true"

    path = first.headers["Location"]
    command, key = {"address": BOB}, new_key()
    first = await http.post(f"{path}/{SET_SHIPPING}", json=command, headers=key)
    again = await http.post(f"{path}/{SET_SHIPPING}", json=command, headers=key)
    assert (again.status_code, again.text) == (200, first.text)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (await shown(http, path, 5))["version"] == 5


async def test_another_address_under_the_same_key_is_rejected(http: httpx.AsyncClient) -> None:
    customer, key = new_customer(), new_key()
    body: dict[str, Any] = {**BASKET, "customer_id": customer, "shipping_address": ADA}
    path = (await http.post("/v1/orders", json=body, headers=key)).headers["Location"]
    for other in (
        {**body, "shipping_address": BOB},
        {**body, "customer_id": new_customer()},
        {**body, "shipping_address": None},
    ):
        rejected = await http.post("/v1/orders", json=other, headers=key)
        problem(rejected, 422, "idempotency-key-reused")
    key = new_key()
    await http.post(f"{path}/{SET_SHIPPING}", json={"address": ADA}, headers=key)
    rejected = await http.post(f"{path}/{SET_SHIPPING}", json={"address": BOB}, headers=key)
    problem(rejected, 422, "idempotency-key-reused")
    assert (await shown(http, path, 5))["shipping_address"] == whole(ADA)


async def test_payload_hash_in_the_log_cannot_be_guessed(orderly: Running) -> None:
    path = await opened(orderly.http, new_customer())
    body = json.dumps({"address": ADA}).encode()
    await orderly.http.post(
        f"{path}/{SET_SHIPPING}", content=body, headers={"Content-Type": "application/json"}
    )
    await shown(orderly.http, path, 6)
    stream = await log.read_stream(orderly.pool, path.rpartition("/")[2])
    guess = short_hash(canonical_payload(f"{path}/{SET_SHIPPING}", body))
    assert stream[-1].metadata.payload_hash != guess
    assert len(stream[-1].metadata.payload_hash) == len(guess)


# Ownership


async def test_unknown_order_is_not_found(http: httpx.AsyncClient) -> None:
    response = await http.post(f"/v1/orders/ord_x/{SET_SHIPPING}", json={"address": ADA})
    problem(response, 404, "unknown-order")


async def test_customer_of_an_unpublished_order_is_known_from_temporal(
    orderly: Running, pool: asyncpg.Pool
) -> None:
    customer = new_customer()
    path = await opened(orderly.http, customer)
    order_id = path.rpartition("/")[2]
    await shown(orderly.http, path, 5)
    empty_log = pool
    for source in (orderly.pool, empty_log):
        assert await customer_of(order_id, source, orderly.client) == customer
    with pytest.raises(UnknownOrder, match="ord_x"):
        await customer_of("ord_x", pool, orderly.client)


async def test_previewed_address_is_readable_and_leaves_no_key(orderly: Running) -> None:
    customer = new_customer()
    body = {**BASKET, "customer_id": customer, "shipping_address": ADA}
    previewed = await orderly.http.post("/v1/orders/preview", json=body)
    assert [e["data"]["address"] for e in previewed.json()["events"] if "address" in e["data"]] == [
        whole(ADA)
    ]
    path = (
        await orderly.http.post("/v1/orders", json={**BASKET, "customer_id": customer})
    ).headers["Location"]
    previewed = await orderly.http.post(f"{path}/{SET_SHIPPING}/preview", json={"address": BOB})
    assert [event["data"]["address"] for event in previewed.json()["events"]] == [whole(BOB)]
    keys = "SELECT count(*) FROM customer_keys WHERE customer_id = $1"
    assert await orderly.pool.fetchval(keys, customer) == 0


async def test_address_is_rejected_while_keys_are_unavailable(orderly: Running) -> None:
    settings = Settings(
        postgres_dsn="postgresql://orderly@127.0.0.1:1/orderly", task_queue=orderly.task_queue
    )
    body = {**BASKET, "shipping_address": ADA}
    async with run_api(orderly.client, settings) as http:
        rejected = await http.post("/v1/orders", json=body)
        problem(rejected, 503, "storage-unavailable")
        assert rejected.headers["Retry-After"] == "1"
        assert (await http.post("/v1/orders", json=BASKET)).status_code == 201


async def test_request_without_personal_data_needs_no_key(orderly: Running, dsn: str) -> None:
    async with run_orderly(orderly.client, dsn) as own:
        await own.pool.execute("DROP TABLE customer_keys")
        path = (await own.http.post("/v1/orders", json=BASKET)).headers["Location"]
        await own.http.post(f"{path}/commands/add-note", json={"text": "ring twice"})
        document = await shown(own.http, path, 4)
        assert document["shipping_address"] is document["billing_address"] is None
        assert (await own.http.get("/v1/orders")).json()["items"] == [document]
        same = await own.http.get(path, headers={"If-None-Match": '"4"'})
        assert same.status_code == 304
        history = await own.http.get(f"{path}/history")
        assert (history.status_code, len(history.json()["items"])) == (200, 4)
        assert "Cache-Control" not in history.headers


async def test_lost_key_makes_its_addresses_unreadable_and_nothing_else(orderly: Running) -> None:
    """As after a restore that is older than the key."""
    http, customer = orderly.http, new_customer()
    path, other = await opened(http, customer), await opened(http, new_customer())
    whole_list = {"customer_id": customer}
    await shown(http, path, 5)
    await shown(http, other, 5)
    key_id = await orderly.pool.fetchval(
        "DELETE FROM customer_keys WHERE customer_id = $1 RETURNING key_id", customer
    )

    document = await shown(http, path, 5)
    assert document["shipping_address"] == document["billing_address"] == UNREADABLE
    assert (await http.get("/v1/orders", params=whole_list)).json()["items"] == [document]
    assert set(map(str, await addresses_in_history(http, path))) == {str(UNREADABLE)}
    assert (await shown(http, other, 5))["shipping_address"] == whole(ADA)
    feed = await http.get("/v1/events", params={"order_id": path.rpartition("/")[2]})
    assert str(UNREADABLE) in str(feed.json()["items"])
    lines = (await http.admin.get("/metrics")).text.splitlines()
    assert [
        line
        for line in lines
        if line.startswith("orderly_unreadable_addresses_total ") and float(line.split()[1]) > 0
    ]

    forgotten = await orderly_on(orderly.dsn, "forget-key", key_id, "--yes")
    assert forgotten.returncode == 0
    assert (await shown(http, path, 5))["shipping_address"] == ERASED
    again = await orderly_on(orderly.dsn, "forget-key", key_id, "--yes")
    assert again.returncode == 2
    assert_one_sentence(again.stderr)


# Erasure


async def test_erasure_is_visible_everywhere_and_changes_nothing_else(
    orderly: Running,
) -> None:
    http, customer, other = orderly.http, new_customer(), new_customer()
    paths = [await opened(http, customer, place=place) for place in (True, False)]
    bystander = await opened(http, other)
    placed = PlacedOrder(Shop(http, orderly.simulators), paths[0].rpartition("/")[2], version=5)
    # Once the order has settled, only erasure changes it.
    before = [await placed.wait_until_settled(status="confirmed"), await shown(http, paths[1], 5)]
    seen = await http.get(paths[0])
    assert seen.headers["Cache-Control"] == "no-store"

    assert await erase(http, customer) == 1
    assert await erase(http, customer) == 0

    gone = {"shipping_address": ERASED, "billing_address": ERASED}
    assert {shipment["address"]["line1"] for shipment in before[0]["shipments"]} == {ADA["line1"]}
    for path, document in zip(paths, before, strict=True):
        erased = [{**shipment, "address": ERASED} for shipment in document["shipments"]]
        assert await shown(http, path, 5) == {**document, **gone, "shipments": erased}
        assert await addresses_in_history(http, path) == [ERASED, ERASED]
    listed = (await http.get("/v1/orders", params={"customer_id": customer})).json()["items"]
    assert [item["shipping_address"] for item in listed] == [ERASED, ERASED]
    again = await http.get(paths[0], headers={"If-None-Match": seen.headers["ETag"]})
    assert (again.status_code, again.json()["billing_address"]) == (200, ERASED)
    assert (await shown(http, bystander, 5))["shipping_address"] == whole(ADA)


async def test_order_of_an_erased_customer_continues_and_a_new_address_is_readable(
    http: httpx.AsyncClient,
) -> None:
    customer = new_customer()
    path = await opened(http, customer)
    await erase(http, customer)
    await http.post(f"{path}/{SET_SHIPPING}", json={"address": BOB})
    document = await shown(http, path, 6)
    assert document["shipping_address"] == whole(BOB)
    assert document["billing_address"] == ERASED
    assert await addresses_in_history(http, path) == [ERASED, ERASED, whole(BOB)]


async def test_malformed_customer_id_is_rejected(http: httpx.AsyncClient) -> None:
    response = await http.delete("/v1/customers/a%20b/personal-data")
    problem(response, 422, "malformed-request")


async def test_erase_command_erases_once_and_reports_errors_in_one_line(orderly: Running) -> None:
    customer = new_customer()
    path = await opened(orderly.http, customer)
    await shown(orderly.http, path, 5)
    for output in (f"Customer {customer} is erased.\n", f"Nothing to erase of {customer}.\n"):
        ended = await orderly_on(orderly.dsn, "erase", customer, "--yes")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, output, "")
    assert (await shown(orderly.http, path, 5))["shipping_address"] == ERASED

    for customer, dsn, code in (
        ("a b", orderly.dsn, 2),
        ("900", "", 2),
        ("900", "postgresql://orderly:secret@127.0.0.1:1/orderly", 1),
    ):
        ended = await orderly_on(dsn, "erase", customer, "--yes")
        assert (ended.returncode, ended.stdout) == (code, "")
        assert ended.stderr.startswith("orderly: ") and ended.stderr.count("\n") == 1
        assert "secret" not in ended.stderr


async def orderly_on(dsn: str, *command: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run_inside, *command, ORDERLY_POSTGRES_DSN=dsn)
