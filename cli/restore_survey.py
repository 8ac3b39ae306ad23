"""Finds what a restore of Postgres or Temporal left different, order by order.

The log, the customers' keys, Temporal and `order_view` are compared, one page of orders at a time;
only differences are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg
from temporalio.client import Client

from cli.history_comparison import order_pages, unlogged, unlogged_orders
from cli.restore_decisions import accepted_texts
from cli.restore_differences import Difference, Kind, history_differences
from eventlog import log
from eventlog.envelope import Envelope
from orders.rules.process import is_finished
from orders.upcasting import UnreadableEvent
from privacy.keys import PostgresKeys
from privacy.sealing import key_id_of
from workflows import idempotency
from workflows.comparison import Comparison, by_version, compare_order

COMPARED_AT_ONCE = 8


class OrderState(NamedTuple):
    """An order in all places, and what differs between them."""

    order_id: str
    comparison: Comparison
    has_ended: bool
    """By the log, where it has events that Temporal does not have."""
    differences: Sequence[Difference]


@dataclass
class Survey:
    """What was compared, and what was found."""

    orders: int = 0
    histories: int = 0
    """Of those, the orders of which Temporal has a history."""
    ended_with_missing_tail: int = 0
    differences: list[Difference] = field(default_factory=list)
    accepted: list[Difference] = field(default_factory=list)

    def orders_with(self, kind: Kind) -> int:
        return len({each.order_id for each in self.differences if each.kind is kind})

    def events_with(self, kind: Kind) -> int:
        return sum(each.events for each in self.differences if each.kind is kind)


async def survey(pool: asyncpg.Pool, client: Client, task_queue: str) -> AsyncIterator[Survey]:
    """Compares all orders; yields the survey as it grows, the last one is complete."""
    found = Survey()
    accepted = await accepted_texts(pool)
    found.differences += await foreign_positions(pool)
    async for states in order_states(pool, client, task_queue):
        for state in states:
            found.orders += 1
            found.histories += state.comparison.newest is not None
            new = [each for each in state.differences if each[::2] not in accepted]
            found.differences += new
            found.accepted += [each for each in state.differences if each not in new]
            newest = state.comparison.newest
            if newest is not None and newest.is_closed and state.comparison.missing:
                found.ended_with_missing_tail += 1
        yield found
    yield found


async def foreign_positions(pool: asyncpg.Pool) -> list[Difference]:
    """Whether the log was filled from a dump, so that readers would wait for its events."""
    is_foreign = await pool.fetchval(
        """
        SELECT EXISTS (SELECT FROM order_events
                       WHERE transaction_id >= pg_snapshot_xmax(pg_current_snapshot()))
            OR EXISTS (SELECT FROM projection_checkpoints
                       WHERE transaction_id >= pg_snapshot_xmax(pg_current_snapshot()))
        """
    )
    text = "the log has transaction ids of another server"
    return [Difference("", Kind.DUMP, text)] if is_foreign else []


async def order_states(
    pool: asyncpg.Pool, client: Client, task_queue: str
) -> AsyncIterator[list[OrderState]]:
    """The states of all orders that the log, `order_view` or Temporal has, page by page."""
    seen: set[str] = set()  # Of those that are not in the log. Few: a restore loses minutes.
    async for page in order_pages(pool, "order_events"):
        yield await _states(pool, client, page)
    async for page in order_pages(pool, "order_view.orders"):
        page = await unlogged(pool, page)
        seen.update(page)
        yield await _states(pool, client, page)
    async for page in unlogged_orders(pool, client, task_queue):
        page = [order_id for order_id in page if order_id not in seen]
        seen.update(page)
        yield [
            state
            for state in await _states(pool, client, page)
            if state.differences  # Otherwise it is an opening that was rejected, or on its way.
        ]


async def _states(pool: asyncpg.Pool, client: Client, order_ids: Sequence[str]) -> list[OrderState]:
    # The views first: events that are logged meanwhile are then only newer than they.
    rows = await pool.fetch(
        "SELECT order_id, version FROM order_view.orders WHERE order_id = ANY($1)", order_ids
    )
    views = {row["order_id"]: row["version"] for row in rows}
    turns = asyncio.Semaphore(COMPARED_AT_ONCE)

    async def state(order_id: str) -> OrderState:
        async with turns:
            return await _state(pool, client, order_id, views.get(order_id, 0))

    return await asyncio.gather(*map(state, order_ids))


async def _state(pool: asyncpg.Pool, client: Client, order_id: str, view: int) -> OrderState:
    async with pool.acquire() as connection:
        stream = await log.read_stream(connection, order_id)
    comparison = await compare_order(pool, client, order_id, by_version(stream))
    # Folding takes time, and fails where events in between are missing.
    may_run = comparison.ahead or comparison.newest is None
    has_ended = _has_ended(stream) if may_run else False
    keys = await _missing_keys(pool, [*stream, *comparison.missing])
    head = stream[-1].version if stream else 0
    differences = [
        *history_differences(order_id, comparison, has_ended),
        *(
            Difference(order_id, Kind.KEY, f"an address is sealed under the missing key {key}")
            for key in keys
        ),
    ]
    if view > head + len(comparison.missing):
        text = f"order_view has version {view}, and the log has version {head}"
        differences.append(Difference(order_id, Kind.VIEW, text))
    return OrderState(order_id, comparison, has_ended, differences)


def _has_ended(stream: Sequence[Envelope]) -> bool:
    try:
        order, _ = idempotency.from_stream(stream)
    except UnreadableEvent:
        return True  # It cannot be run.
    return order.version == 0 or is_finished(order)


async def _missing_keys(pool: asyncpg.Pool, stream: Sequence[Envelope]) -> list[str]:
    """The ids of keys that the addresses in events name, and that are neither there nor erased."""
    texts = [text for event in stream for text in event.data.values() if isinstance(text, str)]
    key_ids = {key for key in map(key_id_of, texts) if key is not None}
    if not key_ids:
        return []
    return sorted(key_ids - (await PostgresKeys(pool).find(key_ids)).keys())
