"""Invariants of every order in every state, whatever the commands and the results of services.

Random commands are mixed with random results: done, declined, none, late, repeated.
"""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import get_args

import pytest
from hypothesis import event as noted
from hypothesis import given, target
from hypothesis import strategies as st

from dev.random_orders import RandomOrder
from orders import events as e
from orders import ledger
from orders import steps as o
from orders.commands import COMMAND_TYPES
from orders.events import EVENT_TYPES, OrderEvent
from orders.evolve import fold
from orders.lifecycle import Status
from orders.order import Order
from orders.rules import process
from orders.rules.process import is_finished
from orders.steps import RESULT_TYPES
from orders.upcasting import restore, stored_data
from tests.support.contradictions import contradicted_order

# Each number is the seed of one move: without one of them, the others stay the same.
SEEDS = st.integers(0, 2**32 - 1)
MOVES = st.lists(SEEDS, min_size=10, max_size=100)
PAYMENT_STEPS = (o.Authorise, o.Capture, o.Void, o.Refund)


def random_order(start: int, moves: list[int]) -> RandomOrder:
    """An order whose invariants were checked after every event and message."""
    order = RandomOrder(after_event=check_event_and_order, after_message=check_message)
    order.start(Random(start))
    for move in moves:
        order.move(Random(move))
    return order


@given(SEEDS, MOVES)
def test_invariants_hold_in_every_state_and_every_order_can_finish(
    start: int, moves: list[int]
) -> None:
    random = random_order(start, moves)
    noted(f"from {random.order.status}")
    target(len({event.type for event in random.events}), label="event types")
    assert fold(random.events) == random.order

    random.finish()

    assert is_finished(random.order)
    assert fold(random.events) == random.order
    check_events_can_be_stored(random)


def test_invariants_hold_when_few_steps_are_requested_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here one booking and one stop at a time: the next ones follow by themselves."""
    monkeypatch.setattr(process, "BOOKINGS_AT_ONCE", 1)
    monkeypatch.setattr(process, "STOPS_AT_ONCE", 1)
    waiting: set[str] = set()

    def check(random: RandomOrder) -> None:
        check_message(random)
        if random.order.status is Status.CONFIRMED and random.order.owes(o.Book, o.Stop):
            shipments = random.order.shipments.values()
            waiting.update(s.shipment_id for s in shipments if s.needs_rebooking and s.can_depart)

    for number in range(40):
        random, dice = RandomOrder(check_event_and_order, check), Random(number)
        random.start(dice)
        for _ in range(60):
            random.move(dice)
        random.finish()
        assert is_finished(random.order)
    assert waiting


@given(SEEDS, MOVES)
def test_no_step_stays_pending_once_all_services_work(start: int, moves: list[int]) -> None:
    random = random_order(start, moves)
    was_cancelling = random.order.status is Status.CANCELLING

    random.settle()

    assert not random.order.steps
    if was_cancelling:
        assert random.order.status in (Status.CANCELLED, Status.CONFIRMED)


@given(SEEDS, MOVES)
def test_money_and_pieces_add_up_whatever_services_report(start: int, moves: list[int]) -> None:
    random = contradicted_order(start, moves, check_amounts)
    assert fold(random.events) == random.order
    check_events_can_be_stored(random)


def test_random_orders_reach_every_status_command_event_and_result() -> None:
    """Otherwise the properties above would say little."""
    missing: set[str] = {*Status} - {Status.NEW}
    for kinds in (COMMAND_TYPES, EVENT_TYPES, RESULT_TYPES):
        missing |= {kind.model_fields["type"].default for kind in kinds}
    for number in range(200):
        dice = Random(number)
        moves = [dice.getrandbits(32) for _ in range(80)]
        random = random_order(number, moves)
        contradicted = contradicted_order(number, moves, check_amounts)
        missing -= random.statuses
        for one in (random, contradicted):
            missing -= {message.type for message in (*one.accepted, *one.events, *one.results)}
        if not missing:
            break
    assert missing == set()


# Checks


def check_events_can_be_stored(random: RandomOrder) -> None:
    for event in random.events:
        data = json.loads(json.dumps(stored_data(event)))
        assert None not in data.values()
        assert restore(event.type, event.schema_version, data) == event


# After every event


def check_event_and_order(order: Order, event: OrderEvent) -> None:
    check_amounts(order, event)
    check_event(order, event)


def check_amounts(order: Order, event: OrderEvent) -> None:
    check_money(order)
    check_pieces(order)
    assert remembered(order) == remembered(replace(order))


def remembered(order: Order) -> tuple[object, ...]:
    """What an order remembers from earlier versions; a copy by `replace` computes it again."""
    waits = {kind for kind in get_args(o.AnyStep) if order.owes(kind)}
    return order.sums, order.planned_pieces, order.may_ship_excess, order.stock_locations(), waits


def check_event(order: Order, event: OrderEvent) -> None:
    """A request claims something, and what it claims is free."""
    match event:
        case e.CaptureRequested() | e.AuthorisationRequested() | e.AdvanceCaptureRequested():
            assert event.amount > 0
        case e.RefundRequested(amount=amount):
            assert amount > 0
            assert not order.may_ship_excess, "pieces that may still leave may have to be paid"
        case e.StockReleaseRequested():
            assert not order.may_ship_excess, "pieces that may still leave must stay reserved"
            if order.status is Status.CANCELLING:
                assert ledger.net_captured(order) == 0, "money is settled before stock"
                assert ledger.capturable(order) == 0, "money is settled before stock"
                assert not order.owes(*PAYMENT_STEPS)
        case e.OrderCancellationOvertaken(lines=lines) | e.LinesCancellationOvertaken(lines=lines):
            assert all(part.quantity > 0 for part in lines)
        case e.ShipmentCreated(lines=lines):
            assert lines
            assert not ledger.to_authorise(order), "only paid pieces are shipped"


def check_money(order: Order) -> None:
    for authorisation in order.authorisations.values():
        assert 0 <= authorisation.captured <= authorisation.capture_requested
        assert authorisation.capture_requested <= authorisation.amount
        assert 0 <= authorisation.refunded <= authorisation.refund_requested
        assert authorisation.refund_requested <= authorisation.captured
    assert ledger.refunded(order) <= ledger.captured(order) <= ledger.authorised(order)
    if order.is_priced:
        price = sum(line.price_of(line.quantity) for line in order.lines.values())
        shares = sum(line.discount_share for line in order.lines.values())
        assert price + order.shipping_charge == order.subtotal - shares + order.shipping_charge


def check_pieces(order: Order) -> None:
    for line in order.lines.values():
        assert 0 <= line.shipped <= line.quantity - line.cancelled
        assert 0 <= line.returned <= line.delivered <= line.shipped
        assert line.cancelled >= 0
        assert all(n > 0 for n in line.reserved.values())
        prices = [line.price_of(n) for n in range(line.quantity + 1)]
        assert prices == sorted(prices)
        assert (prices[0], prices[-1]) == (0, line.total - line.discount_share)


# After every message, with the events that the order added by itself


def check_message(random: RandomOrder) -> None:
    order = random.order
    if order.status in (Status.CANCELLED, Status.EXPIRED) or is_finished(order):
        check_ended(random)
    if order.status is Status.AWAITING_CUSTOMER:
        is_payment = order.awaiting == "payment"
        undecided = ledger.to_authorise(order) if is_payment else order.missing()
        assert undecided, "a decision is awaited that is not needed"
    elif order.status is not Status.ON_HOLD:
        assert order.awaiting is None
    for key, line in order.lines.items():
        assert line.quantity <= random.ordered[key], "a customer pays for pieces never ordered"
        assert random.services.left[key] <= random.ordered[key]
    if not order.steps and not random.departures:
        check_services_agree(random)
        check_nothing_is_forgotten(order)


def check_nothing_is_forgotten(order: Order) -> None:
    """Without a pending step, a person or a deadline has to act."""
    assert order.status not in (Status.PLACED, Status.CANCELLING)
    if order.status is not Status.CONFIRMED:
        return
    assert ledger.net_captured(order) == ledger.due(order)
    assert not ledger.to_authorise(order)
    for key, line in order.lines.items():
        assert line.unshipped == line.reserved_quantity == order.planned(key)


def check_ended(random: RandomOrder) -> None:
    """An order that has ended holds no stock, and no money but what it earned."""
    order, services = random.order, random.services
    assert not order.stock_locations()
    assert not ledger.capturable(order)
    assert ledger.net_captured(order) == (earned(order) if order.status is Status.COMPLETED else 0)
    assert is_finished(order) or order.status is Status.COMPLETED
    if is_finished(order):
        assert not services.reserved()
        assert services.net_captured() == ledger.net_captured(order)
        assert all(p.voided or p.captured == p.amount for p in services.payments.values())
        assert not services.booked_shipments()


def earned(order: Order) -> int:
    """The price of the pieces that were delivered and not returned, less goodwill."""
    pieces = sum(line.price_of(line.delivered - line.returned) for line in order.lines.values())
    return max(0, order.shipping_charge + pieces - order.goodwill)


def check_services_agree(random: RandomOrder) -> None:
    """Without a pending step, the order and the services have recorded the same."""
    order, services = random.order, random.services
    assert {
        key: (a.amount, a.captured, a.refunded, a.closed) for key, a in order.authorisations.items()
    } == {key: (p.amount, p.captured, p.refunded, p.voided) for key, p in services.payments.items()}
    reserved = {
        (key, location): n
        for key, line in order.lines.items()
        for location, n in line.reserved.items()
    }
    assert reserved == services.reserved()
    known = {"planned": "booked", "stopped": "stopped"}
    for key, shipment in order.shipments.items():
        parcel = services.parcels.get(key)
        if shipment.confirmed_lines and parcel:
            assert parcel.status == known.get(shipment.status, "left")
            assert parcel.status == "stopped" or parcel.lines == shipment.lines
        else:  # It is booked when the order is released.
            assert shipment.status == "stopped" or order.status is Status.ON_HOLD
    left = {key: line.shipped + failed(order, key) for key, line in order.lines.items()}
    assert {key: n for key, n in left.items() if n} == dict(services.left)


def failed(order: Order, line_id: str) -> int:
    shipments = order.shipments.values()
    return sum(s.lines.get(line_id, 0) for s in shipments if s.status == "failed")
