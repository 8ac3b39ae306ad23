"""How far a projection has come, as readers need to know it: to wait for it, and to say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from eventlog.postgres import UNAVAILABLE, listening
from readside import order_view

# The projector announces every commit, and once a second that it lives.
HEARTBEAT_SECONDS_MAX = 3.0
FALLBACK_SECONDS = 0.5


@dataclass(frozen=True)
class _Wait:
    order_id: str
    version: int
    reached: asyncio.Future[None]


class Freshness:
    """Hears the projector; all who wait share one query for each commit it announces."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        self._dsn = dsn
        self._waits: set[_Wait] = set()
        self._announced = asyncio.Event()
        self.position = 0
        """The place in the log up to which the projection was last heard to have come."""
        self._lag_ms = 0
        self._heard_at = time.monotonic()

    @property
    def silence_seconds(self) -> float:
        """How long the projector has not been heard."""
        return time.monotonic() - self._heard_at

    @property
    def lag_ms(self) -> int:
        """How late the projection's last commit was, in milliseconds; 0 once it has caught up.

        If the projector has fallen silent, at least as long as that.
        """
        silence = self.silence_seconds
        return self._lag_ms if silence < HEARTBEAT_SECONDS_MAX else round(silence * 1000)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Keeps up with the projector inside the `async with`."""
        checking = asyncio.create_task(self._check_waits())
        try:
            async with listening(self._dsn, order_view.NAME, self._heard):
                yield
        finally:
            checking.cancel()

    async def reach(self, order_id: str, version: int, seconds: float) -> bool:
        """Waits until the view of an order has come to a version; False if it has not in time."""
        wait = _Wait(order_id, version, asyncio.get_running_loop().create_future())
        self._waits.add(wait)
        self._announced.set()
        try:
            async with asyncio.timeout(seconds):
                await wait.reached
        except TimeoutError:
            return False
        finally:
            self._waits.discard(wait)
        return True

    def _heard(self, announcement: str) -> None:
        self.position, self._lag_ms = map(int, announcement.split())
        self._heard_at = time.monotonic()
        if self._waits:
            self._announced.set()

    async def _check_waits(self) -> None:
        while True:
            try:
                # Announcements are lost while the connection is: now and then, look regardless.
                async with asyncio.timeout(FALLBACK_SECONDS if self._waits else None):
                    await self._announced.wait()
            except TimeoutError:
                pass
            self._announced.clear()
            try:
                await self._check()
            except UNAVAILABLE:
                await asyncio.sleep(FALLBACK_SECONDS)

    async def _check(self) -> None:
        waits = list(self._waits)
        if not waits:
            return
        rows = await self._pool.fetch(
            "SELECT order_id, version FROM order_view WHERE order_id = ANY($1)",
            [wait.order_id for wait in waits],
        )
        versions = {row["order_id"]: row["version"] for row in rows}
        for wait in waits:
            if versions.get(wait.order_id, 0) >= wait.version and not wait.reached.done():
                wait.reached.set_result(None)
