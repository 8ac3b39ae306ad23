"""Reads the log for single endpoints: what is far from its end, or was delivered before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from eventlog import feed
from eventlog.feed import EventFilter
from eventlog.log import Checkpoint
from outbound.event_ids import parse_event_id
from outbound.rendering import RenderedEvent, render
from outbound.webhooks.endpoints import Endpoint
from privacy.keys import CustomerKeys

PAGE_EVENTS_MAX = 200
PARKED_EVENTS_MAX = 20


class Page(NamedTuple):
    """Webhooks for one endpoint, and where the next page begins."""

    webhooks: list[RenderedEvent]
    end: Checkpoint
    """All events up to it are read, matching or not; where it began, if there are no more yet."""


class LogReader:
    """Reads on from any position, as the public feed does."""

    def __init__(self, pool: asyncpg.Pool, keys: CustomerKeys) -> None:
        self._pool = pool
        self.keys = keys

    async def read_backlog(self, endpoint: Endpoint, after: Checkpoint) -> Page:
        """The next events for an endpoint: Postgres filters them."""
        page = await feed.read(self._pool, after, filter_of(endpoint), PAGE_EVENTS_MAX)
        return Page(await render(page.events, endpoint.base_url, self.keys), page.end)

    async def read_named(self, endpoint: Endpoint, event_ids: Sequence[str]) -> list[RenderedEvent]:
        """The events with these ids, if the endpoint's filter matches them."""
        events = await feed.find_events(
            self._pool, [parse_event_id(one) for one in event_ids], filter_of(endpoint)
        )
        return await render(events, endpoint.base_url, self.keys)

    async def read_order(
        self, endpoint: Endpoint, order_id: str, version: int, until: Checkpoint
    ) -> tuple[list[RenderedEvent], int | None]:
        """The next events of an order, as far as the endpoint's filter matches them.

        Also the version after them; None if there are no more.
        """
        events = await feed.read_order_after(
            self._pool, order_id, version, until, filter_of(endpoint), PARKED_EVENTS_MAX
        )
        more = events[-1].envelope.version + 1 if len(events) == PARKED_EVENTS_MAX else None
        return await render(events, endpoint.base_url, self.keys), more


def filter_of(endpoint: Endpoint) -> EventFilter:
    return EventFilter(endpoint.event_types, None, endpoint.customer_id)
