"""Which command an order allows when; and that no command, result or event is forgotten."""

from __future__ import annotations

from datetime import datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dev.random_orders import RandomOrder
from orders import commands as c
from orders.commands import COMMAND_TYPES, OrderCommand, Role, type_of
from orders.decider import allowed_commands, decide
from orders.events import EVENT_TYPES, ClientIdentified, OrderEvent
from orders.lifecycle import Status
from orders.order import Order
from orders.rules.checks import CommandRejected
from orders.steps import RESULT_TYPES, Capture, RefundFailed, ShipmentDeparted, StepFailed
from tests.support.contradictions import contradicted_order
from tests.support.given import (
    NOW,
    Given,
    bagels_added,
    cancelled,
    opened,
    placed,
    tuna_added,
)
from tests.support.given import given as given_events
from tests.support.order_fixtures import (
    BAGELS,
    NEWS,
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_completed_order,
    a_declined_order,
    a_draft,
    a_half_sent_order,
    a_held_order,
    a_placed_order,
    a_short_order,
    an_expired_order,
)
from tests.support.payloads import payloads

ORDERS = 25

SCENES: dict[Status, Given] = {
    Status.NEW: given_events(),
    Status.DRAFT: a_draft.having(c.ApplyDiscount(discount_id="welcome", amount=1)),
    Status.PLACED: a_placed_order,
    Status.AWAITING_CUSTOMER: a_declined_order,
    Status.CONFIRMED: a_half_sent_order,
    Status.ON_HOLD: a_held_order,
    Status.CANCELLING: a_cancelling_order,
    Status.COMPLETED: a_completed_order,
    Status.CANCELLED: a_cancelled_order,
    Status.EXPIRED: an_expired_order,
}
SETTLING = ("retry-step", "settle-step", "resolve-discrepancy")
GOING_ON = ("hold-order", "cancel-order", "cancel-lines", "amend-order", *SETTLING)
SENT = (
    *("refund-payment", "confirm-delivery", "report-delivery-failure"),
    *("request-return", "approve-return", "reject-return", "receive-return"),
)
ALREADY_SO = {
    (Status.PLACED, c.ReleaseOrder),
    (Status.AWAITING_CUSTOMER, c.ReleaseOrder),
    (Status.CONFIRMED, c.ReleaseOrder),
    (Status.CANCELLING, c.ReleaseOrder),
    (Status.COMPLETED, c.ReleaseOrder),
    (Status.CANCELLED, c.ReleaseOrder),
    (Status.ON_HOLD, c.HoldOrder),
    (Status.CANCELLING, c.CancelOrder),
    (Status.CANCELLED, c.CancelOrder),
    (Status.COMPLETED, c.DispatchShipment),
    (Status.COMPLETED, c.ConfirmDelivery),
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("command", NEWS, ids=lambda command: type(command).__name__)
def test_order_accepts_the_commands_of_its_status_only(
    status: Status, command: OrderCommand
) -> None:
    order = SCENES[status].order
    assert order.status is status
    answer = result_of(order, command)
    if (status, type(command)) in ALREADY_SO:
        assert answer == "already so"
    elif status in command.allowed_in:
        # It may still break a rule of its own, which the rejection names.
        assert answer not in ("already so", "not-allowed-now")
    else:
        assert answer == "not-allowed-now"


def result_of(order: Order, command: OrderCommand, now: datetime = NOW) -> str:
    try:
        return "accepted" if decide(command, order, now) else "already so"
    except CommandRejected as no:
        return no.code


def admitted_in(status: Status) -> list[str]:
    return sorted(type_of(kind) for kind in COMMAND_TYPES if status in kind.allowed_in)


def test_allowed_commands_by_status() -> None:
    writing = ["add-note", "set-shipping-address", "set-billing-address"]
    assert {status: admitted_in(status) for status in Status} == {
        status: sorted(commands)
        for status, commands in {
            Status.NEW: ["open-order"],
            Status.DRAFT: [
                *writing,
                *("add-item-to-order", "change-item-quantity", "remove-item-from-order"),
                *("apply-discount", "remove-discount", "set-shipping-charge"),
                *("place-order", "cancel-order", "resolve-discrepancy"),
            ],
            Status.PLACED: [*writing, *GOING_ON],
            Status.AWAITING_CUSTOMER: [
                *(*writing, *GOING_ON, "accept-shortfall", "retry-payment", *SENT)
            ],
            Status.CONFIRMED: [
                *(*writing, *GOING_ON, *SENT),
                *("capture-payment", "create-shipment", "dispatch-shipment"),
            ],
            Status.ON_HOLD: [
                *(*writing, *SENT),
                *("release-order", "cancel-order", "cancel-lines", *SETTLING),
            ],
            Status.CANCELLING: ["add-note", *SETTLING],
            Status.COMPLETED: ["add-note", "refund-payment", *SETTLING],
            Status.CANCELLED: ["add-note", *SETTLING],
            Status.EXPIRED: ["add-note", "resolve-discrepancy"],
        }.items()
    }


def test_commands_for_customers() -> None:
    """Prices are the shop's; so are quantities in a draft, as discount and tax are for all of it.

    A confirmed delivery opens the return window, a failed one refunds: both are the shop's, too.
    """
    assert {type_of(kind) for kind in COMMAND_TYPES if kind.role is Role.CUSTOMER} == {
        *("open-order", "set-shipping-address", "set-billing-address", "add-note", "place-order"),
        *("cancel-order", "cancel-lines", "accept-shortfall", "retry-payment", "request-return"),
    }


def test_decision_is_offered_only_while_it_is_awaited() -> None:
    assert "accept-shortfall" in allowed_commands(a_short_order.order)
    assert "retry-payment" not in allowed_commands(a_short_order.order)
    assert "retry-payment" in allowed_commands(a_declined_order.order)
    assert "accept-shortfall" not in allowed_commands(a_declined_order.order)


def test_order_without_a_policy_has_no_fulfilment() -> None:
    draft = given_events(opened, bagels_added, tuna_added)
    for past, allowed in (
        (draft, set(admitted_in(Status.DRAFT)) - {"resolve-discrepancy", "remove-discount"}),
        (
            draft.having(c.PlaceOrder()),
            {"set-shipping-address", "set-billing-address", "add-note", "cancel-order"},
        ),
        (given_events(opened, bagels_added, cancelled), {"add-note"}),
    ):
        assert set(allowed_commands(past.order)) == allowed
        assert past.order.steps == {}
    given_events(opened, bagels_added, placed).when(c.HoldOrder()).then_rejected(
        "hold-order is not allowed while the order is placed", code="not-allowed-now"
    )


def test_commands_that_settle_something_are_offered_only_while_there_is_something() -> None:
    assert not offered_to_settle(a_booked_order.order)
    waiting = a_booked_order.having(c.DispatchShipment(shipment_id=BAGELS))
    assert offered_to_settle(waiting.order) == {"settle-step"}
    key = waiting.owed(Capture)
    stuck = waiting.having(StepFailed(step_id=key, reason="no answer"))
    assert offered_to_settle(stuck.order) == {"settle-step", "retry-step"}
    contradicted = a_cancelled_order.having(ShipmentDeparted(shipment_id=BAGELS))
    assert offered_to_settle(contradicted.order) == {"resolve-discrepancy"}
    failed = contradicted.having(RefundFailed(step_id="elsewhere", reason="account closed"))
    assert offered_to_settle(failed.order) == {"resolve-discrepancy"}


def offered_to_settle(order: Order) -> set[str]:
    return set(SETTLING) & set(allowed_commands(order))


SEEDS = st.integers(0, 10**9)
MOVES = st.lists(SEEDS, max_size=60)


@given(SEEDS, MOVES)
def test_command_is_offered_exactly_if_some_payload_is_accepted(
    start: int, moves: list[int]
) -> None:
    """However services behave; random orders also check each command that people send."""
    for random in (kept_order(start, moves), contradicted_order(start, moves, unchecked)):
        assert set(allowed_commands(random.order)) == accepted_types(random.order, random.now)


def accepted_types(order: Order, now: datetime) -> set[str]:
    """The types of command of which a payload changes the order."""
    return {
        type_
        for type_ in map(type_of, COMMAND_TYPES)
        if any(result_of(order, command, now) == "accepted" for command in payloads(type_, order))
    }


def kept_order(start: int, moves: list[int]) -> RandomOrder:
    """An order whose services keep their word."""
    random = RandomOrder()
    random.start(Random(start))
    for move in moves:
        random.move(Random(move))
    return random


def unchecked(order: Order, event: OrderEvent) -> None: ...


def test_every_set_of_offers_of_random_orders_is_exact() -> None:
    """Also in the middle of their lives; and each command is offered in some."""
    assert set(allowed_commands(Order())) == accepted_types(Order(), NOW) == {"open-order"}
    seen: set[frozenset[str]] = set()

    def check(random: RandomOrder) -> None:
        offered = frozenset(allowed_commands(random.order))
        if offered not in seen:
            seen.add(offered)
            assert offered == accepted_types(random.order, random.now)

    for number in range(ORDERS):
        random, dice = RandomOrder(after_message=check), Random(number)
        random.start(dice)
        for _ in range(60):
            random.move(dice)
    types = {type_of(kind) for kind in COMMAND_TYPES} - {"open-order"}
    assert frozenset().union(*seen) == types
    assert frozenset.intersection(*seen) == {"add-note"}


def test_every_command_event_and_status_is_covered() -> None:
    assert {type(command) for command in NEWS} == set(COMMAND_TYPES)
    own = {
        kind for kind in OrderCommand.__subclasses__() if kind.__module__ == OrderCommand.__module__
    }
    assert set(COMMAND_TYPES) == own
    assert len({type_of(command) for command in COMMAND_TYPES}) == len(COMMAND_TYPES)
    assert set(EVENT_TYPES) | {ClientIdentified} == {
        *OrderEvent.__subclasses__(),
        *ClientIdentified.__subclasses__(),
    }
    assert set(SCENES) == set(Status)
    tags = [kind.model_fields["type"].default for kind in (*RESULT_TYPES, *COMMAND_TYPES)]
    assert len(set(tags)) == len(tags), "commands and results share one place in an instruction"
