"""A page of the feed has every matching event, and costs the same wherever they are in the log."""

from __future__ import annotations

import asyncpg
import pytest

from eventlog import feed, log
from eventlog.feed import EventFilter, Page, PublishedEvent
from eventlog.log import START
from tests.support.command_builders import new_order_id
from tests.support.event_log import append, append_unsettled, note, opened, settled

FILTERS = {
    "order": EventFilter(order_id="a-1"),
    "customer": EventFilter(customer_id="a"),
    "order of a customer": EventFilter(order_id="a-1", customer_id="a"),
    "order of another customer": EventFilter(order_id="a-1", customer_id="b"),
    "types of a customer": EventFilter(types=("order-opened",), customer_id="a"),
    "unknown customer": EventFilter(customer_id="c"),
}


async def read_all(pool: asyncpg.Pool, filter: EventFilter, limit: int) -> list[PublishedEvent]:
    """All events of a filter, page by page."""
    events: list[PublishedEvent] = []
    after = START
    while True:
        page = await feed.read(pool, after, filter, limit)
        assert len(page.events) <= limit
        assert not page.unsettled
        events += page.events
        if page.end == after:
            return events
        after = page.end


@pytest.mark.parametrize("orders_max", [1, 500], ids=["scanning", "by order"])
async def test_filters_find_what_a_reader_of_everything_finds(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, orders_max: int
) -> None:
    monkeypatch.setattr(feed, "READ_ORDERS_MAX", orders_max)
    monkeypatch.setattr(feed, "SCANNED_ROWS_MAX", 10)
    customers = {"a-1": "a", "b-1": "b", "a-2": "a", "b-2": "b", "a-3": "a"}
    for order_id, customer in customers.items():
        await append(pool, order_id, opened(customer))
    for version in range(2, 8):
        for order_id in customers:
            await append(pool, order_id, note(version))
    everything = await read_all(pool, EventFilter(), 100)
    assert len(everything) == 5 * 7

    def matches(event: PublishedEvent, filter: EventFilter) -> bool:
        return (
            filter.order_id in (None, event.order_id)
            and filter.customer_id in (None, customers[event.order_id])
            and (filter.types is None or event.envelope.type in filter.types)
        )

    for name, filter in FILTERS.items():
        expected = [event for event in everything if matches(event, filter)]
        assert await read_all(pool, filter, 4) == expected, name


@pytest.mark.parametrize("filter", [EventFilter(order_id="rare"), EventFilter(customer_id="r")])
async def test_events_of_an_order_are_found_without_a_scan(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, filter: EventFilter
) -> None:
    monkeypatch.setattr(feed, "SCANNED_ROWS_MAX", 10)
    for _ in range(3):
        await append(pool, new_order_id(), *(note(version) for version in range(1, 26)))
    await append(pool, "rare", opened("r"))
    await append(pool, new_order_id(), note(1))
    page = await feed.read(pool, START, filter, 10)
    assert [event.order_id for event in page.events] == ["rare"]
    assert await feed.read(pool, page.end, filter, 10) == Page([], page.end, False)
    assert page.end == (await read_all(pool, EventFilter(), 100))[-1].checkpoint


async def test_late_commit_of_a_customer_is_not_skipped(pool: asyncpg.Pool) -> None:
    filter = EventFilter(customer_id="a")
    async with pool.acquire() as slow:
        holding = slow.transaction()
        await holding.start()
        await log.append(slow, "early", [opened("a")])  # Has its position, but is not committed.
        await append_unsettled(pool, "late", opened("a"))
        page = await feed.read(pool, START, filter, 10)
        assert page == Page([], START, True)
        await holding.commit()
    await settled(pool)
    page = await feed.read(pool, page.end, filter, 10)
    assert [event.order_id for event in page.events] == ["early", "late"]
    assert not page.unsettled
