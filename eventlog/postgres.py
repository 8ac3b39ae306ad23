"""Connections to Postgres, configured the same in every process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Reader = Connection | asyncpg.Pool  # A single query may run on any connection of a pool.

CONNECT_SECONDS_MAX = 3
STATEMENT_SECONDS_MAX = 30
RECONNECT_SECONDS = 0.5


async def connect_pool(dsn: str, connections_max: int = 10) -> asyncpg.Pool:
    """A pool that opens connections on demand: a process starts without Postgres."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections_max,
        init=_set_codecs,
        reset=_skip_reset,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=STATEMENT_SECONDS_MAX,
    )


async def connect(
    dsn: str, statement_seconds_max: float | None = STATEMENT_SECONDS_MAX
) -> asyncpg.Connection:
    """A single connection, for notifications and session locks."""
    connection = await asyncpg.connect(
        dsn, timeout=CONNECT_SECONDS_MAX, command_timeout=statement_seconds_max
    )
    await _set_codecs(connection)
    return connection


@asynccontextmanager
async def listening(dsn: str, channel: str, handle: Callable[[str], None]) -> AsyncIterator[None]:
    """Calls `handle` with each notification's payload, and reconnects whenever it has to.

    Notifications during a reconnection are lost, so a listener must also poll.
    """
    listener = asyncio.create_task(_listen(dsn, channel, handle))
    try:
        yield
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener


async def _listen(dsn: str, channel: str, handle: Callable[[str], None]) -> None:
    while True:
        try:
            connection = await connect(dsn)
        except UNAVAILABLE:
            await asyncio.sleep(RECONNECT_SECONDS)
            continue
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _, lost=lost: lost.set())
        try:
            await connection.add_listener(channel, lambda *notification: handle(notification[3]))
            await lost.wait()
        except UNAVAILABLE:
            await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            connection.terminate()


async def _set_codecs(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def _skip_reset(_: Any) -> None:
    """Saves a round trip at each release: no query here changes the session."""


# What asyncpg raises if Postgres is unavailable, starting, stopping or too slow: a retry helps.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # The server has closed an idle connection.
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
)

# What asyncpg raises for tables that another release has created.
OTHER_TABLES = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
