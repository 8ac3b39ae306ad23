"""Webhook endpoints over the API: what operators register, see and change."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import asyncpg
import httpx
import pytest
from standardwebhooks import Webhook
from temporalio.testing import WorkflowEnvironment

from api import id_cursor
from eventlog.cursor import encode_cursor
from eventlog.log import Checkpoint
from outbound.webhooks import endpoints, replays
from settings import Settings
from tests.support.api_requests import opened, problem
from tests.support.command_builders import new_order_id
from tests.support.event_feed import page, read_on
from tests.support.event_log import append, note
from tests.support.personal_data import ADA, ERASED
from tests.support.servers import ApiClient, Running, run_api
from tests.support.webhook_receiver import (
    ERROR,
    OK,
    Receiver,
    Reply,
    failing_first,
    receiving,
    until,
)
from tests.support.webhooks import KEY, LOOPBACK_NETWORKS, delivering

PATH = "/v1/webhook-endpoints"
NOWHERE = {"url": "http://127.0.0.1:9/webhooks"}

Json = dict[str, Any]


async def registered(http: httpx.AsyncClient, url: str = NOWHERE["url"], **fields: Any) -> Json:
    response = await http.post(PATH, json={"url": url, **fields})
    assert response.status_code == 201, response.text
    created: Json = response.json()
    assert response.headers["Location"] == f"{PATH}/{created['endpoint_id']}"
    return created


def path_of(endpoint: Json) -> str:
    return f"{PATH}/{endpoint['endpoint_id']}"


async def shown(http: httpx.AsyncClient, endpoint: Json) -> Json:
    response = await http.get(path_of(endpoint))
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def has_accepted(receiver: Receiver, order_id: str, version: int) -> None:
    await receiver.until(lambda: version in receiver.order_versions().get(order_id, []))


async def test_webhooks_are_what_the_feed_shows(orderly: Running) -> None:
    http = orderly.http
    async with receiving() as receiver, delivering(orderly.dsn):
        endpoint = await registered(http, receiver.url, description="the warehouse")
        path = await opened(http, shipping_address=ADA)
        order_id = path.rpartition("/")[2]
        await has_accepted(receiver, order_id, 4)
        received = [one for one in receiver.accepted if one.order_id == order_id]
        for request in received:
            Webhook(endpoint["secret"]).verify(request.body, request.headers)
        items, _ = await read_on(http, order_id=order_id)
        assert [one.event for one in received] == items
        assert any(item["data"].get("address", {}).get("name") == ADA["name"] for item in items)
        for one in received:
            await until(partial(_has, http, endpoint, one.event_id))
        state = await shown(http, endpoint)
        assert state["health"]["state"] == "delivering" and state["parked_orders"] == []
        assert state["description"] == "the warehouse" and "secret" not in state
        await http.delete(path_of(endpoint))


async def _delivered(http: httpx.AsyncClient, endpoint: Json, count: int) -> bool:
    return bool((await shown(http, endpoint))["health"]["delivered"] >= count)


async def test_delivery_begins_where_the_registration_says(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    earlier, later = new_order_id(), new_order_id()
    settings = Settings(postgres_dsn=dsn, endpoint_key=KEY, endpoint_networks=LOOPBACK_NETWORKS)
    began = (await pool.fetchval("SELECT clock_timestamp()")).isoformat()
    await append(pool, earlier, note(1), note(2), note(3))
    async with (
        run_api(temporal.client, settings) as http,
        receiving() as receiver,
        delivering(dsn),
    ):
        items, _ = await read_on(http)
        made = {
            start: await registered(http, f"{receiver.url}/{number}", **{"from": start})
            for number, start in enumerate(
                (
                    *("beginning", began, items[0]["id"], items[1]["id"], "now"),
                    (await page(http, limit=1))["next"],
                )
            )
        }
        await append(pool, later, note(1))
        for start, endpoint in made.items():
            await until(partial(_has, http, endpoint, f"{later}@1"))
            if start != "now":  # The versions of an order arrive in order.
                await until(partial(_has, http, endpoint, f"{earlier}@3"))
        for start, endpoint in made.items():
            begins_later = start not in ("beginning", began, items[0]["id"])
            assert await _has(http, endpoint, f"{earlier}@1") == (not begins_later), start
            assert await _has(http, endpoint, f"{earlier}@2") == (start != "now"), start


async def _has(http: httpx.AsyncClient, endpoint: Json, event_id: str) -> bool:
    query: Json = {"limit": 100}
    while True:
        found = (await http.get(f"{path_of(endpoint)}/deliveries", params=query)).json()
        if any(item["event_id"] == event_id for item in found["items"]):
            return True
        if found["next"] is None:
            return False
        query["cursor"] = found["next"]


async def test_two_operators_who_change_the_same_endpoint_notice_it(
    http: httpx.AsyncClient,
) -> None:
    endpoint = await registered(http, event_types=["order-placed"], customer_id="ada")
    path = path_of(endpoint)
    seen = (await http.get(path)).headers["ETag"]
    first, second = await asyncio.gather(
        *(
            http.patch(path, json={"description": name}, headers={"If-Match": seen})
            for name in ("olga", "otto")
        )
    )
    won, lost = sorted((first, second), key=lambda response: response.status_code)
    assert won.status_code == 200 and won.headers["ETag"] != seen
    document = problem(lost, 412, "endpoint-changed")
    assert f'"{document["current_version"]}"' == won.headers["ETag"]
    changed = await http.patch(path, json={"event_types": None, "customer_id": None})
    assert changed.json()["event_types"] is changed.json()["customer_id"] is None
    assert changed.json()["description"] == won.json()["description"]
    problem(await http.patch(path, json={}, headers={"If-Match": "soon"}), 422, "malformed-request")
    assert (await http.delete(path)).status_code == 204


async def test_pausing_and_resuming_show_in_the_endpoint(http: httpx.AsyncClient) -> None:
    endpoint = await registered(http)
    paused = (await http.post(f"{path_of(endpoint)}/pause")).json()
    assert (paused["status"], paused["health"]["state"]) == ("paused", "paused")
    resumed = (await http.post(f"{path_of(endpoint)}/resume")).json()
    assert (resumed["status"], resumed["health"]["state"]) == ("active", "delivering")
    listed = (await http.get(PATH)).json()
    assert endpoint["endpoint_id"] in [one["endpoint_id"] for one in listed["items"]]
    await http.delete(path_of(endpoint))
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/test")):
        gone = await http.request(method, path_of(endpoint) + path)
        problem(gone, 404, "unknown-endpoint")


async def test_secret_is_shown_once_and_rotated(http: httpx.AsyncClient) -> None:
    async with receiving() as receiver:
        endpoint = await registered(http, receiver.url)
        rotated = await http.post(f"{path_of(endpoint)}/rotate-secret")
        assert rotated.headers["Cache-Control"] == "no-store"
        old, new = endpoint["secret"], rotated.json()["secret"]
        assert old != new and rotated.json()["old_secret_until"] is not None
        texts = [
            response.text for response in (await http.get(PATH), await http.get(path_of(endpoint)))
        ]
        assert not any(secret in text for text in texts for secret in (old, new))
        sent = (await http.post(f"{path_of(endpoint)}/test")).json()
        assert (sent["outcome"], sent["status"]) == ("delivered", 204)
        [request] = receiver.requests
        for secret in (old, new):
            event = Webhook(secret).verify(request.body, request.headers)
        assert (event["type"], event["data"]) == ("orderly.test.v1", {"test": True})
        await http.delete(path_of(endpoint))


async def test_test_says_what_went_wrong(http: httpx.AsyncClient) -> None:
    endpoint = await registered(http)
    sent = (await http.post(f"{path_of(endpoint)}/test")).json()
    assert (sent["outcome"], sent["status"]) == ("failed", None)
    assert "cannot connect" in sent["error"]
    path = f"{path_of(endpoint)}/deliveries"
    assert (await http.get(path)).json()["items"] == [sent]
    again = await http.post(f"{path}/{sent['delivery_id']}/redeliver")
    problem(again, 404, "unknown-delivery")
    await http.delete(path_of(endpoint))


async def test_deliveries_are_paged_filtered_and_delivered_again(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = orderly.http
    async with receiving(failing_first(1, Reply(500, body=b"try\x00 later"))) as receiver:
        endpoint = await registered(http, receiver.url, customer_id="c-paged")
        async with delivering(orderly.dsn):
            order_id = (await opened(http, customer_id="c-paged")).rpartition("/")[2]
            await has_accepted(receiver, order_id, 3)
            await until(lambda: _delivered(http, endpoint, 3))
            path = f"{path_of(endpoint)}/deliveries"
            items, query = list[Json](), {"limit": "2"}
            while True:
                found = (await http.get(path, params=query)).json()
                items += found["items"]
                if found["next"] is None:
                    break
                query["cursor"] = found["next"]
            assert [item["outcome"] for item in items] == ["delivered", "failed"] * 3
            failed = (await http.get(path, params={"outcome": "failed"})).json()["items"]
            assert [item["event_id"] for item in failed] == [
                f"{order_id}@{version}" for version in (3, 2, 1)
            ]
            for item in failed:
                assert (item["status"], item["error"]) == (500, "answered 500")
                assert item["answer"] == "try  later" and item["next_try_at"] is not None

            again = await http.post(f"{path}/{failed[0]['delivery_id']}/redeliver")
            assert again.status_code == 202, again.text
            await receiver.until(lambda: len(receiver.accepted) == 4)
            assert receiver.accepted[-1].event_id == f"{order_id}@3"
            replay = f"{path_of(endpoint)}/replay"
            since = {"since": "2020-01-01T00:00:00Z"}
            assert (await http.post(replay, json=since)).status_code == 202
            await receiver.until(lambda: len(receiver.accepted) == 7)
            ids = {"event_ids": [f"{order_id}@2"]}
            assert (await http.post(replay, json=ids)).status_code == 202
            await receiver.until(lambda: len(receiver.accepted) == 8)
    other = (await opened(http)).rpartition("/")[2]
    missing = {"event_ids": [f"{order_id}@1", f"{other}@1", "ord_x@1"]}
    document = problem(await http.post(replay, json=missing), 409, "events-not-selected")
    assert [one["pointer"] for one in document["errors"]] == ["#/event_ids/1", "#/event_ids/2"]
    monkeypatch.setattr(replays, "REPLAYS_MAX", 0)
    problem(await http.post(replay, json=ids), 409, "too-many-replays")
    await http.delete(path_of(endpoint))


async def test_parked_orders_are_shown(orderly: Running) -> None:
    http = orderly.http
    async with receiving(lambda _: ERROR) as receiver, delivering(orderly.dsn):
        endpoint = await registered(http, receiver.url, customer_id="c-parked")
        order_id = (await opened(http, customer_id="c-parked")).rpartition("/")[2]
        await until(lambda: _has_parked(http, endpoint))
        state = await shown(http, endpoint)
        [parked] = state["parked_orders"]
        assert (parked["order_id"], parked["event_id"]) == (order_id, f"{order_id}@1")
        assert parked["error"] == "answered 500" and parked["attempts"] >= 1
        metrics = (await http.admin.get("/metrics")).text
        label = f'{{endpoint="{endpoint["endpoint_id"]}"}}'
        assert f"orderly_webhook_parked_orders{label} 1.0" in metrics
        assert f"orderly_webhook_lag_seconds{label}" in metrics
        await until(lambda: _has_one_deliverer(http))
        receiver.respond = lambda _: OK
        await has_accepted(receiver, order_id, 3)
        await http.delete(path_of(endpoint))


async def _has_one_deliverer(http: ApiClient) -> bool:
    """One that another test has stopped may still be counted for a moment."""
    return "orderly_deliverers 1.0" in (await http.admin.get("/metrics")).text


async def _has_parked(http: httpx.AsyncClient, endpoint: Json) -> bool:
    return bool((await shown(http, endpoint))["parked_orders"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/url"),
        ({"url": "ftp://shop.example"}, "#/url"),
        ({"url": "https://olga:secret@shop.example"}, "#/url"),
        ({**NOWHERE, "event_types": []}, "#/event_types"),
        ({**NOWHERE, "event_types": ["order-teleported"]}, "#/event_types/0"),
        ({**NOWHERE, "customer_id": ""}, "#/customer_id"),
        ({**NOWHERE, "secret": "mine"}, "#/secret"),
    ],
)
async def test_malformed_endpoint_is_rejected(
    http: httpx.AsyncClient, body: Json, pointer: str
) -> None:
    document = problem(await http.post(PATH, json=body), 422, "malformed-request")
    assert [error["pointer"] for error in document["errors"]] == [pointer]


@pytest.mark.parametrize(
    "url",
    [
        *("https://10.0.0.1/x", "https://169.254.169.254/latest/meta-data", "https://[fe80::1]/"),
        *("https://[::ffff:10.0.0.1]/", "https://0x0a000001/", "https://167772161/"),
        *("http://8.8.8.8/", "https://no-such-name.invalid/"),
    ],
)
async def test_forbidden_address_is_rejected(http: httpx.AsyncClient, url: str) -> None:
    endpoint = await registered(http)
    for response in (
        await http.post(PATH, json={"url": url}),
        await http.patch(path_of(endpoint), json={"url": url}),
    ):
        document = problem(response, 422, "url-not-allowed")
        assert [error["pointer"] for error in document["errors"]] == ["#/url"]
    await http.delete(path_of(endpoint))


async def test_start_that_is_no_position_is_rejected(http: httpx.AsyncClient) -> None:
    beyond = encode_cursor(Checkpoint(2**60, 1))
    for start in ("yesterday", "2026-13-01T00:00:00Z", "ord_x@", beyond):
        response = await http.post(PATH, json={**NOWHERE, "from": start})
        document = problem(response, 400, "invalid-cursor")
        assert [error["pointer"] for error in document["errors"]] == ["#/from"]
    response = await http.post(PATH, json={**NOWHERE, "from": "ord_x@4"})
    document = problem(response, 404, "unknown-event")
    assert [error["pointer"] for error in document["errors"]] == ["#/from"]


async def test_replay_needs_a_period_or_ids(http: httpx.AsyncClient) -> None:
    endpoint = await registered(http)
    path = f"{path_of(endpoint)}/replay"
    both = {"since": "2026-01-01T00:00:00Z", "event_ids": ["ord_x@1"]}
    bad: list[Json] = [{}, both, {"event_ids": ["ord_x"]}, {"event_ids": []}, {"since": "monday"}]
    for body in bad:
        problem(await http.post(path, json=body), 422, "malformed-request")
    for cursor in ("x", "MTI=x", "LTE="):
        response = await http.get(f"{path_of(endpoint)}/deliveries", params={"cursor": cursor})
        problem(response, 400, "invalid-cursor")
    assert id_cursor.decode_cursor(id_cursor.encode_cursor(7)) == 7
    await http.delete(path_of(endpoint))


async def test_number_of_endpoints_is_limited(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "ENDPOINTS_MAX", 0)
    problem(await http.post(PATH, json=NOWHERE), 409, "too-many-endpoints")


async def test_endpoints_need_a_key_and_public_addresses(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, dsn: str
) -> None:
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        response = await http.post(PATH, json=NOWHERE)
        assert "no key" in problem(response, 503, "endpoints-not-configured")["detail"]
        assert (await http.get(PATH)).json() == {"items": [], "next": None}


async def test_erased_addresses_are_not_delivered_again(orderly: Running) -> None:
    http, customer_id = orderly.http, "c-erased-webhooks"
    async with receiving(lambda _: Reply(503)) as receiver, delivering(orderly.dsn):
        endpoint = await registered(http, receiver.url, customer_id=customer_id)
        order_id = (await opened(http, customer_id=customer_id, shipping_address=ADA)).rpartition(
            "/"
        )[2]
        await receiver.until(lambda: len(receiver.requests) >= 2)
        await http.delete(f"/v1/customers/{customer_id}/personal-data")
        receiver.requests.clear()
        receiver.respond = lambda _: OK
        await has_accepted(receiver, order_id, 4)
        assert [r.event["data"]["address"] for r in receiver.accepted if b"address" in r.body] == [
            ERASED
        ]
        await http.delete(path_of(endpoint))
