"""How many orders have each status. All are counted, so it is done at most once in a while."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg
from pydantic import BaseModel

from orders.lifecycle import Status

COUNT_SECONDS = 60.0


class StatusCount(BaseModel):
    """How many orders have a status."""

    status: str
    orders: int


class StatusCounts:
    """The counts of one process, which all its readers share."""

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._counting = asyncio.Lock()
        self._begun_at = -math.inf
        self._known: tuple[datetime, list[StatusCount]] | None = None

    async def read(self) -> tuple[datetime, list[StatusCount]]:
        """When they were counted, and the number of each status, in the order of their course."""
        async with self._counting:
            if self._known is None or self._clock() - self._begun_at >= COUNT_SECONDS:
                begun_at, now = self._clock(), datetime.now(UTC)
                self._known = now, await self._count()
                self._begun_at = begun_at
            return self._known

    async def _count(self) -> list[StatusCount]:
        # An index begins with the status: the orders themselves are not read.
        rows = await self._pool.fetch(
            "SELECT status, count(*) AS orders FROM order_view.orders GROUP BY status"
        )
        counts = {row["status"]: row["orders"] for row in rows}
        statuses = [status.value for status in Status if status is not Status.NEW]
        return [StatusCount(status=one, orders=counts.get(one, 0)) for one in statuses]
