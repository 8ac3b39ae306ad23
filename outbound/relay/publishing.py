"""Publishes the events after one cursor, each until the broker has confirmed it.

In order within an order, side by side across orders. While the broker fails, it gets one event at
growing intervals, and then all that it has missed. No event is ever skipped.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from admin.readiness import Pulse
from eventlog import feed
from eventlog.feed import EventFilter
from eventlog.log import Checkpoint
from eventlog.postgres import Connection
from outbound.backoff import backoff_seconds
from outbound.relay import cursors
from outbound.relay.broker import Broker, NotPublished
from outbound.rendering import RenderedEvent, render
from outbound.window import Window

PAGE_EVENTS_MAX = 500
WINDOW_MAX = 2_000
POLL_SECONDS = 1.0
POLL_SECONDS_UNSETTLED = 0.005
STOP_SECONDS_MAX = 10.0

logger = logging.getLogger("orderly.relay")


@dataclass(frozen=True)
class Pace:
    """How fast a relay publishes, and its pauses."""

    concurrent_max: int = 256
    """Events that are on their way to the broker, each of another order."""
    first_pause_seconds: float = 0.2
    """After a failure. It doubles with each further one, up to the maximum."""
    pause_seconds_max: float = 5.0
    store_seconds: float = 0.25
    """How often progress is stored: what was published since is published again after a crash."""
    idle_store_seconds: float = 5.0
    standby_seconds: float = 0.5

    def pause(self, failures: int) -> float:
        """The seconds after a number of failures, with jitter."""
        return backoff_seconds(failures, self.first_pause_seconds, self.pause_seconds_max)


class Publishing:
    """What is published while one connection owns a relay."""

    def __init__(
        self,
        owner: Connection,
        broker: Broker,
        public_url: str,
        at: Checkpoint,
        pace: Pace,
        pulse: Pulse,
    ) -> None:
        self._owner = owner
        self._broker = broker
        self._public_url = public_url
        self._pace = pace
        self._pulse = pulse
        self._woken = asyncio.Event()
        self._has_news = True
        self._window = Window(at)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_unsettled = False
        self._published = 0
        """Since progress was stored."""
        self._stored_at, self._stored_position = _clock(), at
        self._failures = 0
        """Since the last success."""
        self._next_try = 0.0
        self._last_success_at: datetime | None = None
        self._failing_since: datetime | None = None
        self._error: str | None = None

    def wake(self) -> None:
        """There may be events to read."""
        self._has_news = True
        self._woken.set()

    async def run(self, stopped: asyncio.Event) -> None:
        """Publishes until `stopped`, and stores what was confirmed by then."""
        stopping = asyncio.create_task(stopped.wait())
        stopping.add_done_callback(lambda _: self._woken.set())
        try:
            while not stopped.is_set():
                self._woken.clear()
                await self._advance()
                self._tell_pulse()
                await self._sleep()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=STOP_SECONDS_MAX)
            await self._store()
        finally:
            for task in {stopping, *self._tasks}:
                task.cancel()

    def _tell_pulse(self) -> None:
        if self._failures:
            self._pulse.fail(f"the broker does not accept events: {self._error}")
        else:
            self._pulse.beat()

    async def _advance(self) -> None:
        """Reads, publishes and stores what can be read, published and stored now."""
        if self._may_publish() and self._wants_more():
            await self._read()
        while self._may_publish() and (event := self._window.take()) is not None:
            self._start(event)
        if _clock() >= self._store_due():
            await self._store()

    def _may_publish(self) -> bool:
        """Whether another event may be sent; while the broker fails, only one at its time."""
        if self._failures:
            return not self._tasks and _clock() >= self._next_try
        return len(self._tasks) < self._pace.concurrent_max

    def _wants_more(self) -> bool:
        is_short = self._window.ready_orders < self._pace.concurrent_max
        return self._has_news and is_short and len(self._window) < WINDOW_MAX

    async def _read(self) -> None:
        """Reads a page of the log into the window."""
        read_to, self._has_news = self._window.read_to, False  # What comes meanwhile is news.
        page = await feed.read(self._owner, read_to, EventFilter(), PAGE_EVENTS_MAX)
        self._is_unsettled = page.unsettled
        # No keys: a broker keeps what it gets, so that no erasure would reach an address there.
        self._window.add(await render(page.events, self._public_url, keys=None), page.end)
        self._has_news = self._has_news or page.end > read_to

    def _start(self, event: RenderedEvent) -> None:
        task = asyncio.create_task(self._publish(event))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._woken.set()

    async def _publish(self, event: RenderedEvent) -> None:
        """Sends one event; a failure of any kind is one of the broker."""
        try:
            await self._broker.publish(event)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, NotPublished):
                logger.exception("%s cannot be published", event.event_id)
            self._window.put_back(event)
            self._record_failure(f"{event.event_id}: {error}")
        else:
            self._window.settle(event)
            self._record_success()

    def _record_success(self) -> None:
        self._published += 1
        self._last_success_at = datetime.now(UTC)
        if self._failures:
            logger.warning("relay %s publishes again", self._broker.name)
            self._failures, self._failing_since = 0, None

    def _record_failure(self, error: str) -> None:
        self._error = error
        if _clock() < self._next_try:
            return  # It was under way when another one failed.
        if not self._failures:
            logger.warning("relay %s fails, retrying: %s", self._broker.name, error)
            self._failing_since = datetime.now(UTC)
        self._failures += 1
        self._next_try = _clock() + self._pace.pause(self._failures)

    async def _store(self) -> None:
        """Stores progress; if that fails, the relay begins again from what was stored."""
        at, published, self._published = self._window.watermark, self._published, 0
        await cursors.store(
            self._owner,
            self._broker.name,
            at,
            published,
            self._last_success_at,
            self._failing_since,
            self._error,
        )
        self._stored_at, self._stored_position = _clock(), at
        self._window.forget_delivered()

    def _store_due(self) -> float:
        has_changed = self._published or self._window.watermark != self._stored_position
        pace = self._pace
        return self._stored_at + (pace.store_seconds if has_changed else pace.idle_store_seconds)

    async def _sleep(self) -> None:
        """Waits until there is something to do."""
        if self._may_publish() and self._wants_more():
            return
        now = _clock()
        seconds = min(POLL_SECONDS, self._store_due() - now)
        if self._failures and not self._tasks:
            seconds = min(seconds, self._next_try - now)
        elif self._is_unsettled:
            seconds = min(seconds, POLL_SECONDS_UNSETTLED)
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._woken.wait()
        except TimeoutError:
            self._has_news = True


def _clock() -> float:
    return asyncio.get_running_loop().time()
