"""DBOS under load: the same commands as orderly's, through the same routes."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from dev.bench.http_connection import ConnectionPool
from dev.bench.orderly_api import OrderlyClient
from dev.bench.servers import wait_until_responding
from dev.stack import Stack
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.supervisor import Program, SupervisedProcess

ROOT = Path(__file__).parents[2]


@dataclass
class DbosSystem:
    """Clients of some processes of DBOS, and how many of their commands were acknowledged."""

    clients: list[OrderlyClient]
    events: int = 0

    async def catch_up(self, commands: int) -> None:
        """Returns at once: what is acknowledged is done."""
        self.events += commands


@dataclass
class DbosServers:
    """Processes of DBOS that share a database."""

    dsn: str
    pids: dict[str, int] = field(default_factory=dict)
    pools: list[ConnectionPool] = field(default_factory=list)

    def system(self, processes: int, clients: int) -> DbosSystem:
        """This many clients of the first processes, which they share."""
        return DbosSystem([OrderlyClient(self.pools[n % processes]) for n in range(clients)])

    async def published(self) -> int:
        """The number of events in its log."""
        return await self._count("SELECT count(*)::int FROM order_events")

    async def projected(self) -> int:
        """The number of events in its orders."""
        return await self._count("SELECT coalesce(sum(version), 0)::int FROM orders")

    async def _count(self, query: str) -> int:
        connection = await asyncpg.connect(self.dsn)
        try:
            count: int = await connection.fetchval(query)
            return count
        finally:
            await connection.close()


@asynccontextmanager
async def dbos_servers(stack: Stack, processes: int) -> AsyncIterator[DbosServers]:
    """Starts DBOS, with a database of its own on the Postgres of a stack."""
    lock_fd = os.open(os.devnull, os.O_RDONLY)
    async with AsyncExitStack() as held:
        held.callback(os.close, lock_fd)
        servers = DbosServers(await _create_database(stack.postgres_dsn))
        for number, port in enumerate(free_ports({f"dbos {n}": 0 for n in range(processes)}), 1):
            child = SupervisedProcess(_program(stack, servers.dsn, number, port), lock_fd)
            held.push_async_callback(child.stop)
            await child.start()
            url = f"http://{LOOPBACK}:{port}"
            await wait_until_responding(child, url)  # One by one: the first creates the tables.
            servers.pids[child.name] = child.pid
            servers.pools.append(ConnectionPool(url))
            held.callback(servers.pools[-1].close)
        yield servers


async def _create_database(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE DATABASE dbos")
    await connection.close()
    return dsn.replace("/postgres?", "/dbos?")


def _program(stack: Stack, dsn: str, number: int, port: int) -> Program:
    url = dsn.replace("postgresql://", "postgresql+psycopg://")
    return Program(
        f"dbos {number}",
        [sys.executable, "-m", "dev.bench.dbos_baseline", str(port)],
        stack.logs / f"dbos {number}.log",
        {
            **os.environ,
            "DBOS_SYSTEM_DATABASE_URL": url,
            "APP_DATABASE_URL": url,
            "PYTHONPATH": str(ROOT),
        },
    )
