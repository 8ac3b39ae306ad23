"""How far projections have come, as readers need to know it: to wait for it, and to say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from eventlog.log import SLICE
from eventlog.postgres import UNAVAILABLE, listening
from readside.engine.announcements import CHANNEL, parse
from readside.engine.checkpoints import ALL_SLICES
from readside.engine.generations import LIVE

# A projector announces every commit, and once a second that it is up to date.
HEARTBEAT_SECONDS_MAX = 3.0
FALLBACK_SECONDS = 0.5


@dataclass(frozen=True)
class Heartbeat:
    """What was last heard of one slice of a projection."""

    position: int
    lag_ms: int
    at: float


@dataclass(frozen=True)
class _Wait:
    projection: str
    order_id: str
    version: int
    reached: asyncio.Future[None]


class Freshness:
    """Hears the projectors; all who wait share one query for each commit they announce."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        self._dsn = dsn
        self._waits: set[_Wait] = set()
        self._announced = asyncio.Event()
        self._heard: dict[str, dict[int, Heartbeat]] = {}
        self._nothing = Heartbeat(0, 0, time.monotonic())

    def position(self, projection: str) -> int:
        """The place in the log up to which a projection was last heard to have come."""
        return min(heard.position for heard in self._slices(projection))

    def silence_seconds(self, projection: str) -> float:
        """How long the slice that was heard of longest ago has not been heard of."""
        return time.monotonic() - min(heard.at for heard in self._slices(projection))

    def lag_ms(self, projection: str) -> int:
        """How late a projection's last commits were, in milliseconds; 0 once it has caught up.

        If a projector has fallen silent, at least as long as that.
        """
        late = max(heard.lag_ms for heard in self._slices(projection))
        silence = self.silence_seconds(projection)
        return late if silence < HEARTBEAT_SECONDS_MAX else max(late, round(silence * 1000))

    def _slices(self, projection: str) -> list[Heartbeat]:
        heard = self._heard.get(projection, {})
        return [heard.get(slice, self._nothing) for slice in ALL_SLICES]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Keeps up with the projectors inside the `async with`."""
        checking = asyncio.create_task(self._check_waits())
        try:
            async with listening(self._dsn, CHANNEL, self._hear):
                yield
        finally:
            checking.cancel()

    async def wait_for(self, projection: str, order_id: str, version: int, seconds: float) -> bool:
        """Waits until a projection has digested a version of an order; False if not in time."""
        reached = asyncio.get_running_loop().create_future()
        wait = _Wait(projection, order_id, version, reached)
        self._waits.add(wait)
        self._announced.set()
        try:
            async with asyncio.timeout(seconds):
                await reached
        except TimeoutError:
            return False
        finally:
            self._waits.discard(wait)
        return True

    def _hear(self, announcement: str) -> None:
        projection, slices, position, lag_ms = parse(announcement)
        heard = Heartbeat(position, lag_ms, time.monotonic())
        self._heard.setdefault(projection, {}).update((slice, heard) for slice in slices)
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
            f"""
            SELECT place FROM unnest($1::text[], $2::text[], $3::int[])
                WITH ORDINALITY AS wait (projection, order_id, version, place)
            JOIN order_events USING (order_id, version)
            JOIN projection_checkpoints AS c
              ON c.projection = wait.projection AND c.generation = $4 AND c.slice = {SLICE}
             AND (c.transaction_id, c.position)
                 >= (order_events.transaction_id, order_events.position)
            WHERE NOT EXISTS (
                SELECT FROM parked_orders AS p WHERE p.projection = wait.projection
                AND p.generation = $4 AND p.order_id = wait.order_id AND p.version <= wait.version)
            """,
            [wait.projection for wait in waits],
            [wait.order_id for wait in waits],
            [wait.version for wait in waits],
            LIVE,
        )
        for row in rows:
            reached = waits[row["place"] - 1].reached
            if not reached.done():
                reached.set_result(None)
