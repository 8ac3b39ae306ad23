"""Commands, retries, conditional requests and reads of orders."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from pydantic.json_schema import GenerateJsonSchema

from orders.commands import COMMAND_TYPES, type_of
from readside.order_view.document import OrderDocument
from tests.support.api_requests import (
    BAGELS,
    BAGELS_CENTS,
    BASKET,
    TUNA_CENTS,
    opened,
    problem,
    shown,
    until_ready,
)

# Commands


async def test_basket_is_placed_in_one_request(http: httpx.AsyncClient) -> None:
    response = await http.post(
        "/v1/orders", json={**BASKET, "external_reference": "31198570044", "place": True}
    )
    result = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/orders/{result['order_id']}"
    assert response.headers["ETag"] == '"5"'
    assert (result["version"], result["status"]) == (5, "placed")
    assert (result["total"], result["currency"]) == (BAGELS_CENTS + TUNA_CENTS, "USD")
    assert result["events"] == [
        {"version": 1, "type": "order-opened"},
        {"version": 2, "type": "item-added"},
        {"version": 3, "type": "item-added"},
        {"version": 4, "type": "order-placed"},
        {"version": 5, "type": "stock-requested"},  # The order's own events are included.
    ]
    document = await shown(http, response.headers["Location"], 4)
    OrderDocument.model_validate(document, strict=False)
    assert [line["total"] for line in document["lines"]] == [BAGELS_CENTS, TUNA_CENTS]
    assert document["external_reference"] == "31198570044"


async def test_every_command_has_its_own_route(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert {f"/v1/orders/{{order_id}}/commands/{type_of(c)}" for c in COMMAND_TYPES[1:]} <= {*paths}


async def test_draft_accepts_commands_one_by_one(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    address = {"name": "Zoe", "line1": "1 Road", "postal_code": "1", "city": "X", "country": "US"}
    sent: list[tuple[str, dict[str, Any], str]] = [
        ("add-item-to-order", {**BAGELS, "line_id": "more"}, "item-added"),
        ("change-item-quantity", {"line_id": "more", "quantity": 3}, "item-quantity-changed"),
        ("remove-item-from-order", {"line_id": "more"}, "item-removed"),
        ("apply-discount", {"discount_id": "d", "amount": 78}, "discount-applied"),
        ("remove-discount", {"discount_id": "d"}, "discount-removed"),
        ("set-shipping-charge", {"amount": 500}, "shipping-charge-set"),
        ("set-shipping-address", {"address": address}, "shipping-address-set"),
        ("set-billing-address", {"address": address}, "billing-address-set"),
        ("add-note", {"text": "ring twice"}, "note-added"),
        ("cancel-order", {"reason": "changed my mind"}, "order-cancelled"),
    ]
    for version, (command, body, event) in enumerate(sent, start=4):
        response = await http.post(f"{path}/commands/{command}", json=body)
        assert response.status_code == 200, response.text
        assert response.json()["events"] == [{"version": version, "type": event}]
        assert response.headers["ETag"] == f'"{version}"'


async def test_batch_is_executed_completely_or_not_at_all(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http)
    add, place = {"type": "add-item-to-order", **BAGELS}, {"type": "place-order"}
    unknown = {"type": "remove-item-from-order", "line_id": "none"}
    rejected = await http.post(f"{path}/commands", json={"commands": [add, unknown, place]})
    assert problem(rejected, 409, "unknown-id")["errors"][0]["pointer"] == "#/commands/1/line_id"

    response = await http.post(f"{path}/commands", json={"commands": [add, place]})
    assert [event["version"] for event in response.json()["events"]] == [4, 5, 6]


async def test_no_op_command_changes_nothing(http: httpx.AsyncClient) -> None:
    path = await opened(http, place=True)
    response = await http.post(f"{path}/commands/place-order")
    assert (response.status_code, response.json()["events"]) == (200, [])


async def test_allowed_commands_are_listed_with_their_schemas(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    version = (await http.post(f"{path}/commands/cancel-order")).json()["version"]
    await shown(http, path, version)
    listed = (await http.get(f"{path}/commands")).json()
    assert [command["type"] for command in listed["commands"]] == [
        "add-note",
    ]
    note = listed["commands"][0]
    assert note["href"] == f"{path}/commands/add-note"
    assert note["json_schema"]["required"] == ["text"]


async def test_schemas_of_commands_are_generated_once(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await opened(http, lines=[])
    await shown(http, path, 1)
    first = (await http.get(f"{path}/commands")).json()
    generate = Mock(wraps=GenerateJsonSchema.generate)
    monkeypatch.setattr(GenerateJsonSchema, "generate", generate)
    assert (await http.get(f"{path}/commands")).json() == first
    assert not generate.called


async def test_commands_that_are_not_allowed_say_why(http: httpx.AsyncClient) -> None:
    path = await opened(http, lines=[])
    await shown(http, path, 1)
    listed = (await http.get(f"{path}/commands")).json()

    why_not = {command["type"]: command["why_not"] for command in listed["unavailable"]}
    assert why_not["place-order"] == "it has no line"
    assert why_not["refund-payment"] == "the order is draft"
    allowed = {command["type"] for command in listed["commands"]}
    assert not allowed & why_not.keys()
    assert allowed | why_not.keys() == set(map(type_of, COMMAND_TYPES[1:]))


async def test_preview_changes_nothing_and_guards_its_command(http: httpx.AsyncClient) -> None:
    path, key = await opened(http), {"Idempotency-Key": "later"}
    note = {"text": "ring twice"}
    preview = await http.post(f"{path}/commands/add-note/preview", json=note, headers=key)
    (event,) = preview.json()["events"]
    assert (event["type"], event["data"]["text"]) == ("note-added", "ring twice")

    guarded = {**key, "If-Match": preview.headers["ETag"]}
    added = await http.post(f"{path}/commands/add-note", json=note, headers=guarded)
    assert added.json()["version"] == preview.json()["version"] + 1 == event["version"]
    await shown(http, path, added.json()["version"])
    (shown_note,) = (await http.get(path)).json()["notes"]
    assert shown_note["note_id"] == event["data"]["note_id"]
    again = await http.post(f"{path}/commands/add-note/preview", json=note, headers=guarded)
    assert (again.status_code, again.json()["code"]) == (412, "version-conflict")


async def test_preview_of_an_opening_opens_nothing(http: httpx.AsyncClient) -> None:
    body = {"customer_id": "900", "currency": "USD", "lines": [], "place": False}
    preview = await http.post("/v1/orders/preview", json=body)
    assert (preview.status_code, preview.json()["version"]) == (200, 0)
    assert [event["type"] for event in preview.json()["events"]] == ["order-opened"]
    path = f"/v1/orders/{preview.json()['order_id']}"
    assert (await http.post(f"{path}/commands/add-note", json={"text": "?"})).status_code == 404


# Retries


@pytest.mark.parametrize("quoted", [False, True])
async def test_repeated_request_gets_the_first_response(
    http: httpx.AsyncClient, quoted: bool
) -> None:
    key = secrets.token_hex(8)
    headers = {"Idempotency-Key": f'"{key}"' if quoted else key}
    first = await http.post("/v1/orders", json=BASKET, headers=headers)
    again = await http.post("/v1/orders", json=BASKET, headers={"Idempotency-Key": key})
    assert (again.status_code, again.text) == (201, first.text)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"

    path = first.headers["Location"]
    note = {"text": "hi"}
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    first = await http.post(f"{path}/commands/add-note", json=note, headers=headers)
    reordered = json.dumps(note, indent=4)
    again = await http.post(
        f"{path}/commands/add-note",
        content=reordered,
        headers={**headers, "If-Match": '"1"', "Content-Type": "application/json"},
    )
    assert (again.status_code, again.text) == (200, first.text), (
        "a repeated request must not check If-Match"
    )
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_key_with_another_payload_is_rejected(http: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    path = (await http.post("/v1/orders", json=BASKET, headers=headers)).headers["Location"]
    other = await http.post("/v1/orders", json={**BASKET, "place": True}, headers=headers)
    named = problem(other, 422, "idempotency-key-reused")
    assert named["errors"][0]["header"] == "Idempotency-Key"
    assert (await shown(http, path, 3))["status"] == "draft"


async def test_without_a_key_each_request_is_executed(http: httpx.AsyncClient) -> None:
    assert await opened(http) != await opened(http)


async def test_rejected_command_can_be_retried_under_its_key(http: httpx.AsyncClient) -> None:
    path = await opened(http, lines=[])
    headers = {"Idempotency-Key": "place"}
    rejected = await http.post(f"{path}/commands/place-order", headers=headers)
    problem(rejected, 409, "no-lines")
    await http.post(f"{path}/commands/add-item-to-order", json=BAGELS)
    response = await http.post(f"{path}/commands/place-order", headers=headers)
    assert (response.status_code, response.json()["status"]) == (200, "placed")


# Conditions and waiting


async def test_stale_version_is_rejected_by_the_order_itself(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    stale = await http.post(f"{path}/commands/place-order", headers={"If-Match": '"2"'})
    document = problem(stale, 412, "version-conflict")
    assert document["current_version"] == 3
    assert "place-order" in document["allowed_commands"]
    of_many = await asyncio.gather(
        *(
            http.post(f"{path}/commands/add-note", json={"text": "x"}, headers={"If-Match": '"3"'})
            for _ in range(5)
        )
    )
    assert sorted(response.status_code for response in of_many) == [200, 412, 412, 412, 412]


async def test_read_with_a_known_etag_is_not_modified(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    await shown(http, path, 3)
    response = await http.get(path)
    assert response.headers["ETag"] == '"3"'
    assert int(response.headers["Projection-Lag-Ms"]) >= 0
    assert int(response.headers["Projection-Position"]) > 0
    same = await http.get(path, headers={"If-None-Match": '"2", W/"3"'})
    assert (same.status_code, same.content) == (304, b"")
    changed = await http.get(path, headers={"If-None-Match": '"2"'})
    assert changed.status_code == 200


async def test_read_waits_for_a_consistency_token(http: httpx.AsyncClient) -> None:
    for _ in range(5):
        result = (await http.post("/v1/orders", json=BASKET)).json()
        token = {"consistency_token": result["consistency_token"]}
        one = await http.get(f"/v1/orders/{result['order_id']}", params=token)
        assert one.json()["version"] == result["version"]
        listed = await http.get("/v1/orders", params={**token, "limit": 1})
        assert listed.json()["items"][0]["order_id"] == result["order_id"]


async def test_read_that_times_out_reports_the_version_of_the_view(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http)
    await shown(http, path, 3)
    late = await http.get(path, params={"min_version": 4}, headers={"Prefer": "wait=0"})
    assert problem(late, 503, "projection-behind")["current_version"] == 3
    assert late.headers["Retry-After"] == "1"


# Reads


async def test_history_has_each_event_with_its_time_and_actor(http: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    path = await opened(http)
    await http.post(
        f"{path}/commands/cancel-order",
        json={"reason": "changed my mind"},
        headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-Request-Id": "req-7"},
    )
    history = (await http.get(f"{path}/history", params={"min_version": 4})).json()
    assert [item["version"] for item in history["items"]] == [1, 2, 3, 4]
    last = history["items"][-1]
    assert (last["type"], last["data"]) == ("order-cancelled", {"reason": "changed my mind"})
    assert (last["actor"], last["cause"]) == ("anonymous", "cancel-order")
    assert (last["trace_id"], last["request_id"]) == (trace, "req-7")
    assert history["next"] is None

    page = (await http.get(f"{path}/history", params={"cursor": 1, "limit": 2})).json()
    assert ([item["version"] for item in page["items"]], page["next"]) == ([2, 3], 3)


async def awaiting_customer(http: httpx.AsyncClient, path: str) -> None:
    """Waits until the order awaits the customer because its payment was declined."""
    async with asyncio.timeout(30):
        while (await http.get(path)).json()["status"] != "awaiting_customer":
            await asyncio.sleep(0.05)


async def test_lists_filter_sort_and_page_without_skipping_or_repeating(
    http: httpx.AsyncClient,
) -> None:
    customer = f"c-{secrets.token_hex(4)}"
    paths = [
        await opened(http, customer_id=customer, lines=[{**BAGELS, "quantity": n % 3 + 1}])
        for n in range(7)
    ]
    await http.post(f"{paths[0]}/commands/place-order", json={"payment_method": "pm_declined"})
    await awaiting_customer(http, paths[0])
    for path in paths:
        await shown(http, path, 2)

    for sort in ("opened_at", "-opened_at", "updated_at", "-updated_at", "total", "-total"):
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            query = {"customer_id": customer, "sort": sort, "limit": "2", **cursor}
            page = (await http.get("/v1/orders", params=query)).json()
            items += page["items"]
            if page["next"] is None:
                break
            cursor = {"cursor": page["next"]}
        assert len({item["order_id"] for item in items}) == len(items) == 7
        keys = [(item[sort.removeprefix("-")], item["order_id"]) for item in items]
        assert keys == sorted(keys, reverse=sort.startswith("-"))

    async def count(**filters: Any) -> int:
        response = await http.get("/v1/orders", params={"customer_id": customer, **filters})
        return len(response.json()["items"])

    assert await count(status="awaiting_customer") == 1
    assert await count(status=["awaiting_customer", "draft"]) == 7
    assert await count(needs_attention=True) == 0
    assert await count(sku="1095275") == 7
    assert await count(sku="unheard-of") == 0
    assert await count(total_from=100, total_until=150) == 2
    assert await count(placed_from="2020-01-01T00:00:00Z") == 1
    assert await count(placed_until="2020-01-01T00:00:00Z") == 0
    assert await count(external_reference="none") == 0


async def test_liveness_and_readiness_are_reported(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"status": "alive"}
    assert await until_ready(http) == {"ready": True, "commands": True, "reads": True}
    metrics = await http.get("/metrics")
    assert "orderly_projection_lag_seconds" in metrics.text, "an open service hides nothing"
