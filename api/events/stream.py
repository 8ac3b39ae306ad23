"""Live streams of the log: all woken by one listener, each as fast as its reader takes it.

Nothing is kept for a reader but a place in the log: the next page is read when the last is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import asyncpg
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.problems.errors import TooManyStreams
from eventlog import feed
from eventlog.feed import EventFilter, Page
from eventlog.log import Checkpoint
from eventlog.postgres import listening

STREAMS_MAX = 100
PAGE_EVENTS_MAX = 50
# Also how soon a stream looks for itself, should a notification have been lost.
HEARTBEAT_SECONDS = 5.0
# While an older transaction holds events back, for nobody will announce its end.
UNSETTLED_SECONDS = 0.01


class Streams:
    """The streams of this process: how many there are, what wakes them, and when they end."""

    def __init__(self, pool: asyncpg.Pool, dsn: str) -> None:
        self._pool = pool
        self._dsn = dsn
        self._open = 0
        self._ended = False
        self._look_again: asyncio.TimerHandle | None = None
        self._renew()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hears of new events inside the `async with`."""
        async with listening(self._dsn, "order_events", lambda _: self._wake()):
            yield

    def end(self) -> None:
        """Lets all streams end as soon as they have sent what they are sending."""
        self._ended = True
        self._wake()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one stream; raises TooManyStreams if all are taken."""
        if self._open >= STREAMS_MAX:
            raise TooManyStreams
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def follow(self, after: Checkpoint, filter: EventFilter) -> AsyncIterator[Page]:
        """Pages of what is wanted, as it comes; an empty one at once, and when nothing came."""
        now = asyncio.get_running_loop().time
        heartbeat_at = now()
        while not self._ended:
            news = self._news
            page = await self._read(after, filter)
            moved, after = page.end != after, page.end
            if page.events or now() >= heartbeat_at:
                yield page
                heartbeat_at = now() + HEARTBEAT_SECONDS
            elif not moved:
                if page.unsettled:
                    self._look_again_soon()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(heartbeat_at):
                        await news.wait()

    async def _read(self, after: Checkpoint, filter: EventFilter) -> Page:
        """Streams that are at the same place, as most are, share one look at the log."""
        reads, key = self._reads, (after, filter)
        if key not in reads:
            reads[key] = asyncio.create_task(feed.read(self._pool, *key, PAGE_EVENTS_MAX))
            reads[key].add_done_callback(lambda _: reads.pop(key))
        return await asyncio.shield(reads[key])

    def _look_again_soon(self) -> None:
        if self._look_again is None:
            loop = asyncio.get_running_loop()
            self._look_again = loop.call_later(UNSETTLED_SECONDS, self._wake)

    def _wake(self) -> None:
        news = self._news
        self._renew()
        news.set()

    def _renew(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
        self._look_again = None
        self._news = asyncio.Event()
        # Whoever is woken must not share a look that began before.
        self._reads: dict[tuple[Checkpoint, EventFilter], asyncio.Task[Page]] = {}


class EventStream(StreamingResponse):
    """Server-sent events; takes its place as it begins, and frees it however it ends."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(chunks, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.place():
            await super().__call__(scope, receive, send)
