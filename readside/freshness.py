"""How far projections have come, as their projectors announce it to readers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
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


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last announcement for one slice of a projection, or the least recent of several."""

    position: int
    lag_ms: int
    at: float
    """By the monotonic clock, in seconds."""

    @classmethod
    def least_recent(cls, heartbeats: Iterable[Heartbeat]) -> Heartbeat:
        """The worst value of each field."""
        all_ = list(heartbeats)
        return cls(
            position=min(h.position for h in all_),
            lag_ms=max(h.lag_ms for h in all_),
            at=min(h.at for h in all_),
        )


@dataclass(frozen=True)
class _Wait:
    projection: str
    order_id: str
    version: int
    reached: asyncio.Future[None]


class Freshness:
    """The freshness of projections; all waits share one query for each announcement."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        self._dsn = dsn
        self._waits: set[_Wait] = set()
        self._announced = asyncio.Event()
        self._started = Heartbeat(0, 0, time.monotonic())
        self._slices: dict[str, dict[int, Heartbeat]] = {}
        self._projections: dict[str, Heartbeat] = {}
        """Each projection's least recent values, over its slices."""

    def position(self, projection: str) -> int:
        """The position in the log up to which a projection has projected all events."""
        return self._least_recent(projection).position

    def heartbeat_age_seconds(self, projection: str) -> float:
        """The age of the oldest heartbeat among a projection's slices."""
        return time.monotonic() - self._least_recent(projection).at

    def lag_ms(self, projection: str) -> int:
        """How late a projection's last commits were, in milliseconds; 0 once it has caught up.

        Without recent heartbeats, at least their age.
        """
        lag_ms, age = self._least_recent(projection).lag_ms, self.heartbeat_age_seconds(projection)
        return lag_ms if age < HEARTBEAT_SECONDS_MAX else max(lag_ms, round(age * 1000))

    def _least_recent(self, projection: str) -> Heartbeat:
        return self._projections.get(projection, self._started)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Follows the announcements inside the `async with`."""
        checking = asyncio.create_task(self._check_waits())
        try:
            async with listening(self._dsn, CHANNEL, self._on_announcement):
                yield
        finally:
            checking.cancel()

    async def wait_for(self, projection: str, order_id: str, version: int, seconds: float) -> bool:
        """Waits until a projection contains a version of an order; False after `seconds`."""
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

    def _on_announcement(self, payload: str) -> None:
        projection, slices, position, lag_ms = parse(payload)
        heartbeat = Heartbeat(position, lag_ms, time.monotonic())
        known = self._slices.setdefault(projection, dict.fromkeys(ALL_SLICES, self._started))
        known.update(dict.fromkeys(slices, heartbeat))
        self._projections[projection] = Heartbeat.least_recent(known.values())
        if self._waits:
            self._announced.set()

    async def _check_waits(self) -> None:
        while True:
            try:
                # Announcements during a reconnection are lost, so waits are also checked regularly.
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
            SELECT number FROM unnest($1::text[], $2::text[], $3::int[])
                WITH ORDINALITY AS wait (projection, order_id, version, number)
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
            reached = waits[row["number"] - 1].reached
            if not reached.done():
                reached.set_result(None)
