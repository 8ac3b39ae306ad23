"""Folds orders from the log, and compares them with their views and with Temporal's history."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from temporalio.client import Client

from cli.history_comparison import PAGE_SIZE, order_pages, sentences, unlogged, unlogged_orders
from cli.state_comparison import OtherVersion, state_differences
from eventlog import digest_blocks, log
from eventlog.journal import find_damaged
from eventlog.log import SLICE, LoggedEvent
from readside.engine.checkpoints import order_progress
from readside.engine.generations import LIVE
from readside.engine.projection import ProjectionError
from readside.order_view import projection as order_view
from readside.order_view import queries as order_lists
from readside.order_view.row import OrderRow, order_row
from readside.order_view.view import OrderView, fold_view
from workflows.comparison import by_version, compare_order
from workflows.orphans import Orphan, find_orphan

VIEW = order_view.PROJECTION.name


@dataclass
class Report:
    """What was compared, and all differences, each a sentence that begins with its subject."""

    orders: int = 0
    histories: int = 0
    """Of those, the orders whose history Temporal still has."""
    parked: int = 0
    """Of those, the parked orders: their views are compared up to the version that they have."""
    states: int = 0
    """Of those, the running orders whose state was compared with their events."""
    other_versions: int = 0
    """Of those, the ones whose state was not, because they run in another version."""
    differences: list[str] = field(default_factory=list)


async def verify(
    pool: asyncpg.Pool,
    client: Client | None,
    sample: int | None = None,
    task_queue: str | None = None,
    *,
    states: bool = False,
) -> AsyncIterator[Report]:
    """Compares all orders of the log, or a random `sample` of them, with their views.

    With a client, compares the log with Temporal's histories, too, as far as they are retained, and
    finds orphaned orders; with a task queue, also orders that the log does not have. Without a
    `sample`, computes the digests of events again, and reads the journal of orders that were never
    opened. With `states`, compares the state that each running order decides on with its events.
    Yields the report as it grows; the last one is complete.
    """
    report = Report()
    pages = order_pages(pool, "order_events") if sample is None else _sampled(pool, sample)
    async for order_ids in pages:
        for order_id in order_ids:
            found = await _differences(pool, client, order_id, report, states=states)
            report.differences += [f"order {order_id}: {difference}" for difference in found]
            report.orders += 1
        yield report
    only_viewed = await pool.fetch(
        f"SELECT order_id FROM {VIEW}.orders AS o WHERE $1::int IS NULL AND NOT EXISTS"
        " (SELECT FROM order_events AS e WHERE e.order_id = o.order_id)",
        sample,
    )
    report.differences += [
        f"order {row['order_id']}: the log has no event of it" for row in only_viewed
    ]
    if sample is None:
        async for order_ids in order_pages(pool, "ineffective_intents"):
            for order_id in await unlogged(pool, order_ids):  # Their openings were rejected.
                found = await _journal_differences(pool, order_id)
                report.differences += [f"order {order_id}: {difference}" for difference in found]
            yield report
        report.differences += [str(wrong) async for wrong in digest_blocks.find_wrong(pool)]
        yield report
    if client is not None and task_queue is not None and sample is None:
        async for order_ids in unlogged_orders(pool, client, task_queue):
            for order_id in order_ids:
                found = await _unlogged_differences(pool, client, order_id, report)
                report.differences += [f"order {order_id}: {difference}" for difference in found]
            yield report
    yield report


async def _differences(
    pool: asyncpg.Pool, client: Client | None, order_id: str, report: Report, *, states: bool
) -> list[str]:
    # The view first: events that are logged meanwhile are then only newer than it.
    row = await order_lists.find(pool, order_id)
    stream = await log.read_order(pool, order_id, after=0)
    return [
        *_view_differences(order_id, row, stream),
        *await _missed_events(pool, order_id, row, report),
        *await _journal_differences(pool, order_id),
        *(await _history_differences(pool, client, order_id, stream, report) if client else []),
        *(await _orphan_differences(client, pool, order_id) if client else []),
        *(await _state_differences(client, pool, order_id, report) if client and states else []),
    ]


async def _sampled(pool: asyncpg.Pool, sample: int) -> AsyncIterator[list[str]]:
    rows = await pool.fetch(
        "SELECT order_id FROM order_events WHERE version = 1 ORDER BY random() LIMIT $1", sample
    )
    for first in range(0, len(rows), PAGE_SIZE):
        yield [row["order_id"] for row in rows[first : first + PAGE_SIZE]]


def _view_differences(
    order_id: str, row: OrderRow | None, stream: Sequence[LoggedEvent]
) -> Iterator[str]:
    """Fields in which the view differs from its events, up to the version of the view."""
    if row is None:
        return
    known = [event for event in stream if event.version <= row.version]
    if len(known) < row.version:
        yield f"its view has seen {row.version} events, and the log has {len(known)} of them"
        return
    try:
        folded = _fields(order_row(fold_view(OrderView(order_id), known)))
    except ProjectionError as error:
        yield f"its events cannot be folded: {error.reason}"
        return
    shown = _fields(row)
    for key in folded.keys() | shown.keys():
        by_events, by_view = folded.get(key), shown.get(key)
        if by_events != by_view:
            view, events = json.dumps(by_view), json.dumps(by_events)
            yield f"{key} is {view} in its view, {events} by its events"


def _fields(row: OrderRow) -> dict[str, Any]:
    """All fields of a row, including those of its document."""
    return {
        **json.loads(row.document),
        "allowed_commands": row.allowed_commands,
        "shipping_address": row.shipping_address,
        "billing_address": row.billing_address,
    }


async def _missed_events(
    pool: asyncpg.Pool, order_id: str, row: OrderRow | None, report: Report
) -> list[str]:
    """Whether the projection has passed events that are not in the view."""
    version = row.version if row else 0
    passed = await pool.fetchval(
        f"""
        SELECT max(order_events.version) FROM order_events JOIN projection_checkpoints AS c
          ON c.projection = $3 AND c.generation = $4 AND c.slice = {SLICE}
         AND (order_events.transaction_id, order_events.position)
             <= (c.transaction_id, c.position)
        WHERE order_id = $1 AND order_events.version > $2
        """,
        order_id,
        version,
        VIEW,
        LIVE,
    )
    if passed is None:
        return []
    progress = await order_progress(pool, VIEW, order_id)
    if progress.parked_by is not None:
        report.parked += 1
        return []
    if progress.version > version:
        return []  # Both the view and the checkpoint have advanced meanwhile.
    return [f"its view is at version {version}, and the projection has passed version {passed}"]


async def _journal_differences(pool: asyncpg.Pool, order_id: str) -> list[str]:
    return [
        f"what it decided on at version {version} cannot be read: the journal is damaged"
        for version in await find_damaged(pool, order_id)
    ]


async def _history_differences(
    pool: asyncpg.Pool,
    client: Client,
    order_id: str,
    stream: Sequence[LoggedEvent],
    report: Report,
) -> list[str]:
    found = await compare_order(pool, client, order_id, by_version(stream))
    report.histories += found.newest is not None
    return sentences(found)


async def _state_differences(
    client: Client, pool: asyncpg.Pool, order_id: str, report: Report
) -> list[str]:
    try:
        found = await state_differences(client, pool, order_id)
    except OtherVersion:
        report.other_versions += 1
        return []
    report.states += found is not None
    return found or []


async def _orphan_differences(client: Client, pool: asyncpg.Pool, order_id: str) -> list[str]:
    orphan = await find_orphan(client, pool, order_id)
    return [_orphaned(orphan)] if orphan is not None else []


async def _unlogged_differences(
    pool: asyncpg.Pool, client: Client, order_id: str, report: Report
) -> list[str]:
    """Those of an order of which the log has no event."""
    orphan = await find_orphan(client, pool, order_id)
    orphaned = [f"{_orphaned(orphan)}, of which the log has nothing"] if orphan else []
    found = await _history_differences(pool, client, order_id, [], report)
    return [*found, *orphaned]


def _orphaned(orphan: Orphan) -> str:
    return f"{orphan.reason}; `orderly resume {orphan.order_id}` continues it"
