"""Notifications by which processes announce the events that they have appended.

They are sent after the commit, in transactions of their own: from NOTIFY until its commit is on the
disk, Postgres holds a lock for the whole cluster, so appends that notify would commit one after the
other. A notification that is lost loses no event, because every listener also polls.
"""

from __future__ import annotations

import asyncio
import logging
import time

import asyncpg

from eventlog.postgres import UNAVAILABLE, Reader

CHANNEL = "order_events"
# Under load, a process announces all appends of this time together.
INTERVAL_SECONDS = 0.005
# Until then the listeners have polled.
STATEMENT_SECONDS_MAX = 2.0

log = logging.getLogger("orderly.announcements")


async def announce(connection: Reader, age_ms: int = 0) -> None:
    """Wakes the listeners; the newest of the events was appended `age_ms` ago."""
    # There is nothing to make durable: after a crash of Postgres no listener is connected.
    await connection.fetchrow(
        "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)",
        CHANNEL,
        f"{age_ms}",
        timeout=STATEMENT_SECONDS_MAX,
    )


def parse_age_seconds(payload: str) -> float:
    """For how long the announced events have been in the log, by the payload."""
    return int(payload) / 1000


class Announcer:
    """Announces what this process appends, without delaying an append or making it fail.

    The first append after a quiet moment is announced at once, those that follow together.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._appended_at: float | None = None
        """When the newest event that is not announced was appended, by the monotonic clock."""
        self._announcing: asyncio.Task[None] | None = None

    def announce_soon(self) -> None:
        """Announces what has just been committed."""
        self._appended_at = time.monotonic()
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.create_task(self._announce_all())

    async def _announce_all(self) -> None:
        while self._appended_at is not None:
            age_ms = round((time.monotonic() - self._appended_at) * 1000)
            self._appended_at = None
            try:
                await announce(self._pool, age_ms)
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.warning("appended events are not announced: %r", error)
            await asyncio.sleep(INTERVAL_SECONDS)
