"""Live event streams: one listener wakes all of them, and each client reads at its own speed.

A stream keeps only its position in the log: it reads the next page after it has sent the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.limits.concurrency import ConcurrencyLimiter, FixedLimit
from api.problems.errors import TooManyStreams
from eventlog import announcements, feed
from eventlog.feed import EventFilter, Page
from eventlog.log import Checkpoint
from eventlog.postgres import listening

STREAMS_MAX = 100
PAGE_EVENTS_MAX = 50
# Also the interval of polling, in case a notification was lost.
HEARTBEAT_SECONDS = 5.0
# The interval of polling while an older transaction holds events back: its end is not notified.
UNSETTLED_SECONDS = 0.01


class Streams:
    """The open streams of this process: counts them, wakes them and ends them."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        self._dsn = dsn
        self.limiter = ConcurrencyLimiter(FixedLimit(STREAMS_MAX), TooManyStreams)
        self._ended = False
        self._poll_timer: asyncio.TimerHandle | None = None
        self._renew()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Receives notifications of new events inside the `async with`."""
        # Those before it was connected are lost.
        async with listening(
            self._dsn, announcements.CHANNEL, lambda _: self._wake(), on_connect=self._wake
        ):
            yield

    def end(self) -> None:
        """Ends all streams after the page that they are sending."""
        self._ended = True
        self._wake()

    async def follow(self, after: Checkpoint, filter: EventFilter) -> AsyncIterator[Page]:
        """Pages of matching events as they are published, and empty pages as heartbeats.

        The first page comes at once.
        """
        now = asyncio.get_running_loop().time
        heartbeat_at = now()
        while not self._ended:
            news = self._news
            page = await self._read(after, filter)
            has_moved, after = page.end != after, page.end
            if page.events or now() >= heartbeat_at:
                yield page
                heartbeat_at = now() + HEARTBEAT_SECONDS
            elif not has_moved:
                if page.unsettled:
                    self._poll_soon()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(heartbeat_at):
                        await news.wait()

    async def _read(self, after: Checkpoint, filter: EventFilter) -> Page:
        """Streams at the same position, as most are, share one query of the log."""
        reads, key = self._reads, (after, filter)
        if key not in reads:
            reads[key] = asyncio.create_task(feed.read(self._pool, *key, PAGE_EVENTS_MAX))
            reads[key].add_done_callback(lambda _: reads.pop(key))
        return await asyncio.shield(reads[key])

    def _poll_soon(self) -> None:
        if self._poll_timer is None:
            loop = asyncio.get_running_loop()
            self._poll_timer = loop.call_later(UNSETTLED_SECONDS, self._wake)

    def _wake(self) -> None:
        news = self._news
        self._renew()
        news.set()

    def _renew(self) -> None:
        if self._poll_timer is not None:
            self._poll_timer.cancel()
        self._poll_timer = None
        self._news = asyncio.Event()
        # A woken stream must not share a query that began before.
        self._reads: dict[tuple[Checkpoint, EventFilter], asyncio.Task[Page]] = {}


class EventStream(StreamingResponse):
    """A response of server-sent events, which holds a slot until it ends."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(chunks, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.limiter.slot():
            await super().__call__(scope, receive, send)
