"""Placing, holding, calling off: what follows, when it is refused, when it stays quiet."""

from __future__ import annotations

import pytest

from orders import commands as c
from orders import events as e
from orders.events import LineCount
from orders.lifecycle import Status
from orders.rules.checks import fingerprint
from tests.support.given import Given, but
from tests.support.order_fixtures import (
    BAGELS,
    TUNA,
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_completed_order,
    a_confirmed_order,
    a_declined_order,
    a_draft,
    a_half_sent_order,
    a_held_order,
    a_placed_order,
    a_short_order,
    all_held,
    bagels,
    cancel,
    hold,
    place,
)

two_bagels_off = c.CancelLines(cancellation_id="diet", lines=bagels(2), reason="on a diet")
one_bagel_off = but(two_bagels_off, lines=bagels(1))

# PlaceOrder


def test_placing_an_order_asks_for_its_stock() -> None:
    a_draft.when(place).then(
        e.OrderPlaced(total=400, payment_method="pm_visa"),
        e.StockRequested(
            step_id="reserve-7",
            lines=[
                LineCount(line_id="bagels", quantity=2),
                LineCount(line_id="tuna", quantity=1),
            ],
        ),
    )


def test_an_order_that_has_ended_cannot_be_placed() -> None:
    a_cancelled_order.when(place).then_rejected(
        "place-order: the order is cancelled", code="not-allowed-now"
    )


@pytest.mark.parametrize(
    "order", [a_placed_order, a_declined_order, a_confirmed_order, a_held_order, a_completed_order]
)
def test_placing_again_changes_nothing_however_far_the_order_has_come(order: Given) -> None:
    order.when(place).then()
    order.when(c.PlaceOrder()).then()
    order.when(c.PlaceOrder(payment_method="pm_other")).then_rejected(
        f"place-order: the order is {order.order.status}", code="not-allowed-now"
    )


# HoldOrder


def test_a_held_order_hears_answers_but_does_nothing_upon_them() -> None:
    a_placed_order.when(hold).then(e.OrderHeld(reason="the address looks odd"))
    held = a_placed_order.having(hold).settled().order
    assert held.status is Status.ON_HOLD
    assert held.lines["bagels"].reserved == {"EAST": 2}
    assert not held.authorisations


@pytest.mark.parametrize("order", [a_draft, a_cancelling_order, a_cancelled_order])
def test_there_is_nothing_to_hold_before_an_order_is_placed_or_when_it_ends(order: Given) -> None:
    order.when(hold).then_rejected(
        f"hold-order: the order is {order.order.status}", code="not-allowed-now"
    )


def test_holding_twice_changes_nothing() -> None:
    a_held_order.when(hold).then()


# ReleaseOrder


def test_a_released_order_goes_on_where_it_was() -> None:
    a_held_order.when(c.ReleaseOrder()).then(e.OrderReleased())
    reserved_meanwhile = a_placed_order.having(hold).settled()
    reserved_meanwhile.when(c.ReleaseOrder()).then(
        e.OrderReleased(),
        e.AuthorisationRequested(step_id="authorise-11", amount=400, method="pm_visa"),
    )


def test_a_draft_cannot_be_released() -> None:
    a_draft.when(c.ReleaseOrder()).then_rejected(
        "release-order: the order is draft", code="not-allowed-now"
    )


@pytest.mark.parametrize(
    "order", [a_held_order, a_placed_order.having(hold), a_held_order.having(two_bagels_off)]
)
def test_releasing_twice_changes_nothing(order: Given) -> None:
    order.having(c.ReleaseOrder()).when(c.ReleaseOrder()).then()


# CancelOrder


def test_a_confirmed_order_is_called_off_in_order_shipments_money_stock() -> None:
    a_booked_order.when(cancel).then(
        e.OrderCancellationRequested(reason="bought elsewhere"),
        e.ShipmentStopRequested(shipment_id=BAGELS, step_id="stop-19"),
        e.ShipmentStopRequested(shipment_id=TUNA, step_id="stop-20"),
    )
    assert a_cancelling_order.told_yes() == [
        e.ShipmentStopped,
        e.ShipmentStopped,
        e.VoidRequested,
        e.PaymentVoided,
        e.StockReleaseRequested,
        e.StockReleased,
        e.OrderCancelled,
    ]


def test_a_placed_order_waits_for_the_stock_it_asked_for_so_that_it_can_give_it_back() -> None:
    a_placed_order.when(cancel).then(e.OrderCancellationRequested(reason="bought elsewhere"))
    assert a_placed_order.having(cancel).told_yes() == [
        e.StockReserved,
        e.StockReleaseRequested,
        e.StockReleased,
        e.OrderCancelled,
    ]


def test_a_draft_is_called_off_at_once() -> None:
    a_draft.when(cancel).then(e.OrderCancelled(reason="bought elsewhere"))


def test_what_has_left_cannot_be_called_off_with_the_whole_order() -> None:
    a_half_sent_order.when(cancel).then_rejected(
        "pieces have left already; cancel the others with cancel-lines", code="already-shipped"
    )
    a_completed_order.when(cancel).then_rejected(
        "cancel-order: the order is completed", code="not-allowed-now"
    )


def test_cancelling_twice_changes_nothing() -> None:
    a_cancelling_order.when(cancel).then()
    a_cancelled_order.when(c.CancelOrder(reason="for another reason")).then()


# CancelLines


def test_pieces_that_have_not_left_can_be_called_off() -> None:
    a_booked_order.when(two_bagels_off).then(
        e.LinesCancelled(
            cancellation_id="diet",
            lines=[LineCount(line_id="bagels", quantity=2)],
            reason="on a diet",
            fingerprint=fingerprint(two_bagels_off),
        ),
        e.ShipmentStopRequested(shipment_id=BAGELS, step_id="stop-19"),
    )
    settled = a_booked_order.having(two_bagels_off).settled().order
    assert settled.status is Status.CONFIRMED
    assert settled.total == 64
    assert not settled.lines["bagels"].reserved


def test_a_shipment_of_which_pieces_are_called_off_is_booked_anew() -> None:
    a_booked_order.when(one_bagel_off).then(
        e.LinesCancelled(
            cancellation_id="diet",
            lines=[LineCount(line_id="bagels", quantity=1)],
            reason="on a diet",
            fingerprint=fingerprint(one_bagel_off),
        ),
        e.ShipmentChanged(shipment_id=BAGELS, lines=[LineCount(line_id="bagels", quantity=1)]),
        e.ShipmentBookingRequested(shipment_id=BAGELS, step_id="book-20"),
    )


def test_no_more_pieces_can_be_called_off_than_are_still_to_leave() -> None:
    a_booked_order.when(but(two_bagels_off, lines=[*bagels(2), *bagels(1)])).then_rejected(
        "line bagels has 2 pieces that have not left, not 3", code="too-many-pieces", field="lines"
    )
    a_half_sent_order.when(two_bagels_off).then_rejected(
        "line bagels has 0 pieces that have not left, not 2", code="too-many-pieces", field="lines"
    )
    a_booked_order.when(
        but(two_bagels_off, lines=[c.LineQuantity(line_id="milk", quantity=1)])
    ).then_rejected("the order has no line milk", code="unknown-id", field="line_id")


def test_calling_off_the_same_pieces_under_the_same_id_changes_nothing_more() -> None:
    once = a_booked_order.having(one_bagel_off)
    once.when(one_bagel_off).then()
    once.when(two_bagels_off).then_rejected(
        "diet already exists, with other content",
        code="id-already-used",
        field="cancellation_id",
    )


# AcceptShortfall


def test_a_customer_can_take_what_there_is() -> None:
    a_short_order.when(c.AcceptShortfall()).then(
        e.ShortfallAccepted(lines=[LineCount(line_id="tuna", quantity=1)]),
        e.AuthorisationRequested(step_id="authorise-11", amount=380, method="pm_visa"),
    )


def test_where_nothing_is_there_taking_what_there_is_cancels_the_order() -> None:
    nothing = a_placed_order.having(but(all_held, held=[]))
    ended = nothing.having(c.AcceptShortfall()).settled()
    assert ended.order.status is Status.CANCELLED


def test_there_must_be_a_shortfall_to_accept() -> None:
    a_declined_order.when(c.AcceptShortfall()).then_rejected(
        "the order has no shortfall to accept", code="no-shortfall"
    )
    a_booked_order.when(c.AcceptShortfall()).then_rejected(
        "accept-shortfall: the order is confirmed", code="not-allowed-now"
    )


def test_accepting_a_shortfall_twice_changes_nothing() -> None:
    accepted = a_short_order.having(c.AcceptShortfall())
    accepted.when(c.AcceptShortfall()).then()
    accepted.settled().when(c.AcceptShortfall()).then()
