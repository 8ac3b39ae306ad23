"""Reads the log for the endpoints of one process, and renders its events as webhooks.

Endpoints at the end of the log, as most are, share one query and one rendering of each event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import asyncpg

from eventlog import feed
from eventlog.feed import EventFilter, PublishedEvent
from eventlog.log import Checkpoint
from outbound.cloudevents import as_json, cloud_event
from outbound.event_data import public_events
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.window import Webhook
from privacy.keys import CustomerKeys

PAGE_EVENTS_MAX = 200
PARKED_EVENTS_MAX = 20


class Page(NamedTuple):
    """Webhooks for one endpoint, and where the next page begins."""

    webhooks: list[Webhook]
    end: Checkpoint
    """All events up to it are read, matching or not; where it began, if there are no more yet."""
    is_full: bool
    """Whether more events may follow at once."""
    unsettled: bool
    """More is committed, but an older transaction still runs, whose end sends no notification."""


class LogReader:
    """Reads on from any position, as the public feed does."""

    def __init__(self, pool: asyncpg.Pool, keys: CustomerKeys) -> None:
        self._pool = pool
        self._keys = keys
        self._tails: dict[Checkpoint, asyncio.Task[_Tail]] = {}

    def forget(self) -> None:
        """After new events, a read must not share a query that began before."""
        self._tails = {}

    async def read_tail(self, endpoint: Endpoint, after: Checkpoint) -> Page:
        """The next events near the end of the log."""
        reading = self._tails.get(after)
        if reading is None:
            reading = self._tails[after] = asyncio.create_task(self._read_tail(after))
            reading.add_done_callback(partial(self._forget_fruitless, after))
        tail = await asyncio.shield(reading)
        return await tail.page_for(endpoint, self._keys)

    def _forget_fruitless(self, after: Checkpoint, reading: asyncio.Task[_Tail]) -> None:
        """Has the next reader ask again, if there was nothing to read yet, or an error."""
        is_fruitful = (
            not reading.cancelled()
            and reading.exception() is None
            and reading.result().page.end > after
        )
        if not is_fruitful and self._tails.get(after) is reading:
            del self._tails[after]

    async def read_backlog(self, endpoint: Endpoint, after: Checkpoint) -> Page:
        """The next events far from the end of the log: Postgres filters them."""
        page = await feed.read(self._pool, after, filter_of(endpoint), PAGE_EVENTS_MAX)
        webhooks = await render(page.events, endpoint.base_url, self._keys)
        return Page(webhooks, page.end, page.end != after, page.unsettled)

    async def read_named(self, endpoint: Endpoint, event_ids: Sequence[str]) -> list[Webhook]:
        """The events with these ids, if the endpoint's filter matches them."""
        events = await feed.find_events(
            self._pool, [parse_event_id(one) for one in event_ids], filter_of(endpoint)
        )
        return await render(events, endpoint.base_url, self._keys)

    async def read_order(
        self, endpoint: Endpoint, order_id: str, version: int, until: Checkpoint
    ) -> tuple[list[Webhook], int | None]:
        """The next events of an order, and the version after them; None if there are no more."""
        events = await feed.read_order_after(
            self._pool, order_id, version, until, PARKED_EVENTS_MAX
        )
        more = events[-1].envelope.version + 1 if len(events) == PARKED_EVENTS_MAX else None
        types = endpoint.event_types
        wanted = [one for one in events if types is None or one.envelope.type in types]
        return await render(wanted, endpoint.base_url, self._keys), more

    async def _read_tail(self, after: Checkpoint) -> _Tail:
        return _Tail(*await feed.read_with_customers(self._pool, after, PAGE_EVENTS_MAX))


class _Tail:
    """A page of all events, rendered once for all endpoints."""

    def __init__(self, page: feed.Page, customer_ids: list[str | None]) -> None:
        self.page = page
        self._customer_ids = customer_ids
        self._rendered: dict[tuple[str, Checkpoint], Webhook] = {}

    async def page_for(self, endpoint: Endpoint, keys: CustomerKeys) -> Page:
        matching = [
            event
            for event, customer_id in zip(self.page.events, self._customer_ids, strict=True)
            if matches(endpoint, event.envelope.type, customer_id)
        ]
        base_url, rendered = endpoint.base_url, self._rendered
        fresh = [event for event in matching if (base_url, event.checkpoint) not in rendered]
        for webhook in await render(fresh, base_url, keys):
            rendered[base_url, webhook.checkpoint] = webhook
        is_full = len(self.page.events) == PAGE_EVENTS_MAX
        webhooks = [rendered[base_url, event.checkpoint] for event in matching]
        return Page(webhooks, self.page.end, is_full, self.page.unsettled)


def filter_of(endpoint: Endpoint) -> EventFilter:
    return EventFilter(endpoint.event_types, None, endpoint.customer_id)


def matches(endpoint: Endpoint, type: str, customer_id: str | None) -> bool:
    """Whether an endpoint's filter lets an event through."""
    is_of_type = endpoint.event_types is None or type in endpoint.event_types
    return is_of_type and endpoint.customer_id in (None, customer_id)


async def render(
    events: Sequence[PublishedEvent], base_url: str, keys: CustomerKeys
) -> list[Webhook]:
    """The events as the public feed shows them now."""
    if not events:
        return []
    shown = await public_events((event.envelope for event in events), keys)
    return [
        Webhook(
            event.checkpoint,
            event.order_id,
            envelope.version,
            envelope.type,
            as_json(cloud_event(event.order_id, envelope, base_url)).encode(),
        )
        for event, envelope in zip(events, shown, strict=True)
    ]


def parse_event_id(event_id: str) -> tuple[str, int]:
    """The order id and the version in the id of an event; raises ValueError."""
    order_id, separator, version = event_id.rpartition("@")
    if not separator or not order_id or not version.isdecimal() or len(version) > 9:
        raise ValueError("is not the id of an event, such as ord_x@4")
    return order_id, int(version)
