"""Ends a process that would serve after a restore, until `orderly restore` has had its say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
from temporalio.client import Client

from background import in_background
from workflows.comparison import compare_order
from workflows.restore_marker import RENEWAL_SECONDS, read_markers, renew
from workflows.visibility import orders_query

log = logging.getLogger("orderly.restore")

CHECK_SECONDS = 10.0
RETRY_SECONDS = 1.0
FIRST_SECONDS_MAX = 10.0
CONFIRMATION_SECONDS = 0.5
START_RENEWAL_SECONDS = 5.0
NEWEST_ORDERS = 10


class RestoreNoticed(Exception):
    """The log and Temporal are not of the same time."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}: run `orderly restore status`, and start this again once it finds nothing."
        )


@asynccontextmanager
async def guarded(
    client: Client, pool: asyncpg.Pool, task_queue: str, stop: Callable[[], None], *, renews: bool
) -> AsyncIterator[None]:
    """Checks before the `async with` and inside it; calls `stop` when a restore is noticed.

    Raises RestoreNoticed. If Postgres or Temporal is unavailable, it checks when they are back.
    With `renews`, it renews the markers as well.
    """
    tried = asyncio.Event()
    check = _check_always(client, pool, task_queue, tried, renews)
    async with in_background(check) as checking:
        checking.add_done_callback(lambda task: None if task.cancelled() else stop())
        waiting = asyncio.create_task(tried.wait())
        await asyncio.wait(
            {checking, waiting}, timeout=FIRST_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
        )
        waiting.cancel()
        if checking.done():
            checking.result()
        yield


async def check_markers(client: Client, pool: asyncpg.Pool, task_queue: str) -> None:
    """Raises RestoreNoticed, and RPCError."""
    if (await read_markers(pool, client, task_queue)).difference is None:
        return
    await asyncio.sleep(CONFIRMATION_SECONDS)  # They may have been renewed in between.
    difference = (await read_markers(pool, client, task_queue)).difference
    if difference is not None:
        raise RestoreNoticed(difference)


async def check_newest_orders(client: Client, pool: asyncpg.Pool, task_queue: str) -> None:
    """Compares the orders that were active last, which a restore to any earlier time leaves behind.

    Raises RestoreNoticed, and RPCError.
    """
    for order_id in await _newest_orders(client, pool, task_queue):
        found = await compare_order(pool, client, order_id)
        is_running = found.newest is not None and not found.newest.is_closed
        if found.missing or found.lost:
            raise RestoreNoticed(f"The log lacks events of order {order_id} that Temporal has")
        if found.ahead and is_running:
            raise RestoreNoticed(f"Temporal lacks events of order {order_id} that the log has")


async def _newest_orders(client: Client, pool: asyncpg.Pool, task_queue: str) -> set[str]:
    """Ids of orders; those that started or ended a moment ago may be absent, by visibility."""
    rows = await pool.fetch(
        "SELECT order_id FROM order_events ORDER BY transaction_id DESC, position DESC LIMIT $1",
        NEWEST_ORDERS,
    )
    order_ids = {row["order_id"] for row in rows}
    for status in ("Running", "Completed"):
        query = orders_query(task_queue, f"ExecutionStatus = '{status}'")
        newest = client.list_workflows(query, limit=NEWEST_ORDERS)
        order_ids |= {run.id async for run in newest}
    return order_ids


async def _check_always(
    client: Client, pool: asyncpg.Pool, task_queue: str, tried: asyncio.Event, renews: bool
) -> None:
    has_compared, is_reported = False, False
    while True:
        try:
            await check_markers(client, pool, task_queue)
            if not has_compared:
                await check_newest_orders(client, pool, task_queue)
            if renews:  # Also at the start: then a restore to any time before it shows.
                age_seconds = RENEWAL_SECONDS if has_compared else START_RENEWAL_SECONDS
                await renew(pool, client, task_queue, age_seconds)
            has_compared, is_reported = True, False
        except RestoreNoticed:
            raise
        except Exception as error:  # Postgres or Temporal; nothing is known to be restored.
            if not is_reported:
                log.warning("whether anything was restored cannot be checked: %r", error)
            is_reported = True
        tried.set()
        await asyncio.sleep(CHECK_SECONDS if has_compared else RETRY_SECONDS)
