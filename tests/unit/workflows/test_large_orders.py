"""A large order lives to its end, and the work of each command grows no faster than the order.

Work is counted in function calls, which are the same on every machine. The SDK gives a workflow
task two seconds.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from types import FrameType
from typing import Any

import pytest

from eventlog.envelope import bytes_of
from orders import commands as c
from orders import steps as o
from orders.commands import LineQuantity, OrderCommand
from orders.decider import Message, decide_all
from orders.events import OrderEvent
from orders.lifecycle import Status
from orders.order import Order
from orders.policy import Policy
from orders.rules import process
from tests.support.given import NOW, Given, yes
from tests.support.order_fixtures import passed
from workflows import capacity, command_handler
from workflows.command_handler import EVENTS_BYTES_MAX, Rejected, decide_batch
from workflows.messages import BATCH_TOO_LARGE, CommandBatch

# Of one message: for each line and shipment, and besides. Most messages need far fewer.
CALLS_PER_PART_MAX = 300
CALLS_MAX = 2_000
PIECES = 1_000  # Of each line.
NOTES = [c.AddNote(note_id=str(number), text="hi") for number in range(20)]
HOLDS = [c.HoldOrder(), c.ReleaseOrder()] * 10
CAPTURES = [c.CapturePayment(capture_id=str(number), amount=1) for number in range(20)]


@contextmanager
def counting() -> Iterator[list[int]]:
    """Counts the function calls inside, in Python and in C.

    The garbage of other tests waits: its finalizers call functions, too.
    """
    calls = [0]

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        calls[0] += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        gc.enable()


def send(order: Order, *messages: Message) -> Order:
    """The order after a batch, which an order of the workflow would have room for."""
    batch = CommandBatch(commands=[*messages], actor="operator:ann", payload_hash="", attempt_id="")
    with counting() as calls:
        _events, after, unpublished = decide_batch(batch, order, "id", NOW)
    parts = len(after.lines) + len(after.shipments)
    most = CALLS_MAX + CALLS_PER_PART_MAX * parts
    assert calls[0] <= most * len(messages), f"{calls[0]} calls for {messages[0].type}"
    size = capacity.size_of(after)
    assert capacity.shortage(batch, after, size, unpublished) is None
    return after


def settled(order: Order) -> Order:
    while order.steps:
        order = send(order, yes(next(iter(order.steps.values()))))
    return order


def item(number: int) -> c.AddItemToOrder:
    return c.AddItemToOrder(
        line_id=f"line-{number}", sku=f"sku-{number}", title="T", quantity=PIECES, unit_price=100
    )


def draft(lines: int) -> Order:
    order = send(Order(), c.OpenOrder(customer_id="900", currency="USD", policy=Policy()))
    for first in range(0, lines, 200):
        order = send(order, *(item(number) for number in range(first, min(lines, first + 200))))
    return order


@cache
def confirmed(lines: int) -> Order:
    order = settled(send(draft(lines), c.PlaceOrder(payment_method="pm_card")))
    assert order.status is Status.CONFIRMED
    return order


def pieces(lines: int, quantity: int = 1) -> list[LineQuantity]:
    """Some of each of the first lines."""
    return [LineQuantity(line_id=f"line-{n}", quantity=quantity) for n in range(lines)]


def shipped(shipments: int) -> Order:
    """An order of two lines with many planned shipments of one piece."""
    order = send(confirmed(2), c.SetShippingAddress(address="sealed.a"))
    for number in range(shipments):
        create = c.CreateShipment(shipment_id=f"parcel-{number}", lines=pieces(1))
        order = settled(send(order, create))
    return order


@pytest.mark.parametrize("lines", [400, pytest.param(4_000, marks=pytest.mark.soak)])
def test_order_of_many_lines_is_shipped_returned_and_completed(lines: int) -> None:
    order = confirmed(lines)
    cancel = c.CancelLines(cancellation_id="a", lines=pieces(min(lines, 500), PIECES // 2))
    order = settled(send(order, cancel))
    change: list[c.Change] = [c.ChangeLine(line_id=f"line-{n}", unit_price=101) for n in range(100)]
    order = settled(send(order, c.AmendOrder(amendment_id="b", changes=change)))
    order = settled(send(order, c.SetShippingAddress(address=f"sealed.{'a' * 1_000}")))
    for key in order.shipments:
        order = settled(send(order, c.DispatchShipment(shipment_id=key)))
        order = send(order, c.ConfirmDelivery(shipment_id=key))
    some = pieces(min(lines, 500), 3)
    order = send(order, c.RequestReturn(return_id="r", lines=some))
    order = send(order, c.ApproveReturn(return_id="r"))
    receive = c.ReceiveReturn(receipt_id="p", return_id="r", lines=some, condition="sellable")
    order = settled(send(order, receive))
    assert passed(Given(order)).order.status is Status.COMPLETED


@pytest.mark.parametrize("lines", [400, pytest.param(4_000, marks=pytest.mark.soak)])
def test_order_of_many_lines_is_cancelled(lines: int) -> None:
    order = settled(send(confirmed(lines), c.CancelOrder()))
    assert order.status is Status.CANCELLED


@pytest.mark.parametrize("shipments", [120, pytest.param(500, marks=pytest.mark.soak)])
def test_order_of_many_shipments_is_rebooked_and_cancelled(shipments: int) -> None:
    order = shipped(shipments)
    order = send(order, c.SetShippingAddress(address="sealed.b"))
    assert order.count_steps(o.Book) == process.BOOKINGS_AT_ONCE
    order = settled(order)
    assert not any(shipment.needs_rebooking for shipment in order.shipments.values())
    order = settled(send(order, c.CancelOrder()))
    assert order.status is Status.CANCELLED


@pytest.mark.parametrize("commands", [NOTES, HOLDS, CAPTURES], ids=lambda them: them[0].type)
def test_command_that_changes_no_line_costs_the_same_on_a_larger_order(
    commands: list[OrderCommand],
) -> None:
    small, large = (calls_for(confirmed(lines), commands) for lines in (50, 400))
    assert large < 1.1 * small


@pytest.mark.parametrize(
    "command",
    [
        lambda n: c.CancelLines(cancellation_id=str(n), lines=pieces(1)),
        lambda n: c.AddNote(note_id=str(n), text="hi"),
    ],
)
def test_twice_as_many_commands_cost_twice_as_much(command: Callable[[int], OrderCommand]) -> None:
    order = confirmed(10)
    few, many = (calls_for(order, [command(n) for n in range(count)]) for count in (41, 81))
    assert many < 2.2 * few


def calls_for(order: Order, commands: list[OrderCommand]) -> int:
    """The calls of deciding on commands one after the other; the first two are not counted.

    Orders of other tests come from the same one, so these look at the whole order again: a hold at
    some of it, its release at the rest.
    """
    for command in commands[:2]:
        order = decide_batch(alone(command), order, "id", NOW).order
    with counting() as calls:
        for command in commands[2:]:
            order = decide_batch(alone(command), order, "id", NOW).order
    return calls[0]


def alone(command: OrderCommand) -> CommandBatch:
    return CommandBatch(commands=[command], actor="a", payload_hash="", attempt_id="")


def test_batch_that_causes_too_many_events_is_rejected_before_all_is_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decided: list[Message] = []

    def decide_and_note(
        messages: Sequence[Message], order: Order, now: datetime
    ) -> tuple[list[tuple[Message, OrderEvent]], Order]:
        decided.extend(messages)
        return decide_all(messages, order, now)

    order = confirmed(400)  # It is decided, too: before the decisions are noted.
    monkeypatch.setattr(command_handler, "decide_all", decide_and_note)
    some = [c.CancelLines(cancellation_id=str(n), lines=pieces(1)) for n in range(600)]
    batch = CommandBatch(commands=some, actor="a", payload_hash="", attempt_id="")
    with pytest.raises(Rejected) as rejected:
        decide_batch(batch, order, "id", NOW)
    rejection = rejected.value.rejection
    assert rejection.code == BATCH_TOO_LARGE
    assert decided == some[: rejection.index + 1]
    fits = batch.model_copy(update={"commands": some[: rejection.index]})
    events = decide_batch(fits, order, "id", NOW).events
    assert EVENTS_BYTES_MAX * 0.9 < bytes_of(events) <= EVENTS_BYTES_MAX


def test_size_of_events_is_in_bytes_whatever_their_script() -> None:
    """Temporal's limits are in bytes, of which a bagel has four."""
    notes = [c.AddNote(note_id=str(number), text="🥯" * 1_000) for number in range(200)]
    batch = CommandBatch(commands=[*notes], actor="a", payload_hash="", attempt_id="")
    with pytest.raises(Rejected) as rejected:
        decide_batch(batch, confirmed(1), "id", NOW)
    assert rejected.value.rejection.code == BATCH_TOO_LARGE
    fits = batch.model_copy(update={"commands": notes[:100]})
    decided = decide_batch(fits, confirmed(1), "id", NOW)
    assert decided.size == len("".join(e.model_dump_json() for e in decided.events).encode())
