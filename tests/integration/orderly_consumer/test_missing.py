"""Digests prove that nothing is missing, or lead to what is in a few requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog import digests
from orderly_consumer import Digest, Feed, HeldIds, find_missing
from settings import Settings
from tests.support.event_log import ABOUT, AT, append, note, opened, settled
from tests.support.servers import run_api

ORDERS, VERSIONS = 4_000, 3


class Counting(httpx.AsyncHTTPTransport):
    """Counts requests."""

    requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return await super().handle_async_request(request)


@pytest.fixture
async def feed(pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment) -> AsyncIterator[Feed]:
    """A feed of ORDERS orders."""
    await pool.execute(
        """
        INSERT INTO order_events
            (order_id, version, type, schema_version, occurred_at, data, metadata)
        SELECT 'ord_' || number, version, 'note-added', 1, $3, '{"note_id": "1", "text": "hi"}', $4
        FROM generate_series(1, $2::int) AS version, generate_series(1, $1::int) AS number
        """,
        ORDERS,
        VERSIONS,
        AT,
        ABOUT.model_dump(exclude_none=True),
    )
    await settled(pool)
    async with (
        run_api(temporal.client, Settings(postgres_dsn=dsn)) as http,
        Feed(str(http.base_url), transport=Counting()) as feed,
    ):
        yield feed


def requests_of(feed: Feed) -> int:
    assert isinstance(feed.transport, Counting)
    return feed.transport.requests


ALL = {f"ord_{n}@{version}" for n in range(1, ORDERS + 1) for version in range(1, VERSIONS + 1)}


async def test_complete_consumer_needs_one_request(feed: Feed) -> None:
    missing = await find_missing(feed, HeldIds(ALL))
    assert (missing.events, missing.extra) == ([], [])
    assert requests_of(feed) == 1
    proof = await feed.digest(missing.until)
    assert proof.whole == Digest.of(*ALL)


async def test_missing_events_are_found_in_a_few_requests(feed: Feed, pool: asyncpg.Pool) -> None:
    lacking = {"ord_17@2", "ord_1234@1", "ord_1234@2", "ord_1234@3", "ord_3999@3"}
    extra = {"ord_5@4", "ord_new@1"}
    missing = await find_missing(feed, HeldIds(ALL - lacking | extra))
    assert {event.id for event in missing.events} == lacking
    assert sorted(missing.extra) == sorted(extra)
    orders = len({"ord_17", "ord_1234", "ord_3999", "ord_5", "ord_new"})
    # The whole; for each order a slice of one and of two digits, and its events.
    assert requests_of(feed) <= 1 + 3 * orders
    of_one = [event.id for event in missing.events if event.subject == "ord_1234"]
    assert of_one == ["ord_1234@1", "ord_1234@2", "ord_1234@3"]


async def test_missing_events_are_found_in_slices_of_many_orders(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "ORDERS_MAX", 4)  # Slices of two digits have about 16.
    lacking, extra = {"ord_17@2", "ord_1234@1"}, {"ord_new@1"}
    missing = await find_missing(feed, HeldIds(ALL - lacking | extra))
    assert {event.id for event in missing.events} == lacking
    assert missing.extra == sorted(extra)


async def test_customer_with_many_orders_can_be_compared(
    feed: Feed, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "ORDERS_MAX", 4)
    held = {f"ada_{number}@1" for number in range(20)}
    for event_id in held:
        await append(pool, event_id.partition("@")[0], opened("ada"))
    feed.customer_id = "ada"
    proof = await feed.digest()
    assert proof.whole == Digest.of(*held)
    missing = await find_missing(feed, HeldIds(held))
    assert (missing.events, missing.extra, missing.until) == ([], [], proof.until)
    lacking = {"ada_7@1"}
    missing = await find_missing(feed, HeldIds(held - lacking))
    assert {event.id for event in missing.events} == lacking


async def test_events_after_the_cursor_are_not_missing(feed: Feed, pool: asyncpg.Pool) -> None:
    before = await feed.digest()
    await append(pool, "ord_7", note(VERSIONS + 1))
    missing = await find_missing(feed, HeldIds(ALL - {"ord_7@1"}), before.until)
    assert [event.id for event in missing.events] == ["ord_7@1"]
    assert (await find_missing(feed, HeldIds(ALL))).events[0].id == f"ord_7@{VERSIONS + 1}"


async def test_consumer_that_holds_nothing_lacks_everything(feed: Feed) -> None:
    feed.types = ("order-opened",)
    assert (await find_missing(feed, HeldIds([]))).events == []
    feed.types, feed.order_id = ("note-added",), "ord_9"
    missing = await find_missing(feed, HeldIds([]))
    assert [event.id for event in missing.events] == ["ord_9@1", "ord_9@2", "ord_9@3"]
