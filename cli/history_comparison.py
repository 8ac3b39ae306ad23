"""Compares orders in the log with Temporal's histories of them, and says what differs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import groupby

import asyncpg
from temporalio.client import Client

from workflows.comparison import Comparison
from workflows.orphans import all_orders

PAGE_SIZE = 100


async def order_pages(pool: asyncpg.Pool, table: str) -> AsyncIterator[list[str]]:
    """The ids of all orders in a table, page by page."""
    last = ""
    while rows := await pool.fetch(
        f"SELECT DISTINCT order_id FROM {table} WHERE order_id > $1 ORDER BY order_id LIMIT $2",
        last,
        PAGE_SIZE,
    ):
        yield [row["order_id"] for row in rows]
        last = rows[-1]["order_id"]


async def unlogged(pool: asyncpg.Pool, order_ids: Sequence[str]) -> list[str]:
    """Those of the orders of which the log has no event."""
    rows = await pool.fetch(
        "SELECT order_id FROM order_events WHERE version = 1 AND order_id = ANY($1)", order_ids
    )
    logged = {row["order_id"] for row in rows}
    return [order_id for order_id in order_ids if order_id not in logged]


async def unlogged_orders(
    pool: asyncpg.Pool, client: Client, task_queue: str
) -> AsyncIterator[list[str]]:
    """Ids of orders that have a workflow in Temporal and no event in the log, page by page.

    Among them are workflows of openings that were rejected.
    """
    async for order_ids in all_orders(client, task_queue):
        if found := await unlogged(pool, order_ids):
            yield sorted(set(found))


def sentences(found: Comparison) -> list[str]:
    """What differs between the log and Temporal, each as a sentence without its full stop."""
    differences = [
        f"version {event.version} is {event.type} in Temporal's history, "
        "and the log has another event, or has it with other data"
        for event in found.forked
    ]
    if found.missing:
        versions = ranges([event.version for event in found.missing])
        differences.append(
            f"the log lacks version {versions}, which was published by Temporal's history;"
            " `orderly restore apply` publishes it again"
        )
    if found.lost:
        differences.append(
            f"the log lacks version {ranges(found.lost)}, and Temporal no longer has it"
        )
    if found.ahead:
        differences.append(
            f"its workflow lacks the last events of the log, {found.ahead} in number, as after a"
            " restore of Temporal; `orderly restore apply` continues it from the log"
        )
    return differences


def ranges(versions: Sequence[int]) -> str:
    """Sorted numbers as in "3, 5 to 8"."""
    groups = groupby(enumerate(versions), key=lambda pair: pair[1] - pair[0])
    ranges = [[version for _, version in group] for _, group in groups]
    return ", ".join(f"{r[0]} to {r[-1]}" if len(r) > 1 else f"{r[0]}" for r in ranges)
