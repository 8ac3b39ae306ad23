"""The public feed has every event, in order and as CloudEvents, from any cursor on."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog import feed, log
from eventlog.cursor import encode_cursor
from eventlog.envelope import Envelope
from eventlog.log import Checkpoint
from orders.events import BY_TAG
from settings import Settings
from tests.support.api_requests import opened, problem, shown
from tests.support.command_builders import new_order_id
from tests.support.event_feed import order_versions, page, read_on, streaming
from tests.support.event_log import ABOUT, AT, append, append_unsettled, note, settled
from tests.support.personal_data import ADA, ERASED, erase, new_customer, whole
from tests.support.projections import OPENED
from tests.support.servers import Running, run_api
from tests.support.shop import MILK, Shop


async def test_event_is_a_cloudevent_with_its_cause(
    http: httpx.AsyncClient,
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    traceparent = f"00-{trace}-00f067aa0ba902b7-01"
    path = await opened(http)
    order_id = path.rpartition("/")[2]
    await http.post(
        f"{path}/commands/cancel-order",
        json={"reason": "changed my mind"},
        headers={"traceparent": traceparent},
    )
    await shown(http, path, 4)
    history = (await http.get(f"{path}/history")).json()["items"]

    items, _ = await read_on(http, order_id=order_id)
    assert order_versions(items) == [(order_id, version) for version in (1, 2, 3, 4)]
    assert items[-1] == {
        "specversion": "1.0",
        "id": f"{order_id}@4",
        "source": f"/orders/{order_id}",
        "type": "orderly.order.order-cancelled.v1",
        "subject": order_id,
        "time": history[3]["occurred_at"],
        "datacontenttype": "application/json",
        "dataschema": f"{http.base_url}/v1/schemas/orderly.order.order-cancelled.v1",
        "partitionkey": order_id,
        "sequence": "0000000004",
        "correlationid": trace,
        "causationid": history[3]["cause_id"],
        "traceparent": traceparent,
        "actor": "anonymous",
        "data": {"reason": "changed my mind"},
    }
    assert [item["data"] for item in items] == [item["data"] for item in history]


async def test_feed_resumes_at_a_cursor_after_restarts(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    settings, orders = Settings(postgres_dsn=dsn), [new_order_id() for _ in range(7)]
    for order_id in orders[:4]:
        await append(pool, order_id, note(1), note(2), note(3))
    async with run_api(temporal.client, settings) as http:
        first = await page(http, limit=5)
        assert len(first["items"]) == 5
        rest, end = await read_on(http, first["next"], limit=5)
        assert await read_on(http, end) == ([], end)
    for order_id in orders[4:]:
        await append(pool, order_id, note(1), note(2), note(3))
    async with run_api(temporal.client, settings) as http:
        new, _ = await read_on(http, end, limit=2)
        again, _ = await read_on(http, first["next"])
    seen = order_versions(first["items"] + rest + new)
    assert seen == [(order_id, version) for order_id in orders for version in (1, 2, 3)]
    assert order_versions(again) == order_versions(rest + new), (
        "reading again returns the same events"
    )
    assert [e["id"] for e in again] == [e["id"] for e in rest + new]


async def test_empty_log_has_a_cursor(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        empty = await page(http)
        assert empty["items"] == []
        order_id = new_order_id()
        await append(pool, order_id, note(1))
        assert order_versions((await page(http, empty["next"]))["items"]) == [(order_id, 1)]


async def test_late_commit_is_not_skipped(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    early, late = new_order_id(), new_order_id()
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        async with pool.acquire() as slow:
            holding = slow.transaction()
            await holding.start()
            await log.append(slow, early, [note(1)])  # Has its position, but is not committed.
            await append_unsettled(pool, late, note(1))
            items, after = await read_on(http)
            assert items == [], "later events must wait for the earlier one"
            await holding.commit()
        await settled(pool)
        items, _ = await read_on(http, after)
    assert order_versions(items) == [(early, 1), (late, 1)]


async def test_feed_is_filtered_by_types_and_order(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    order_id = path.rpartition("/")[2]
    await http.post(f"{path}/commands/add-note", json={"text": "ring twice"})
    await shown(http, path, 4)
    assert (await read_on(http, order_id=new_order_id()))[0] == []
    items, _ = await read_on(http, order_id=order_id, type=["note-added", "order-opened"])
    assert order_versions(items) == [(order_id, 1), (order_id, 4)]
    items, _ = await read_on(http, type="order-opened", limit=3)
    assert {item["type"] for item in items} == {"orderly.order.order-opened.v1"}
    assert (order_id, 1) in order_versions(items)
    everything, _ = await read_on(http)  # Since then, more may have come.
    opened_ = [e for e in everything if e["type"] == "orderly.order.order-opened.v1"]
    assert items == opened_[: len(items)]


async def test_rare_events_are_found_in_bounded_scans(
    pool: asyncpg.Pool,
    dsn: str,
    temporal: WorkflowEnvironment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "SCANNED_ROWS_MAX", 10)
    common, rare = new_order_id(), new_order_id()
    await append(pool, common, *(note(version) for version in range(1, 26)))
    await append(pool, rare, Envelope.of(OPENED, 1, AT, ABOUT))
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        pages = [await page(http, type="order-opened")]
        for _ in range(3):
            pages.append(await page(http, pages[-1]["next"], type="order-opened"))
    assert [order_versions(found["items"]) for found in pages] == [[], [], [(rare, 1)], []]
    assert len({found["next"] for found in pages}) == 3, "the cursor repeats only at the end"


async def test_personal_data_is_readable_in_the_feed_until_erased(
    http: httpx.AsyncClient,
) -> None:
    customer = new_customer()
    path = await opened(http, customer_id=customer, shipping_address=ADA)
    order_id = path.rpartition("/")[2]
    await shown(http, path, 4)

    async def addresses() -> list[Any]:
        items, _ = await read_on(http, order_id=order_id, type="shipping-address-set")
        return [item["data"]["address"] for item in items]

    assert await addresses() == [whole(ADA)]
    await erase(http, customer)
    assert await addresses() == [ERASED]
    response = await http.get("/v1/events")
    assert response.headers["Cache-Control"] == "no-store"


async def test_special_characters_break_neither_page_nor_stream(
    http: httpx.AsyncClient,
) -> None:
    text = 'one\u2028two\u2029three\nfour\tfive \\n größer, 注文 "sealed.1.k.AAAA" data: id: '
    path = await opened(http, shipping_address=ADA)
    order_id = path.rpartition("/")[2]
    noted = await http.post(f"{path}/commands/add-note", json={"text": text})
    assert noted.status_code == 200, noted.text
    await shown(http, path, 5)
    items, _ = await read_on(http, order_id=order_id)
    assert [item["data"].get("text") for item in items[3:]] == [None, text]
    query = {"order_id": order_id, "type": "note-added"}
    async with http.stream(
        "GET", "/v1/events", params=query, headers={"Accept": "text/event-stream"}
    ) as stream:
        received = b""
        async for chunk in stream.aiter_bytes():
            received += chunk
            if b"\n: \nid" in received:
                break
    (data,) = (line for line in received.split(b"\n") if line.startswith(b"data: "))
    assert json.loads(data.removeprefix(b"data: ")) == items[-1]


def forged(checkpoint: Checkpoint) -> str:
    text = encode_cursor(checkpoint)
    return ("B" if text[0] == "A" else "A") + text[1:]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "no cursor",
        "größer",
        "AAAA",
        "A" * 28,
        "A" * 32,
        "A" * 10_000,
        urlsafe_b64encode(json.dumps([1, 2]).encode()).decode(),
        encode_cursor(Checkpoint(1, 1)) + "AAAA",
        encode_cursor(Checkpoint(1, 1))[:-1],
        "!" + encode_cursor(Checkpoint(1, 1)),
        forged(Checkpoint(1, 1)),
        encode_cursor(Checkpoint(-1, 1)),
        encode_cursor(Checkpoint(2**62, 1)),
    ],
)
async def test_tampered_cursor_is_rejected(http: httpx.AsyncClient, bad: str) -> None:
    rejected = problem(await http.get("/v1/events", params={"cursor": bad}), 400, "invalid-cursor")
    assert rejected["errors"][0]["parameter"] == "cursor"


async def test_cursor_of_another_log_is_rejected_with_a_remedy(
    http: httpx.AsyncClient, orderly: Running
) -> None:
    """A log restored from a dump has other transaction ids: a reader would wait forever."""
    ahead = await orderly.pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())")
    of_another_log = encode_cursor(Checkpoint(ahead + 99, 1))
    rejected = await http.get("/v1/events", params={"cursor": of_another_log})
    assert "start without it" in problem(rejected, 400, "invalid-cursor")["detail"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"type": "order-teleported"}, "type"),
        ({"type": "orderly.order.item-added.v1"}, "type"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"order_id": ""}, "order_id"),
        ({"from": ""}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-03-02"}, "from"),
        ({"from": "2026-03-02T09:30:00"}, "from"),
        ({"from": "ord_x@"}, "from"),
        ({"from": "@4"}, "from"),
        ({"from": "ord x\x00@4"}, "from"),
        ({"from": "ord_x@4000000000"}, "from"),
        ({"from": "ord_x@4", "cursor": encode_cursor(Checkpoint(1, 1))}, "from"),
    ],
)
async def test_invalid_filter_is_named(
    http: httpx.AsyncClient, query: dict[str, Any], parameter: str
) -> None:
    rejected = problem(await http.get("/v1/events", params=query), 422, "malformed-request")
    assert rejected["errors"][0]["parameter"].startswith(parameter)


async def test_feed_begins_at_an_instant_or_with_an_event(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    first, second = new_order_id(), new_order_id()
    await append(pool, first, note(1), note(2))
    between = (await pool.fetchval("SELECT clock_timestamp()")).isoformat()
    await append(pool, second, note(1), note(2))
    everything = [(first, 1), (first, 2), (second, 1), (second, 2)]
    begin = {
        f"{first}@1": 0,
        f"{first}@2": 1,
        f"{second}@2": 3,
        between: 2,
        "1970-01-01T00:00:00Z": 0,
        "2999-01-01T00:00:00Z": 4,
    }
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        for start, index in begin.items():
            found = await page(http, **{"from": start})
            assert order_versions(found["items"]) == everything[index:], start
            assert order_versions((await page(http, found["next"]))["items"]) == []
        of_second = await page(http, order_id=second, **{"from": f"{first}@2"})
        assert order_versions(of_second["items"]) == everything[2:]
        async with streaming(http, **{"from": f"{second}@1"}) as stream:
            assert order_versions(await stream.take(2)) == everything[2:]
        # A browser reconnects with its first URL and the last event id.
        async with streaming(http, stream.last_id, **{"from": f"{first}@1"}) as resumed:
            await append(pool, second, note(3))
            assert order_versions([await resumed.next()]) == [(second, 3)]
        unknown = await http.get("/v1/events", params={"from": f"{second}@4"})
        problem(unknown, 404, "unknown-event")


async def test_every_event_conforms_to_its_schema(shop: Shop) -> None:
    sale = await shop.place_order(MILK, shipping_address=ADA)
    await sale.ship()
    await sale.deliver()
    await sale.return_pieces("milk", 1)
    await sale.wait_until_settled()
    items, _ = await read_on(shop.http, order_id=sale.order_id)
    assert len(items) > 20
    for item in items:
        response = await shop.http.get(item["dataschema"])
        assert response.headers["content-type"] == "application/schema+json"
        schema = response.json()
        required, allowed = schema.get("required", []), schema["properties"]
        assert {*required} <= {*item["data"]} <= {*allowed}, item["type"]
    history = (await shop.http.get(f"/v1/orders/{sale.order_id}/history")).json()["items"]
    assert [item["data"] for item in items] == [item["data"] for item in history]


async def test_schemas_are_listed(http: httpx.AsyncClient) -> None:
    names = (await http.get("/v1/schemas")).json()["items"]
    types = {f"orderly.order.{tag}.v{event.schema_version}" for tag, event in BY_TAG.items()}
    assert types <= {*names}
    for name in names:
        assert (await http.get(f"/v1/schemas/{name}")).status_code == 200
    problem(await http.get("/v1/schemas/orderly.order.item-added.v9"), 404, "unknown-schema")
