"""The time by Postgres, which is the same for all deliverers and right if a machine's is wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from eventlog.postgres import Connection

TOLERANCE = timedelta(seconds=1)  # So that answers that are read late do not set the clock back.


class PostgresClock:
    """Postgres' time, carried on by the monotonic clock of this process.

    With the machine's own clock, one that jumps would put off attempts for as long as it jumped,
    and sign webhooks with times that their receivers reject.
    """

    def __init__(self) -> None:
        self._set(datetime.now(UTC))

    async def synchronise(self, connection: Connection) -> None:
        """Sets the clock, if it is off by more than the tolerance."""
        read = await connection.fetchval("SELECT clock_timestamp()")
        if abs(read - self.now()) > TOLERANCE:
            self._set(read)

    def now(self) -> datetime:
        return self._read + timedelta(seconds=time.monotonic() - self._read_at)

    def _set(self, now: datetime) -> None:
        self._read, self._read_at = now, time.monotonic()
