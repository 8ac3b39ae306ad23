"""A log to project: synthetic orders of real items, the same events every time."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count, islice
from random import Random
from uuid import UUID

import asyncpg

from dev.demo.baskets import PACKAGED_BASKETS, BasketLine, read_baskets
from eventlog.envelope import Envelope, Metadata
from orders.events import (
    ItemAdded,
    ItemQuantityChanged,
    NoteAdded,
    OrderEvent,
    OrderOpened,
    OrderPlaced,
    ShippingChargeSet,
)

EVENTS_PER_ORDER = 10
LINES_PER_ORDER = 5
CONCURRENT_ORDERS = 50  # That receive events at any time.
DRAFT_EVERY = 10  # One order in this many is not placed.
EVENTS_PER_TRANSACTION = 500
START = datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)
INTERVAL = timedelta(milliseconds=7)

OrderEnvelope = tuple[str, Envelope]
"""An order id, and an event of that order."""


def generate_events(events: int, seed: int = 4) -> Iterator[OrderEnvelope]:
    """This many events of interleaved orders."""
    return islice(_interleaved(Random(seed)), events)


def generate_order() -> list[Envelope]:
    """The EVENTS_PER_ORDER events of one order."""
    dice = Random(4)
    return [
        Envelope.of(event, version, START + version * INTERVAL, metadata_of(event, dice))
        for version, event in enumerate(_events_of_order(1, dice), 1)
    ]


def _interleaved(dice: Random) -> Iterator[OrderEnvelope]:
    orders = count()
    growing = [_versioned(next(orders), dice) for _ in range(CONCURRENT_ORDERS)]
    for number in count():
        index = dice.randrange(CONCURRENT_ORDERS)
        following = next(growing[index], None)
        if following is None:
            growing[index] = _versioned(next(orders), dice)
            following = next(growing[index])
        order_id, version, event = following
        at = START + number * INTERVAL
        yield order_id, Envelope.of(event, version, at, metadata_of(event, dice))


def _versioned(number: int, dice: Random) -> Iterator[tuple[str, int, OrderEvent]]:
    order_id = str(UUID(int=dice.getrandbits(128), version=4))
    for version, event in enumerate(_events_of_order(number, dice), 1):
        yield order_id, version, event


def _events_of_order(number: int, dice: Random) -> list[OrderEvent]:
    """The events of one order: only such as sql_upper_bound can project in one statement."""
    lines = synthetic_items(dice, LINES_PER_ORDER)
    total = sum(n.quantity * n.unit_price - n.discount + n.tax for n in lines)
    changed = dice.choice(lines)
    more = changed.quantity + dice.randint(1, 3)
    total += (more - changed.quantity) * changed.unit_price + 499
    stays_draft = number % DRAFT_EVERY == 0
    return [
        OrderOpened(customer_id=str(dice.randrange(1_000)), currency="USD"),
        *lines,
        ItemQuantityChanged(line_id=changed.line_id, quantity=more),
        NoteAdded(note_id="note-1", text="Please ring twice."),
        ShippingChargeSet(amount=499),
        NoteAdded(note_id="note-2", text='"Later"') if stays_draft else OrderPlaced(total=total),
    ]


def synthetic_items(dice: Random, count: int) -> list[ItemAdded]:
    """Lines of different real items."""
    return [
        ItemAdded(
            line_id=f"line-{n}",
            sku=item.sku,
            title=item.title,
            quantity=item.quantity,
            unit_price=item.unit_price,
            discount=item.discount,
            tax=dice.randrange(100),
        )
        for n, item in enumerate(dice.sample(_items(), count), 1)
    ]


@cache
def _items() -> list[BasketLine]:
    baskets = read_baskets(PACKAGED_BASKETS)
    return [line for basket in baskets for line in basket.lines if line.is_valid]


def metadata_of(event: OrderEvent, dice: Random) -> Metadata:
    """Synthetic metadata, of the usual size."""
    return Metadata(
        actor="bench",
        command=event.type,
        command_id=f"{dice.getrandbits(128):032x}",
        payload_hash=f"{dice.getrandbits(128):032x}",
        request_id=f"{dice.getrandbits(64):016x}",
    )


async def write_log(dsn: str, events: int) -> None:
    """Fills an empty log, several hundred events per transaction."""
    connection = await asyncpg.connect(dsn)
    try:
        generated = generate_events(events)
        while some := list(islice(generated, EVENTS_PER_TRANSACTION)):
            await insert_events(connection, some)
        await connection.execute("VACUUM ANALYZE order_events")
    finally:
        await connection.close()


async def insert_events(connection: asyncpg.Connection, events: Sequence[OrderEnvelope]) -> None:
    """Copies events into the log, in one transaction."""
    await connection.copy_records_to_table(
        "order_events",
        columns=["order_id", *Envelope.model_fields],
        records=[_record(order_id, envelope) for order_id, envelope in events],
    )


def _record(order_id: str, envelope: Envelope) -> tuple[object, ...]:
    return (
        order_id,
        envelope.version,
        envelope.occurred_at,
        envelope.type,
        envelope.schema_version,
        json.dumps(envelope.data),
        envelope.metadata.model_dump_json(exclude_none=True),
        envelope.intent and b64decode(envelope.intent),
    )
