"""The running check for orphaned orders: compares open orders with Temporal's workflows.

Each worker process offers to run it, and one of them does at a time. It asks visibility one page at
a time, at most once a second, and confirms each candidate by Temporal's own description of the
workflow: visibility does not know yet what was opened a moment ago.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from temporalio.client import Client

from background import in_background
from readside.order_view import orphans as shown
from workflows import orphans

log = logging.getLogger("orderly.worker")

PAUSE_SECONDS = 1.0
RECHECKED_MAX = 50


@asynccontextmanager
async def running(client: Client, pool: asyncpg.Pool, task_queue: str) -> AsyncIterator[None]:
    """Checks inside the `async with`, again and again."""
    async with in_background(_check_always(client, pool, task_queue)):
        yield


async def search(client: Client, pool: asyncpg.Pool, task_queue: str, holder: str) -> None:
    """One search over all open orders; does nothing while another process searches."""
    if not await shown.acquire_lease(pool, holder):
        return
    await _recheck(client, pool)
    async for page in _candidates(client, pool, task_queue):
        for order_id in await orphans.without_workflow(client, page):
            await _check(client, pool, order_id)
        await asyncio.sleep(PAUSE_SECONDS)
        await _recheck(client, pool)
        if not await shown.acquire_lease(pool, holder):
            return
    await shown.complete_search(pool)


async def _check_always(client: Client, pool: asyncpg.Pool, task_queue: str) -> None:
    holder = secrets.token_hex(8)
    while True:
        try:
            await search(client, pool, task_queue, holder)
        except Exception as error:  # Temporal or Postgres; the orders themselves go on.
            log.warning("the search for orphaned orders is interrupted: %r", error)
        await asyncio.sleep(PAUSE_SECONDS)


async def _candidates(
    client: Client, pool: asyncpg.Pool, task_queue: str
) -> AsyncIterator[Sequence[str]]:
    """Ids of orders that may be orphaned: the log need not know a terminated one."""
    async for ended in orphans.ended_from_outside(client, task_queue):
        yield ended
    async for open_ in shown.open_orders(pool):
        yield open_


async def _recheck(client: Client, pool: asyncpg.Pool) -> None:
    """Clears known orphans that were resumed."""
    for order_id in await shown.known(pool, RECHECKED_MAX):
        await _check(client, pool, order_id)


async def _check(client: Client, pool: asyncpg.Pool, order_id: str) -> None:
    orphan = await orphans.find_orphan(client, pool, order_id)
    if orphan is not None:
        await shown.record(pool, order_id, orphan.reason)
    else:
        await shown.clear(pool, order_id)
