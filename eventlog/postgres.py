"""Connections to Postgres, set up alike in every process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Reader = Connection | asyncpg.Pool  # A single query may also run on whatever connection is free.

CONNECT_SECONDS_MAX = 3
STATEMENT_SECONDS_MAX = 30
RECONNECT_SECONDS = 0.5


async def connect_pool(dsn: str, connections_max: int = 10) -> asyncpg.Pool:
    """A pool that opens connections when they are needed: starting does not wait for Postgres."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections_max,
        init=_prepare,
        reset=_nothing_to_reset,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=STATEMENT_SECONDS_MAX,
    )


async def connect(
    dsn: str, statement_seconds_max: float | None = STATEMENT_SECONDS_MAX
) -> asyncpg.Connection:
    """One connection of its own, for those who listen for notifications or hold locks."""
    connection = await asyncpg.connect(
        dsn, timeout=CONNECT_SECONDS_MAX, command_timeout=statement_seconds_max
    )
    await _prepare(connection)
    return connection


@asynccontextmanager
async def listening(dsn: str, channel: str, heard: Callable[[str], None]) -> AsyncIterator[None]:
    """Calls `heard` with each notification's payload; reconnects for ever, if it has to.

    What is sent while the connection is away is lost: a listener must look for itself, too.
    """
    listener = asyncio.create_task(_listen(dsn, channel, heard))
    try:
        yield
    finally:
        listener.cancel()
        with suppress(asyncio.CancelledError):
            await listener


async def _listen(dsn: str, channel: str, heard: Callable[[str], None]) -> None:
    while True:
        try:
            connection = await connect(dsn)
        except UNAVAILABLE:
            await asyncio.sleep(RECONNECT_SECONDS)
            continue
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _, lost=lost: lost.set())
        try:
            await connection.add_listener(channel, lambda *notification: heard(notification[3]))
            await lost.wait()
        except UNAVAILABLE:
            await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            connection.terminate()


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def _nothing_to_reset(_: Any) -> None:
    """Spares a round trip at each release: nobody here changes a connection's session."""


# What asyncpg raises when Postgres is away, starting, stopping or too slow; worth another try.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # The server has ended the connection while it was idle.
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
)

# What it says of tables that another version of the software has made.
OTHER_TABLES = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
