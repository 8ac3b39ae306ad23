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


def test_placed_order_requests_its_stock() -> None:
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


def test_ended_order_cannot_be_placed() -> None:
    a_cancelled_order.when(place).then_rejected(
        "place-order is not allowed while the order is cancelled", code="not-allowed-now"
    )


@pytest.mark.parametrize(
    "order", [a_placed_order, a_declined_order, a_confirmed_order, a_held_order, a_completed_order]
)
def test_repeated_place_order_changes_nothing_in_any_status(order: Given) -> None:
    order.when(place).then()
    order.when(c.PlaceOrder()).then()
    order.when(c.PlaceOrder(payment_method="pm_other")).then_rejected(
        f"place-order is not allowed while the order is {order.order.status}",
        code="not-allowed-now",
    )


# HoldOrder


def test_held_order_applies_results_and_requests_nothing() -> None:
    a_placed_order.when(hold).then(e.OrderHeld(reason="the address looks odd"))
    held = a_placed_order.having(hold).settled().order
    assert held.status is Status.ON_HOLD
    assert held.lines["bagels"].reserved == {"EAST": 2}
    assert not held.authorisations


@pytest.mark.parametrize("order", [a_draft, a_cancelling_order, a_cancelled_order])
def test_only_active_order_can_be_held(order: Given) -> None:
    order.when(hold).then_rejected(
        f"hold-order is not allowed while the order is {order.order.status}", code="not-allowed-now"
    )


def test_repeated_hold_changes_nothing() -> None:
    a_held_order.when(hold).then()


# ReleaseOrder


def test_released_order_continues() -> None:
    a_held_order.when(c.ReleaseOrder()).then(e.OrderReleased())
    reserved_meanwhile = a_placed_order.having(hold).settled()
    reserved_meanwhile.when(c.ReleaseOrder()).then(
        e.OrderReleased(),
        e.AuthorisationRequested(step_id="authorise-11", amount=400, method="pm_visa"),
    )


def test_draft_cannot_be_released() -> None:
    a_draft.when(c.ReleaseOrder()).then_rejected(
        "release-order is not allowed while the order is draft", code="not-allowed-now"
    )


@pytest.mark.parametrize(
    "order", [a_held_order, a_placed_order.having(hold), a_held_order.having(two_bagels_off)]
)
def test_repeated_release_changes_nothing(order: Given) -> None:
    order.having(c.ReleaseOrder()).when(c.ReleaseOrder()).then()


# CancelOrder


def test_cancellation_stops_shipments_then_money_then_stock() -> None:
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


def test_cancellation_awaits_the_requested_stock_to_release_it() -> None:
    a_placed_order.when(cancel).then(e.OrderCancellationRequested(reason="bought elsewhere"))
    assert a_placed_order.having(cancel).told_yes() == [
        e.StockReserved,
        e.StockReleaseRequested,
        e.StockReleased,
        e.OrderCancelled,
    ]


def test_draft_is_cancelled_at_once() -> None:
    a_draft.when(cancel).then(e.OrderCancelled(reason="bought elsewhere"))


def test_order_with_shipped_pieces_cannot_be_cancelled() -> None:
    a_half_sent_order.when(cancel).then_rejected(
        "pieces have left already; cancel the others with cancel-lines", code="already-shipped"
    )
    a_completed_order.when(cancel).then_rejected(
        "cancel-order is not allowed while the order is completed", code="not-allowed-now"
    )


def test_repeated_cancel_order_changes_nothing() -> None:
    a_cancelling_order.when(cancel).then()
    a_cancelled_order.when(c.CancelOrder(reason="for another reason")).then()


# CancelLines


def test_unshipped_pieces_are_cancelled() -> None:
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


def test_shipment_with_cancelled_pieces_is_booked_again() -> None:
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


def test_only_unshipped_pieces_can_be_cancelled() -> None:
    a_booked_order.when(but(two_bagels_off, lines=[*bagels(2), *bagels(1)])).then_rejected(
        "line bagels has 2 pieces that have not left, not 3", code="too-many-pieces", field="lines"
    )
    a_half_sent_order.when(two_bagels_off).then_rejected(
        "line bagels has 0 pieces that have not left, not 2", code="too-many-pieces", field="lines"
    )
    a_booked_order.when(
        but(two_bagels_off, lines=[c.LineQuantity(line_id="milk", quantity=1)])
    ).then_rejected("the order has no line milk", code="unknown-id", field="line_id")


def test_repeated_cancel_lines_changes_nothing() -> None:
    once = a_booked_order.having(one_bagel_off)
    once.when(one_bagel_off).then()
    once.when(two_bagels_off).then_rejected(
        "diet already exists, with other content",
        code="id-already-used",
        field="cancellation_id",
    )


# AcceptShortfall


def test_accepted_shortfall_cancels_the_missing_pieces() -> None:
    a_short_order.when(c.AcceptShortfall()).then(
        e.ShortfallAccepted(lines=[LineCount(line_id="tuna", quantity=1)]),
        e.AuthorisationRequested(step_id="authorise-11", amount=380, method="pm_visa"),
    )


def test_accepted_shortfall_of_all_pieces_cancels_the_order() -> None:
    nothing = a_placed_order.having(but(all_held, held=[]))
    ended = nothing.having(c.AcceptShortfall()).settled()
    assert ended.order.status is Status.CANCELLED


def test_only_a_shortfall_can_be_accepted() -> None:
    a_declined_order.when(c.AcceptShortfall()).then_rejected(
        "the order has no shortfall to accept", code="no-shortfall"
    )
    a_booked_order.when(c.AcceptShortfall()).then_rejected(
        "accept-shortfall is not allowed while the order is confirmed", code="not-allowed-now"
    )


def test_repeated_accept_shortfall_changes_nothing() -> None:
    accepted = a_short_order.having(c.AcceptShortfall())
    accepted.when(c.AcceptShortfall()).then()
    accepted.settled().when(c.AcceptShortfall()).then()
