"""What holds in every state of every order, whatever is asked and however the outside world is.

Random commands, with random answers of the outside calls in between: yes, no, none, late, twice.
"""

from __future__ import annotations

import json
from random import Random

from hypothesis import event as noted
from hypothesis import given, target
from hypothesis import strategies as st

from orders import events as e
from orders import ledger
from orders import steps as o
from orders.commands import COMMAND_TYPES, type_of
from orders.events import EVENT_TYPES, OrderEvent
from orders.evolve import fold
from orders.lifecycle import Status
from orders.order import Order
from orders.rules.process import is_finished
from orders.steps import RESULT_TYPES
from orders.upcasting import restore, stored_data
from tests.support.given import thoroughly
from tests.support.random_orders import Life, a_contradiction, an_answer, some_command

# Each number is the dice for one thing that happens: leave one out, and the others stay.
DICE = st.integers(0, 2**32 - 1)
PAYMENT = (o.Authorise, o.Capture, o.Void, o.Refund)
MOVES = st.lists(DICE, min_size=10, max_size=100)


def lived(beginning: int, moves: list[int]) -> Life:
    """A life in which every rule was checked at every moment."""
    life = Life(after_event=check_order, after_message=check_life)
    life.begin(Random(beginning))
    for move in moves:
        life.go_on(Random(move))
    return life


@thoroughly
@given(DICE, MOVES)
def test_every_rule_holds_in_every_state_and_every_order_comes_to_an_end(
    beginning: int, moves: list[int]
) -> None:
    life = lived(beginning, moves)
    noted(f"from {life.order.status}")
    target(len({event.type for event in life.events}), label="kinds of event")
    assert fold(life.events) == life.order

    life.end()

    assert is_finished(life.order)
    assert fold(life.events) == life.order
    for event in life.events:
        data = json.loads(json.dumps(stored_data(event)))
        assert None not in data.values()
        assert restore(event.type, event.schema_version, data) == event


@thoroughly
@given(DICE, MOVES)
def test_when_everybody_says_yes_from_now_on_nothing_stays_pending(
    beginning: int, moves: list[int]
) -> None:
    life = lived(beginning, moves)
    was_cancelling = life.order.status is Status.CANCELLING

    life.settle()

    assert not life.order.steps
    if was_cancelling:
        assert life.order.status in (Status.CANCELLED, Status.CONFIRMED)


def test_these_lives_come_everywhere() -> None:
    """Otherwise the properties above would say little."""
    statuses, events, commands, results = set[str](), set[str](), set[str](), set[str]()
    for number in range(200):
        dice = Random(number)
        life = lived(number, [dice.getrandbits(32) for _ in range(80)])
        statuses |= life.statuses
        events |= {event.type for event in life.events}
        commands |= {command.type for command in life.obeyed}
        results |= {result.type for result in life.heard}
    assert statuses == {*Status} - {Status.NEW}
    for number in range(200):
        unruly = contradicted(number, [Random(f"{number}, {n}").getrandbits(32) for n in range(80)])
        events |= {event.type for event in unruly.events}
        commands |= {command.type for command in unruly.obeyed}
        results |= {result.type for result in unruly.heard}
    assert commands == {type_of(command) for command in COMMAND_TYPES}
    assert events == {event.model_fields["type"].default for event in EVENT_TYPES}
    assert results == {result.model_fields["type"].default for result in RESULT_TYPES}


def contradicted(beginning: int, moves: list[int]) -> Life:
    """A life whose services also report what contradicts the order, and people settle it."""

    def check(order: Order, event: OrderEvent) -> None:
        check_money(order)
        check_pieces(order)

    life = Life(after_event=check, after_message=lambda life: None)
    life.begin(Random(beginning))
    for move in moves:
        dice = Random(move)
        steps, chance = list(life.order.steps.values()), dice.random()
        if steps and chance < 0.4:
            life.tell(an_answer(dice.choice(steps), dice))
        elif life.order.is_priced and chance < 0.7:
            life.tell(a_contradiction(life, dice))
        elif chance < 0.75:
            life.pass_deadline()
        else:
            life.tell(some_command(life, dice))
    return life


@thoroughly
@given(DICE, MOVES)
def test_money_and_pieces_add_up_whatever_services_report(beginning: int, moves: list[int]) -> None:
    life = contradicted(beginning, moves)
    assert fold(life.events) == life.order
    for event in life.events:
        data = json.loads(json.dumps(stored_data(event)))
        assert restore(event.type, event.schema_version, data) == event


# What is checked


def check_order(order: Order, event: OrderEvent) -> None:
    """After every single event."""
    check_money(order)
    check_pieces(order)
    check_event(order, event)


def check_event(order: Order, event: OrderEvent) -> None:
    """What is claimed is something, and there for the taking."""
    settled = not any(shipment.may_ship_excess for shipment in order.shipments.values())
    match event:
        case e.CaptureRequested() | e.AuthorisationRequested() | e.AdvanceCaptureRequested():
            assert event.amount > 0
        case e.RefundRequested(amount=amount):
            assert amount > 0
            assert settled, "what may still leave may still have to be paid"
        case e.StockReleaseRequested():
            assert settled, "what may still leave must stay reserved"
            if order.status is Status.CANCELLING:
                assert ledger.net_captured(order) == ledger.capturable(order) == 0, (
                    "money comes first"
                )
                assert not any(isinstance(step, PAYMENT) for step in order.steps.values())
        case e.OrderCancellationOvertaken(lines=lines) | e.LinesCancellationOvertaken(lines=lines):
            assert all(part.quantity > 0 for part in lines)
        case e.ShipmentCreated(lines=lines):
            assert lines
            assert not ledger.to_authorise(order), "nothing is sent that is not paid for"


def check_life(life: Life) -> None:
    """After every message, and what the order decided by itself upon it."""
    order = life.order
    if order.status in (Status.CANCELLED, Status.EXPIRED) or is_finished(order):
        check_end(life)
    if order.status is Status.AWAITING_CUSTOMER:
        undecided = ledger.to_authorise(order) if order.awaiting == "payment" else order.missing()
        assert undecided, "nobody is asked what needs no answer"
    elif order.status is not Status.ON_HOLD:
        assert order.awaiting is None
    for key, line in order.lines.items():
        assert line.quantity <= life.ordered[key], "a customer pays only for what they asked for"
        assert life.world.left[key] <= life.ordered[key]
    if not order.steps and not life.post:
        check_books(life)
        check_nothing_is_forgotten(order)


def check_nothing_is_forgotten(order: Order) -> None:
    """When nobody is asked anything any more, a person or a deadline has to act."""
    assert order.status not in (Status.PLACED, Status.CANCELLING)
    if order.status is not Status.CONFIRMED:
        return
    assert ledger.net_captured(order) == ledger.due(order)
    assert not ledger.to_authorise(order)
    for key, line in order.lines.items():
        assert line.unshipped == line.reserved_quantity == order.planned(key)


def check_money(order: Order) -> None:
    for promise in order.authorisations.values():
        assert 0 <= promise.captured <= promise.capture_requested <= promise.amount
        assert 0 <= promise.refunded <= promise.refund_requested <= promise.captured
    assert ledger.refunded(order) <= ledger.captured(order) <= ledger.authorised(order)
    if order.is_priced:
        worth = order.price_of({key: line.quantity for key, line in order.lines.items()})
        shares = sum(line.discount_share for line in order.lines.values())
        assert worth == order.subtotal - shares + order.shipping_charge


def check_pieces(order: Order) -> None:
    for line in order.lines.values():
        assert 0 <= line.shipped <= line.quantity - line.cancelled
        assert 0 <= line.returned <= line.delivered <= line.shipped
        assert line.cancelled >= 0
        assert all(n > 0 for n in line.reserved.values())
        parts = [line.price_of(n + 1) - line.price_of(n) for n in range(line.quantity)]
        assert sum(parts) == line.total - line.discount_share
        assert min(parts) >= 0


def check_end(life: Life) -> None:
    """An order that has ended holds no stock, and no money that is not due."""
    order, world = life.order, life.world
    assert not any(line.reserved for line in order.lines.values())
    assert not ledger.capturable(order)
    assert ledger.net_captured(order) == (kept(order) if order.status is Status.COMPLETED else 0)
    assert is_finished(order) or order.status is Status.COMPLETED
    if is_finished(order):
        assert not world.held()
        assert world.taken() == ledger.net_captured(order)
        assert all(p.voided or p.captured == p.amount for p in world.promises.values())
        assert not any(parcel.status == "booked" for parcel in world.parcels.values())


def kept(order: Order) -> int:
    """What the pieces that were delivered and not returned cost, less what was for goodwill."""
    pieces = sum(line.price_of(line.delivered - line.returned) for line in order.lines.values())
    return max(0, order.shipping_charge + pieces - order.goodwill)


def check_books(life: Life) -> None:
    """When nobody is asked anything any more, the order and its world agree."""
    order, world = life.order, life.world
    assert {
        key: (promise.amount, promise.captured, promise.refunded, promise.closed)
        for key, promise in order.authorisations.items()
    } == {
        key: (promise.amount, promise.captured, promise.refunded, promise.voided)
        for key, promise in world.promises.items()
    }
    held = {
        (key, place): n for key, line in order.lines.items() for place, n in line.reserved.items()
    }
    assert held == world.held()
    known = {"planned": "booked", "stopped": "stopped"}
    for key, shipment in order.shipments.items():
        parcel = world.parcels.get(key)
        if shipment.confirmed_lines and parcel:
            assert parcel.status == known.get(shipment.status, "left")
            assert parcel.status == "stopped" or parcel.lines == shipment.lines
        else:  # The carrier hears of it when the order is released.
            assert shipment.status == "stopped" or order.status is Status.ON_HOLD
    left = {key: line.shipped + failed(order, key) for key, line in order.lines.items()}
    assert {key: n for key, n in left.items() if n} == dict(world.left)


def failed(order: Order, line_id: str) -> int:
    shipments = order.shipments.values()
    return sum(s.lines.get(line_id, 0) for s in shipments if s.status == "failed")
