"""Makes recorded orders by the rules of its checkout, one a line of JSON.

`make release-check` runs it in the older version, and then reads and decides the orders again in
both. There are random orders, some of the demo's baskets, and the orders of recorded histories:
`python -m dev.release.past RANDOM BASKETS [FILE …]`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from dev.demo.recorded_orders import demo_orders
from dev.random_orders import RandomOrder, random_line
from dev.release.golden import read_history
from eventlog.envelope import Envelope
from eventlog.intents import Intent
from orders import commands as c
from orders.decider import Message
from orders.events import OrderEvent
from orders.policy import Policy
from orders.upcasting import stored_data
from rehearsal.recorded import RecordedInput, RecordedOrder
from workflows.data_converter import DATA_CONVERTER
from workflows.history import events_for_log
from workflows.messages import as_set

MOVES = 60
CHANGES = 4
"""Of each kind, of the drafts that change much."""
YOUNGER_EVERY, YOUNGER_INPUTS_MAX = 5, 12
TICK = timedelta(minutes=1)


class Recording(RandomOrder):
    """A random order, and its inputs as they are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[RecordedInput] = []

    def send(self, message: Message) -> list[OrderEvent] | None:
        """Records what changed something. A rejection leaves no trace in a history."""
        self.now += TICK
        events = super().send(message)
        if events:
            intent = Intent(messages=[as_set(message)]).model_dump_json(exclude_defaults=True)
            facts = [(e.type, e.schema_version, stored_data(e)) for e in events]
            self.inputs.append(RecordedInput(self.now.isoformat(), intent, None, facts))
        return events


def random_orders(count: int) -> Iterator[RecordedOrder]:
    """The same ones each time, by the same rules; every other one comes to its end.

    Some come twice: also as they were after their first inputs, when many are drafts.
    """
    for number in range(count):
        order = Recording()
        if number % 3:
            order.start(Random(number))
        else:
            _changing_draft(order, Random(number))
        for move in range(MOVES):
            order.move(Random(f"{number}, {move}"))
        if number % 2:
            order.finish()
        order_id = f"ord_random_{number:04}"
        yield RecordedOrder(order_id, order.inputs)
        if number % YOUNGER_EVERY == 0:
            first = 1 + number // YOUNGER_EVERY % YOUNGER_INPUTS_MAX
            yield RecordedOrder(f"{order_id}_younger", order.inputs[:first])


def _changing_draft(order: Recording, dice: Random) -> None:
    """A draft with many lines and discounts, some of which are changed and removed."""
    order.send(c.OpenOrder(customer_id="900", currency="USD", policy=Policy()))
    for number in range(2 * CHANGES):
        order.send(random_line(f"line-{number}", dice))
        order.send(c.ApplyDiscount(discount_id=f"discount-{number}", amount=dice.randint(1, 9)))
    for number in range(CHANGES):
        order.send(c.RemoveDiscount(discount_id=f"discount-{number}"))
        order.send(c.RemoveItemFromOrder(line_id=f"line-{number}"))
        line_id = f"line-{number + CHANGES}"
        order.send(c.ChangeItemQuantity(line_id=line_id, quantity=dice.randint(1, 6)))
    order.send(c.PlaceOrder(payment_method="pm_card"))


async def orders_of(files: Iterable[Path]) -> AsyncIterator[RecordedOrder]:
    """The published events of orders whose runs are all there; of inputs, nothing is known.

    A run begins with what the one before had not published, so both may have an event.
    """
    runs_of: dict[str, list[Path]] = {}
    for file in sorted(files, key=_order_and_run):
        runs_of.setdefault(_order_and_run(file)[0], []).append(file)
    for order, runs in runs_of.items():
        events: dict[int, Envelope] = {}
        for run in runs:
            for event in await events_for_log(read_history(run), DATA_CONVERTER):
                events.setdefault(event.version, event)
        if events and sorted(events) == [*range(1, len(events) + 1)]:
            yield RecordedOrder(order, [_published(events[version]) for version in sorted(events)])


def _published(e: Envelope) -> RecordedInput:
    fact = e.type, e.schema_version, e.data
    return RecordedInput(e.occurred_at.isoformat(), None, None, [fact])


def _order_and_run(file: Path) -> tuple[str, int]:
    """What a file is named after."""
    order, _, run = file.stem.rpartition("-")
    return f"{file.parent.name}/{order}", int(run)


async def main() -> None:
    """Writes the orders, one a line."""
    random, baskets = map(int, sys.argv[1:3])
    recorded = [order async for order in orders_of(map(Path, sys.argv[3:]))]
    for order in (*random_orders(random), *demo_orders(baskets), *recorded):
        sys.stdout.buffer.write(order.line(_end(order)))


def _end(order: RecordedOrder) -> datetime:
    return datetime.fromisoformat(order.inputs[-1].at)


if __name__ == "__main__":
    asyncio.run(main())
