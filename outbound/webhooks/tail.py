"""The end of the log, which one task of a process reads for all of its endpoints.

Most endpoints are there, and most events are for few of them: a page is offered to all, and only
those whose filter it matches read it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

import asyncpg

from background import wait_at_most
from eventlog import feed
from eventlog.feed import PublishedEvent
from eventlog.log import Checkpoint, settled_head
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE
from outbound.rendering import RenderedEvent, render
from outbound.webhooks.endpoints import Endpoint
from privacy.keys import CustomerKeys

PAGE_EVENTS_MAX = 200
PAGES_MAX = 16
POLL_SECONDS = 1.0
POLL_SECONDS_UNSETTLED = 0.005
# The pause after a page is a multiple of the time that it took, so that under load the next one is
# worth its queries. The first event after a quiet moment does not wait.
PAUSE_FACTOR = 2.0
PAUSE_SECONDS_MAX = 0.02
RETRY_SECONDS = 0.5

logger = logging.getLogger("orderly.deliverer")


class TailPage:
    """All events between two positions, each rendered once for all endpoints."""

    def __init__(
        self, begin: Checkpoint, page: feed.Page, customer_ids: Sequence[str | None]
    ) -> None:
        self.begin = begin
        self.end = page.end
        self._events = list(zip(page.events, customer_ids, strict=True))
        self._rendered: dict[tuple[str, Checkpoint], RenderedEvent] = {}

    def concerns(self, endpoint: Endpoint, after: Checkpoint) -> bool:
        """Whether it has an event for an endpoint that has read up to `after`."""
        return any(
            event.checkpoint > after and matches(endpoint, event, customer_id)
            for event, customer_id in self._events
        )

    async def webhooks(
        self, endpoint: Endpoint, after: Checkpoint, keys: CustomerKeys
    ) -> list[RenderedEvent]:
        """The events for an endpoint that has read up to `after`."""
        matching = [
            event
            for event, customer_id in self._events
            if event.checkpoint > after and matches(endpoint, event, customer_id)
        ]
        base_url, rendered = endpoint.base_url, self._rendered
        fresh = [event for event in matching if (base_url, event.checkpoint) not in rendered]
        for webhook in await render(fresh, base_url, keys):
            rendered[base_url, webhook.checkpoint] = webhook
        return [rendered[base_url, event.checkpoint] for event in matching]


def matches(endpoint: Endpoint, event: PublishedEvent, customer_id: str | None) -> bool:
    """Whether an endpoint's filter lets an event through."""
    is_of_type = endpoint.event_types is None or event.envelope.type in endpoint.event_types
    return is_of_type and endpoint.customer_id in (None, customer_id)


class Tail:
    """Reads what is appended to the log, and offers it page by page to all endpoints."""

    def __init__(self, pool: asyncpg.Pool, offer: Callable[[TailPage], None]) -> None:
        self._pool = pool
        self._offer = offer
        self._pages: deque[TailPage] = deque(maxlen=PAGES_MAX)
        self._woken = asyncio.Event()
        self._wanted = asyncio.Event()
        self._head: Checkpoint | None = None
        """Up to where it has read; None before it has begun."""

    def want(self, is_wanted: bool) -> None:
        """Reads only while there is an endpoint; then it begins at the end of the log again."""
        if is_wanted:
            self._wanted.set()
        else:
            self._wanted.clear()
            self._head = None
            self.forget()

    def wake(self) -> None:
        """There may be events to read."""
        self._woken.set()

    def forget(self) -> None:
        """Frees the pages: what is read from now on shows addresses as they are now."""
        self._pages.clear()

    def is_at_end(self, position: Checkpoint) -> bool:
        """Whether it will offer all that follows a position."""
        return self._head is not None and position >= self._head

    def page_after(self, position: Checkpoint) -> TailPage | None:
        """The page with the events that follow a position, if that is near the end."""
        return next((one for one in self._pages if one.begin <= position < one.end), None)

    async def follow(self) -> None:
        """Reads for ever, while it is wanted."""
        while True:
            await self._wanted.wait()
            try:
                await self._read_and_wait()
            except (*UNAVAILABLE, *OTHER_TABLES) as error:
                logger.warning("Postgres is unavailable or not migrated, retrying: %r", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:  # An event that this release cannot read: a newer one may.
                logger.exception("the log cannot be read")
                await asyncio.sleep(RETRY_SECONDS)

    async def _read_and_wait(self) -> None:
        """Reads a page, and waits until there may be another one."""
        clock = asyncio.get_running_loop().time
        self._woken.clear()
        began = clock()
        page = await self._read()
        if page.events:
            await asyncio.sleep(min(PAUSE_FACTOR * (clock() - began), PAUSE_SECONDS_MAX))
        if page.unsettled:
            await asyncio.sleep(POLL_SECONDS_UNSETTLED)
        elif len(page.events) < PAGE_EVENTS_MAX:
            await wait_at_most(POLL_SECONDS, self._woken)

    async def _read(self) -> feed.Page:
        """Reads the next page, and offers it if it has any events."""
        if self._head is None:
            self._head = await settled_head(self._pool)
        begin = self._head
        page, customer_ids = await feed.read_with_customers(self._pool, begin, PAGE_EVENTS_MAX)
        if page.events and self._wanted.is_set():
            read = TailPage(begin, page, customer_ids)
            self._pages.append(read)
            self._head = read.end
            self._offer(read)
        return page
