"""Connections to Postgres, configured the same in every process."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from types import MappingProxyType
from typing import Any

import asyncpg

from background import in_background
from eventlog.query_spans import trace_queries

log = logging.getLogger("orderly.postgres")

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Reader = Connection | asyncpg.Pool  # A single query may run on any connection of a pool.

CONNECT_SECONDS_MAX = 3
STATEMENT_SECONDS_MAX = 30
RECONNECT_SECONDS = 0.5

# A listener that hears nothing proves this often that its connection is alive.
PROBE_SECONDS = 4.0
PROBE_SECONDS_MAX = 2.0

# Either side drops a connection whose other side has vanished without a word, after some ten
# seconds instead of the usual two hours. The server's half, in its own terms:
_SERVER_SETTINGS = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
    # A process that is frozen within a transaction holds back the watermark.
    "idle_in_transaction_session_timeout": "10s",
    # A page of a long log is as cheap as one of a short log. But prepared statements are planned
    # for any page, also of millions of rows, and would start processes and a compiler each time.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
# The client's half, where the system has the option.
_SOCKET_OPTIONS = {
    "TCP_KEEPIDLE": 5,
    "TCP_KEEPINTVL": 2,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 10_000,
}


async def connect_pool(
    dsn: str,
    connections_max: int = 10,
    statement_seconds_max: float = STATEMENT_SECONDS_MAX,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> asyncpg.Pool:
    """A pool that opens connections on demand: a process starts without Postgres.

    `settings` are Postgres' own, for each session.
    """
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=connections_max,
        init=_prepare,
        reset=_skip_reset,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=statement_seconds_max,
        server_settings={**_SERVER_SETTINGS, **settings},
    )


async def connect(
    dsn: str,
    statement_seconds_max: float | None = STATEMENT_SECONDS_MAX,
    idle_seconds_max: int = 0,
) -> asyncpg.Connection:
    """A single connection, for notifications and session locks.

    The server closes it after `idle_seconds_max` without a statement; 0 is never.
    """
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS_MAX,
        command_timeout=statement_seconds_max,
        server_settings={**_SERVER_SETTINGS, "idle_session_timeout": f"{idle_seconds_max}s"},
    )
    await _prepare(connection)
    return connection


@asynccontextmanager
async def listening(
    dsn: str,
    channel: str,
    handle: Callable[[str], None],
    on_connect: Callable[[], None] = lambda: None,
) -> AsyncIterator[None]:
    """Calls `handle` with each notification's payload, and reconnects whenever it has to.

    Notifications during a reconnection are lost, so a listener must also poll. It hears all from
    the call of `on_connect` on, until it is disconnected again.
    """
    async with in_background(_listen(dsn, channel, handle, on_connect)):
        yield


async def _listen(
    dsn: str, channel: str, handle: Callable[[str], None], on_connect: Callable[[], None]
) -> None:
    while True:
        try:
            connection = await connect(dsn)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("not listening to %s, retrying: %r", channel, error)
            await asyncio.sleep(RECONNECT_SECONDS)
            continue
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _, lost=lost: lost.set())
        try:
            await connection.add_listener(channel, lambda *notification: handle(notification[3]))
            on_connect()
            while not lost.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), PROBE_SECONDS)
                await connection.fetchval("SELECT 1", timeout=PROBE_SECONDS_MAX)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("not listening to %s any more, reconnecting: %r", channel, error)
            await asyncio.sleep(RECONNECT_SECONDS)
        finally:
            connection.terminate()


async def _prepare(connection: Any) -> None:
    transport_socket = connection._transport.get_extra_info("socket")  # asyncpg has no other way.
    if transport_socket.family in (socket.AF_INET, socket.AF_INET6):
        transport_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _SOCKET_OPTIONS.items():
            if hasattr(socket, name):
                transport_socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )
    trace_queries(connection)


async def _skip_reset(_: Any) -> None:
    """Saves a round trip at each release: no query here changes the session."""


# What asyncpg raises if Postgres is unavailable, read-only, starting, stopping or too slow: a retry
# helps.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # The server has closed an idle connection.
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidAuthorizationSpecificationError,  # A password that is changed at one side only.
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # A demoted primary, or a provider's full disk.
)

# The advisory locks that are held in this database. Those of one key have objsubid 1, those of two
# have 2, and the first one in the upper half of `key`.
HELD_LOCKS = """(
    SELECT pid, mode, objsubid, classid::bigint << 32 | objid::bigint AS key FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS held"""

# What asyncpg raises for tables that another release has created.
OTHER_TABLES = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)
