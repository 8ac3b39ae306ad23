"""A log to project: made-up orders of real goods, the same events every time."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
SHOPPERS = 50  # So many orders are being filled at any time.
STAYS_DRAFT_EACH = 10  # One order in so many is not placed.
EVENTS_PER_TRANSACTION = 500
BEGAN = datetime(2026, 1, 1, microsecond=1, tzinfo=UTC)
BETWEEN = timedelta(milliseconds=7)

Happened = tuple[str, Envelope]
"""The id of an order, and an event of it."""


def happened(events: int, seed: int = 4) -> Iterator[Happened]:
    """So many events, in the order in which the shoppers cause them."""
    return islice(_shopping(Random(seed)), events)


def _shopping(dice: Random) -> Iterator[Happened]:
    orders = count()
    trolleys = [_life(next(orders), dice) for _ in range(SHOPPERS)]
    for number in count():
        shopper = dice.randrange(SHOPPERS)
        step = next(trolleys[shopper], None)
        if step is None:
            trolleys[shopper] = _life(next(orders), dice)
            step = next(trolleys[shopper])
        order_id, version, event = step
        yield order_id, Envelope.of(event, version, BEGAN + number * BETWEEN, _about(event, dice))


def _life(number: int, dice: Random) -> Iterator[tuple[str, int, OrderEvent]]:
    order_id = str(UUID(int=dice.getrandbits(128), version=4))
    for version, event in enumerate(_story(number, dice), 1):
        yield order_id, version, event


def _story(number: int, dice: Random) -> list[OrderEvent]:
    """The events of one order; nothing in it asks more of SQL than it can say in one statement."""
    lines = [
        ItemAdded(
            line_id=f"line-{n}",
            sku=item.sku,
            title=item.title,
            quantity=item.quantity,
            unit_price=item.unit_price,
            discount=item.discount,
            tax=dice.randrange(100),
        )
        for n, item in enumerate(dice.sample(_goods(), LINES_PER_ORDER), 1)
    ]
    total = sum(n.quantity * n.unit_price - n.discount + n.tax for n in lines)
    changed = dice.choice(lines)
    more = changed.quantity + dice.randint(1, 3)
    total += (more - changed.quantity) * changed.unit_price + 499
    stays_draft = number % STAYS_DRAFT_EACH == 0
    return [
        OrderOpened(customer_id=str(dice.randrange(1_000)), currency="USD"),
        *lines,
        ItemQuantityChanged(line_id=changed.line_id, quantity=more),
        NoteAdded(note_id="note-1", text="Please ring twice."),
        ShippingChargeSet(amount=499),
        NoteAdded(note_id="note-2", text='"Later"') if stays_draft else OrderPlaced(total=total),
    ]


@cache
def _goods() -> list[BasketLine]:
    baskets = read_baskets(PACKAGED_BASKETS)
    return [line for basket in baskets for line in basket.lines if line.is_valid]


def _about(event: OrderEvent, dice: Random) -> Metadata:
    return Metadata(
        actor="bench",
        command=event.type,
        command_id=f"{dice.getrandbits(128):032x}",
        payload_hash=f"{dice.getrandbits(128):032x}",
        request_id=f"{dice.getrandbits(64):016x}",
    )


async def write_log(dsn: str, events: int) -> None:
    """Fills an empty log, some hundred events in each transaction."""
    connection = await asyncpg.connect(dsn)
    try:
        coming = happened(events)
        while some := list(islice(coming, EVENTS_PER_TRANSACTION)):
            await connection.copy_records_to_table(
                "order_events",
                columns=["order_id", *Envelope.model_fields],
                records=[_record(order_id, envelope) for order_id, envelope in some],
            )
        await connection.execute("VACUUM ANALYZE order_events")
    finally:
        await connection.close()


def _record(order_id: str, envelope: Envelope) -> tuple[object, ...]:
    return (
        order_id,
        envelope.version,
        envelope.occurred_at,
        envelope.type,
        envelope.schema_version,
        json.dumps(envelope.data),
        envelope.metadata.model_dump_json(exclude_none=True),
    )
