"""Folds orders again, from the log and from Temporal's own history, and says what differs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from temporalio.client import Client

from eventlog import log
from eventlog.log import SLICE, LoggedEvent
from readside.engine.checkpoints import order_progress
from readside.engine.generations import LIVE
from readside.engine.projection import ProjectionError
from readside.order_view import projection as order_view
from readside.order_view import queries as order_lists
from readside.order_view.row import OrderRow, order_row
from readside.order_view.view import OrderView, fold_view
from workflows.history import events_for_log, runs_of

ORDERS_AT_ONCE = 100
VIEW = order_view.PROJECTION.name


@dataclass
class Report:
    """What was compared, and every difference found, each a sentence that names its order."""

    orders: int = 0
    histories: int = 0
    """Of those, the orders that Temporal still knew."""
    parked: int = 0
    """Of those, the orders whose view waits: it is compared as far as it has come."""
    differences: list[str] = field(default_factory=list)


async def verify(
    pool: asyncpg.Pool, client: Client | None, sample: int | None = None
) -> AsyncIterator[Report]:
    """Compares all orders of the log, or `sample` of them picked at random, with their views.

    With a client, also the log with Temporal's history, while that lasts. Yields the report as it
    grows; the last one is whole.
    """
    report = Report()
    async for order_ids in _orders(pool, sample):
        for order_id in order_ids:
            # The view first: what the log has gained since is then only more than it.
            row = await order_lists.find(pool, order_id)
            stream = await log.read_order(pool, order_id, after=0)
            report.differences += [
                f"order {order_id}: {what}"
                for what in [
                    *_view_differences(order_id, row, stream),
                    *await _left_behind(pool, order_id, row, report),
                    *(
                        await _history_differences(client, order_id, stream, report)
                        if client
                        else []
                    ),
                ]
            ]
            report.orders += 1
        yield report
    strays = await pool.fetch(
        f"SELECT order_id FROM {VIEW}.orders AS o WHERE $1::int IS NULL AND NOT EXISTS"
        " (SELECT FROM order_events AS e WHERE e.order_id = o.order_id)",
        sample,
    )
    report.differences += [f"order {row['order_id']}: the log has no event of it" for row in strays]
    yield report


async def _orders(pool: asyncpg.Pool, sample: int | None) -> AsyncIterator[list[str]]:
    if sample is not None:
        rows = await pool.fetch(
            "SELECT order_id FROM order_events WHERE version = 1 ORDER BY random() LIMIT $1", sample
        )
        for first in range(0, len(rows), ORDERS_AT_ONCE):
            yield [row["order_id"] for row in rows[first : first + ORDERS_AT_ONCE]]
        return
    last = ""
    while rows := await pool.fetch(
        "SELECT DISTINCT order_id FROM order_events WHERE order_id > $1 ORDER BY order_id LIMIT $2",
        last,
        ORDERS_AT_ONCE,
    ):
        yield [row["order_id"] for row in rows]
        last = rows[-1]["order_id"]


def _view_differences(
    order_id: str, row: OrderRow | None, stream: Sequence[LoggedEvent]
) -> Iterator[str]:
    """What the view says otherwise than its events do, up to the view's own version."""
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
            told = f"{json.dumps(by_view)} in its view, {json.dumps(by_events)} by its events"
            yield f"{key} is {told}"


def _fields(row: OrderRow) -> dict[str, Any]:
    """All that a row says of its order, the fields of its document included."""
    return {
        **json.loads(row.document),
        **row.phase._asdict(),
        "shipping_address": row.shipping_address,
        "billing_address": row.billing_address,
    }


async def _left_behind(
    pool: asyncpg.Pool, order_id: str, row: OrderRow | None, report: Report
) -> list[str]:
    """Whether the projection has passed over events that its view has not seen."""
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
    come = await order_progress(pool, VIEW, order_id)
    if come.parked_by is not None:
        report.parked += 1
        return []
    if come.version > version:
        return []  # It has gone on since we looked, as the checkpoint has.
    return [f"its view is at version {version}, and the projection has passed version {passed}"]


async def _history_differences(
    client: Client, order_id: str, stream: Sequence[LoggedEvent], report: Report
) -> list[str]:
    """What Temporal's history says that the order decided, and the log has otherwise."""
    logged = {event.version: (event.type, event.data) for event in stream}
    head = max(logged, default=0)
    differences: list[str] = []
    seen = 0
    async for history in runs_of(client, order_id):
        seen += 1
        for envelope in await events_for_log(history, client.data_converter):
            if envelope.version > head:
                continue  # On its way.
            if logged.get(envelope.version) != (envelope.type, envelope.data):
                has = logged.get(envelope.version, ("nothing", {}))[0]
                differences.append(
                    f"version {envelope.version} is {envelope.type} in Temporal's history, "
                    f"and the log has {has}, or has it with other data"
                )
    report.histories += bool(seen)
    return differences
