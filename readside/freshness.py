"""How far projections have come, as their projectors announce it to readers.

A process claims no more than it has heard: between two announcements, a projection may lack each
event that has been published since the first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right, insort
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import asyncpg

from eventlog import announcements
from eventlog.log import SLICE
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE, listening
from readside.engine.announcements import CHANNEL, Announcement, parse
from readside.engine.checkpoints import ALL_SLICES
from readside.engine.generations import LIVE
from readside.engine.monitoring import read_metrics

logger = logging.getLogger("orderly.api")

# A projector announces every commit, and repeats it once a second.
HEARTBEAT_SECONDS_MAX = 3.0
FALLBACK_SECONDS = 0.5
# Far more than are published between two announcements.
PUBLICATIONS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last announcement for one slice of a projection, or the least recent of several.

    Times are by the monotonic clock, in seconds.
    """

    position: int
    lacks_since: float
    """Since when the slice has lacked an event, as announced; infinity: it lacked none."""
    at: float
    """When the announcement arrived."""

    @classmethod
    def least_recent(cls, heartbeats: Iterable[Heartbeat]) -> Heartbeat:
        """The worst value of each field."""
        all_ = list(heartbeats)
        return cls(
            position=min(h.position for h in all_),
            lacks_since=min(h.lacks_since for h in all_),
            at=min(h.at for h in all_),
        )


class Progress(NamedTuple):
    """How far a projection has come."""

    position: int
    """The position in the log up to which it has projected all events."""
    lag_ms: int
    """For how long it may have lacked an event that is published; 0: it lacks none."""
    silence_seconds: float
    """The age of its oldest heartbeat."""


@dataclass(frozen=True)
class _Wait:
    projection: str
    order_id: str
    version: int
    reached: asyncio.Future[None]


class Freshness:
    """The freshness of projections; all waits share one query for each announcement."""

    def __init__(self, pool: asyncpg.Pool, dsn: str, projections: Sequence[str] = ()) -> None:
        """Of `projections`, the progress is known before the first announcement."""
        self._pool = pool
        self._known = projections
        self._dsn = dsn
        self._waits: set[_Wait] = set()
        self._announced = asyncio.Event()
        self._slices: dict[str, dict[int, Heartbeat]] = {}
        self._projections: dict[str, Heartbeat] = {}
        """Each projection's least recent values, once all of its slices are known."""
        self._published: list[float] = []
        """When the last events were published, the newest at the end."""

    def progress(self, projection: str) -> Progress | None:
        """How far a projection has come; None as long as this process does not know."""
        heartbeat = self._projections.get(projection)
        if heartbeat is None:
            return None
        now = time.monotonic()
        silence = now - heartbeat.at
        unseen = bisect_right(self._published, heartbeat.at)
        if silence > HEARTBEAT_SECONDS_MAX:  # Notifications of events may be lost as well.
            lacks_since = min(heartbeat.lacks_since, heartbeat.at)
        elif unseen < len(self._published):
            lacks_since = min(heartbeat.lacks_since, self._published[unseen])
        else:
            lacks_since = heartbeat.lacks_since
        lag_ms = 0 if lacks_since == inf else round((now - lacks_since) * 1000)
        return Progress(heartbeat.position, lag_ms, silence)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Follows the announcements inside the `async with`."""
        with suppress(*UNAVAILABLE, *OTHER_TABLES):
            for one in await read_metrics(self._pool, self._known):
                lag_ms = round(one.lag_seconds * 1000)
                self._remember(Announcement(one.projection, ALL_SLICES, one.position, lag_ms))
        checking = asyncio.create_task(self._check_waits())
        try:
            async with (
                listening(self._dsn, announcements.CHANNEL, self._on_publication),
                listening(self._dsn, CHANNEL, self._on_announcement),
            ):
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

    def _on_publication(self, payload: str) -> None:
        # The projector may have announced that it has the event before this was announced.
        insort(self._published, time.monotonic() - announcements.parse_age_seconds(payload))
        if len(self._published) > PUBLICATIONS_MAX:
            del self._published[: PUBLICATIONS_MAX // 2]

    def _on_announcement(self, payload: str) -> None:
        self._remember(parse(payload))
        if self._waits:
            self._announced.set()

    def _remember(self, announcement: Announcement) -> None:
        projection, slices, position, lag_ms = announcement
        now = time.monotonic()
        heartbeat = Heartbeat(position, now - lag_ms / 1000 if lag_ms else inf, now)
        known = self._slices.setdefault(projection, {})
        known.update(dict.fromkeys(slices, heartbeat))
        if len(known) == len(ALL_SLICES):
            self._projections[projection] = Heartbeat.least_recent(known.values())

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
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                # Also before `orderly migrate`: all later waits need this task.
                logger.warning("no read can wait for a version, retrying: %r", error)
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
