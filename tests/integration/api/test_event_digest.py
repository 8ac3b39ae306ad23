"""The digest of the feed: of the same events as the feed, and of what the caller may see."""

from __future__ import annotations

import hashlib
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog import digests
from eventlog.cursor import encode_cursor
from eventlog.epochs import raise_epoch
from eventlog.log import Checkpoint
from settings import Settings
from tests.support.api_requests import opened, problem, shown
from tests.support.command_builders import new_order_id
from tests.support.event_feed import page, read_on
from tests.support.event_log import append, note
from tests.support.personal_data import new_customer
from tests.support.servers import Running, run_api

PATH = "/v1/events/digest"


async def digest(http: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    response = await http.get(PATH, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = response.json()
    return found


def digest_of(events: list[dict[str, Any]]) -> tuple[int, str]:
    """The count and the digest, from their definition in the docs."""
    hashes = [hashlib.sha256(event["id"].encode()).digest()[:8] for event in events]
    total = sum(int.from_bytes(one) for one in hashes) % 2**64
    return len(events), f"{total:016x}"


@pytest.mark.parametrize("filter", [{}, {"type": ["order-opened", "note-added"]}, {"order_id": ""}])
async def test_digest_is_of_what_the_feed_has(
    http: httpx.AsyncClient, filter: dict[str, Any]
) -> None:
    path = await opened(http, place=True)
    await shown(http, path, 3)
    order_id = path.rpartition("/")[2]
    if "order_id" in filter:
        filter = {"order_id": order_id}
    items, end = await read_on(http, **filter)
    whole = await digest(http, until=end, **filter)
    assert (whole["count"], whole["digest"]) == digest_of(items)
    assert whole["until"] == end
    begun = await digest(http, until=end, **filter, **{"from": f"{order_id}@2"})
    later, _ = await read_on(http, (await page(http, limit=1, **{"from": f"{order_id}@1"}))["next"])
    wanted = {event["id"] for event in later} & {event["id"] for event in items}
    assert (begun["count"], begun["digest"]) == digest_of([e for e in items if e["id"] in wanted])


async def test_slices_lead_to_the_orders(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    await shown(http, path, 3)
    order_id = path.rpartition("/")[2]
    items, end = await read_on(http)
    name, found = "", await digest(http, until=end)
    while found["orders"] is None:
        assert sum(one["count"] for one in found["slices"]) == found["count"]
        name = hashlib.sha256(order_id.encode()).hexdigest()[: len(name) + 1]
        [within] = [one for one in found["slices"] if one["slice"] == name]
        found = await digest(http, until=end, slice=name)
        assert (found["count"], found["digest"]) == (within["count"], within["digest"])
    [order] = [one for one in found["orders"] if one["order_id"] == order_id]
    of_order = digest_of([event for event in items if event["subject"] == order_id])
    assert (order["count"], order["digest"]) == of_order


async def test_digest_of_a_customer(http: httpx.AsyncClient) -> None:
    customer = new_customer()
    paths = [await opened(http, customer_id=customer) for _ in range(2)]
    for path in paths:
        await shown(http, path, 3)
    found = await digest(http, customer_id=customer)
    items, _ = await read_on(http, customer_id=customer)
    assert {event["source"] for event in items} == {
        path.replace("/v1/orders", "/orders") for path in paths
    }
    assert (found["count"], found["digest"]) == digest_of(items)
    assert len(found["orders"]) == 2


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"slice": "g"}, "slice"),
        ({"slice": "0" * 7}, "slice"),
        ({"type": "order-teleported"}, "type.0"),
        ({"from": "x"}, "from"),
        ({"cursor": encode_cursor(Checkpoint(1, 1)), "from": "ord_x@1"}, "from"),
        ({"limit": "1"}, "limit"),
    ],
)
async def test_invalid_query_is_named(
    http: httpx.AsyncClient, query: dict[str, str], parameter: str
) -> None:
    rejected = problem(await http.get(PATH, params=query), 422, "malformed-request")
    assert rejected["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize("name", ["until", "cursor"])
async def test_invalid_cursor_is_named(http: httpx.AsyncClient, name: str) -> None:
    rejected = problem(await http.get(PATH, params={name: "x"}), 400, "invalid-cursor")
    assert rejected["errors"][0]["parameter"] == name


async def test_digest_after_a_restore_names_the_cursor_to_continue_with(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    await append(pool, new_order_id(), note(1))
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        before = await digest(http)
        lost = encode_cursor(Checkpoint(*_after(await pool.fetchrow(_LAST))))
        async with pool.acquire() as connection:
            await raise_epoch(connection, "a test")
        rejected = await http.get(PATH, params={"until": lost})
        detail = problem(rejected, 400, "invalid-cursor")["detail"]
        after = await digest(http)
        assert after["until"] in detail
        assert after["until"] != before["until"]
        assert (after["count"], after["digest"]) == (before["count"], before["digest"])
        assert (await digest(http, until=before["until"]))["count"] == 1, "it survived"


_LAST = "SELECT transaction_id, position FROM order_events"


def _after(row: asyncpg.Record | None) -> tuple[int, int]:
    assert row is not None
    return row["transaction_id"], row["position"] + 1


async def test_limits_are_problems_with_a_remedy(
    http: httpx.AsyncClient, orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await opened(http)
    await shown(http, path, 3)
    monkeypatch.setattr(digests, "UNKEPT_EVENTS_MAX", 1)
    response = await http.get(PATH)
    problem(response, 503, "digests-behind")
    assert response.headers["Retry-After"] == "10"
    monkeypatch.setattr(digests, "ORDERS_MAX", 0)
    response = await http.get(PATH, params={"order_id": path.rpartition("/")[2]})
    assert "smaller slice" in problem(response, 422, "digest-too-large")["detail"]
