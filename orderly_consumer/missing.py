"""Finds what a consumer lacks, by comparing digests of smaller and smaller slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from orderly_consumer.digest import Digest, order_hash
from orderly_consumer.events import Event
from orderly_consumer.feed import Feed, FeedDigest


class Held(Protocol):
    """The events that a consumer holds."""

    async def digests(self, slice: str) -> dict[str, Digest]:
        """Of the slices within a slice, which are longer by one digit."""
        ...

    async def ids_by_order(self, slice: str) -> dict[str, set[str]]:
        """The ids of the events of the orders in a slice."""
        ...


@dataclass
class Missing:
    """How the events that a consumer holds differ from the feed up to a cursor."""

    until: str
    events: list[Event] = field(default_factory=list)
    """That the feed has and the consumer lacks; in order within each order."""
    extra: list[str] = field(default_factory=list)
    """The ids that the consumer has and the feed lacks: of newer events, or lost in a restore."""


class HeldIds:
    """The ids of events, in memory."""

    def __init__(self, event_ids: Iterable[str]) -> None:
        self._by_hash: dict[str, set[str]] = defaultdict(set)
        for event_id in event_ids:
            self._by_hash[order_hash(_order_id(event_id))].add(event_id)

    async def digests(self, slice: str) -> dict[str, Digest]:
        found: dict[str, Digest] = defaultdict(Digest)
        for name, ids in self._by_hash.items():
            if name.startswith(slice):
                found[name[: len(slice) + 1]] += Digest.of(*ids)
        return found

    async def ids_by_order(self, slice: str) -> dict[str, set[str]]:
        return {
            _order_id(next(iter(ids))): ids
            for name, ids in self._by_hash.items()
            if name.startswith(slice)
        }


def _order_id(event_id: str) -> str:
    return event_id.rpartition("@")[0]


async def find_missing(feed: Feed, held: Held, until: str | None = None) -> Missing:
    """Compares the events that a consumer holds with the feed up to a cursor, or to its end.

    If they are equal, this is one request. Each order that differs takes some more: one for each
    digit by which slices get smaller, 16 times at once, and one for its events. A digest of very
    many orders takes more, too: see Feed.digest.
    """
    whole = await feed.digest(until)
    missing = Missing(whole.until)
    unequal = [whole]
    while unequal:
        theirs = unequal.pop()
        if theirs.orders is not None:
            await _compare_orders(feed, held, theirs, missing)
            continue
        ours = await held.digests(theirs.slice)
        names = ours.keys() | theirs.slices.keys()
        differ = [name for name in names if ours.get(name) != theirs.slices.get(name)]
        unequal += [await feed.digest(whole.until, name) for name in sorted(differ)]
    return missing


async def _compare_orders(feed: Feed, held: Held, theirs: FeedDigest, missing: Missing) -> None:
    ours = await held.ids_by_order(theirs.slice)
    assert theirs.orders is not None
    for order_id in sorted(ours.keys() | theirs.orders.keys()):
        ids = ours.get(order_id, set())
        digest = theirs.orders.get(order_id, Digest())
        if Digest.of(*ids) != digest:
            events = await feed.first_events_of(order_id, digest.count)
            missing.events += [event for event in events if event.id not in ids]
            missing.extra += sorted(ids - {event.id for event in events})
