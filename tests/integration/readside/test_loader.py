"""The order loader batches concurrent loads, and never returns an older state."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from eventlog.postgres import connect_pool
from orders.events import NoteAdded
from readside.order_view.loader import OrderLoader
from tests.support.command_builders import new_order_id
from tests.support.projections import OPENED, project_all, publish


async def test_concurrent_loads_return_their_own_order_or_none(
    pool: asyncpg.Pool, dsn: str
) -> None:
    orders = [new_order_id() for _ in range(20)]
    for order_id in orders[:-1]:
        await publish(pool, order_id, 1, OPENED)
    await project_all(dsn)
    loader = OrderLoader(pool)
    rows = await asyncio.gather(*(loader.load(order_id) for order_id in [*orders, *orders]))
    assert [row.order_id for row in rows if row] == [*orders[:-1], *orders[:-1]]
    assert rows[19] is rows[39] is None


async def test_load_is_never_older_than_its_call(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await project_all(dsn)
    loader, done = OrderLoader(pool), asyncio.Event()

    async def load_repeatedly() -> None:
        while not done.is_set():
            await asyncio.gather(*(loader.load(order_id) for _ in range(5)))

    loading = [asyncio.create_task(load_repeatedly()) for _ in range(3)]
    for version in range(2, 30):
        await publish(pool, order_id, version, NoteAdded(note_id=f"{version}", text="hi"))
        await project_all(dsn)
        row = await loader.load(order_id)
        assert row is not None
        assert row.version == version
    done.set()
    await asyncio.gather(*loading)


async def test_error_reaches_all_loads_of_a_batch_and_the_next_batch_succeeds(
    pool: asyncpg.Pool, dsn: str
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await project_all(dsn)
    async with await connect_pool(dsn) as own:
        loader = OrderLoader(own)
        await pool.execute("ALTER TABLE order_view.orders RENAME TO hidden")
        failed = await asyncio.gather(
            *(loader.load(order_id) for _ in range(3)), return_exceptions=True
        )
        assert [type(one) for one in failed] == [asyncpg.UndefinedTableError] * 3
        await pool.execute("ALTER TABLE order_view.hidden RENAME TO orders")
        assert await loader.load(order_id) is not None


async def test_cancelled_load_does_not_cancel_others(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await project_all(dsn)
    loader = OrderLoader(pool)
    first, second = (asyncio.create_task(loader.load(order_id)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second is not None
