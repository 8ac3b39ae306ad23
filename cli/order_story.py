"""The story of an order for a person at a terminal: what happened, who asked, what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from itertools import groupby

import asyncpg

import telemetry
from eventlog import log
from eventlog.envelope import Envelope, Metadata
from orders.money import format_amount
from readside.engine.projection import ProjectionError
from readside.order_view import queries
from readside.order_view.document import OrderDocument, document
from readside.order_view.sentences import sentences, words_after
from readside.order_view.view import OrderView, fold_view
from readside.order_view.waiting_words import waits
from readside.order_view.words import SERVICE_NAMES, Words

_CALLERS = {"deadline": "a deadline", **{str(name): words for name, words in SERVICE_NAMES.items()}}


class NoSuchOrder(Exception):
    """The log has no event of the order; the message is a sentence."""


@dataclass(frozen=True)
class Story:
    """What is shown of an order."""

    stream: Sequence[Envelope]
    order: OrderDocument | None
    """None if a newer release wrote one of its events."""
    orphaned: str | None = None
    """Why no workflow runs the order, although it is open."""


async def read(pool: asyncpg.Pool, order_id: str) -> Story:
    """Reads the story of an order; raises NoSuchOrder."""
    stream = await log.read_stream(pool, order_id)
    if not stream:
        raise NoSuchOrder(f"The log has no event of an order {order_id}.")
    row = await queries.find(pool, order_id)
    try:
        order = document(fold_view(OrderView(order_id), stream))
    except ProjectionError:
        order = None
    return Story(stream, order, row.orphaned if row else None)


def story(told: Story, zone: tzinfo | None = None) -> Iterator[str]:
    """The lines of the story; times are in a zone, by default that of the machine."""
    zone = zone or told.stream[0].occurred_at.astimezone().tzinfo or UTC
    words = Words(zone=zone)
    said = iter(sentences(told.stream, words))
    if told.order is not None:
        yield _headline(told.order)
    day = None
    for _, batch in groupby(told.stream, key=lambda event: event.metadata.command_id):
        events = list(batch)
        at = events[0].occurred_at.astimezone(zone)
        if at.date() != day:
            day = at.date()
            yield f"\n{at.day} {at:%B %Y}, times in {at:%Z}"
        yield f"\n{at:%H:%M:%S}  {_who_asked(events[0].metadata)}"
        for event in events:
            yield f"  {event.version:>4}  {next(said)}"
    yield ""
    yield from _ending(told, words_after(told.stream, words))


def _headline(order: OrderDocument) -> str:
    status = order.status.replace("_", " ")
    total = format_amount(order.total, order.currency)
    return f"Order {order.order_id} of customer {order.customer_id}: {status}, {total}"


def _who_asked(metadata: Metadata) -> str:
    """Who caused events, by which command or result, and in which trace."""
    actor = _CALLERS.get(metadata.actor, metadata.actor.replace(":", " ", 1))
    trace = telemetry.trace_id(metadata.traceparent) if metadata.traceparent else None
    request = f", request {metadata.request_id}" if metadata.request_id else ""
    return f"{actor}: {metadata.command}{request}" + (f", trace {trace}" if trace else "")


def _ending(told: Story, words: Words) -> Iterator[str]:
    if told.order is None:
        yield "Run the newest version of orderly to see what it waits for."
        return
    reasons = list(waits(told.order, words, told.orphaned))
    if not reasons:
        yield "It waits for nothing."
        return
    yield "It waits for"
    for reason in reasons:
        yield f"  {reason}."
