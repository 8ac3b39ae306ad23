"""What the carrier says, and its race with what is called off: exactly one of them wins."""

from __future__ import annotations

import pytest

from orders import commands as c
from orders import events as e
from orders import steps as o
from orders.events import LineCount
from orders.lifecycle import Status
from orders.steps import Piece
from tests.support.given import but
from tests.support.order_fixtures import (
    BAGELS,
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_confirmed_order,
    bagels,
    bagels_at,
    cancel,
)

one_bagel_off = c.CancelLines(cancellation_id="diet", lines=bagels(1))
two_bagels = [LineCount(line_id="bagels", quantity=2)]
bagels_gone = o.ShipmentDeparted(shipment_id=BAGELS, tracking="1Z-BAGELS")
two_were_in_it = but(bagels_gone, lines=[Piece(line_id="bagels", sku="1095275", quantity=2)])

# BookingAccepted


def test_a_booking_is_accepted() -> None:
    a_confirmed_order.when(o.BookingAccepted(step_id="book-13", tracking="1Z")).then(
        e.ShipmentBooked(shipment_id=BAGELS, step_id="book-13", tracking="1Z")
    )


def test_an_older_booking_than_the_last_that_was_asked_for_changes_nothing() -> None:
    a_confirmed_order.having(one_bagel_off).when(o.BookingAccepted(step_id="book-13")).then()


# ShipmentDeparted


def test_a_shipment_leaves_when_the_carrier_says_so() -> None:
    for word in (bagels_gone, two_were_in_it):
        a_booked_order.when(word).then(
            e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
            e.StockWithdrawalRequested(step_id="withdraw-19", held=[bagels_at("EAST", 2)]),
            e.CaptureRequested(step_id="capture-20", authorisation_id="authorise-9", amount=380),
        )


def test_what_had_left_before_it_was_called_off_is_sent_after_all() -> None:
    a_booked_order.having(one_bagel_off).when(bagels_gone).then(
        e.LinesCancellationOvertaken(lines=[LineCount(line_id="bagels", quantity=1)]),
        e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
        e.StockWithdrawalRequested(step_id="withdraw-23", held=[bagels_at("EAST", 2)]),
        e.CaptureRequested(step_id="capture-24", authorisation_id="authorise-9", amount=380),
    )


def test_what_left_as_it_was_asked_to_in_the_end_is_not_overtaken() -> None:
    in_time = but(bagels_gone, lines=[Piece(line_id="bagels", sku="1095275", quantity=1)])
    order = a_booked_order.having(one_bagel_off, in_time).settled().order
    assert (order.lines["bagels"].cancelled, order.lines["bagels"].shipped) == (1, 1)


def test_a_whole_cancellation_that_came_too_late_calls_off_the_rest_only() -> None:
    a_cancelling_order.when(bagels_gone).then(
        e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
        e.StockWithdrawalRequested(step_id="withdraw-22", held=[bagels_at("EAST", 2)]),
        e.OrderCancellationOvertaken(lines=[LineCount(line_id="tuna", quantity=1)]),
        e.CaptureRequested(step_id="capture-24", authorisation_id="authorise-9", amount=380),
    )
    order = a_cancelling_order.having(bagels_gone).settled().order
    assert (order.status, order.total) == (Status.CONFIRMED, 380)
    assert not order.lines["tuna"].reserved


def test_lines_called_off_one_by_one_and_then_the_order_may_leave_all_the_same() -> None:
    """Both were too late: the pieces count as sent, never as more than were ordered."""
    off = c.CancelLines(cancellation_id="diet", lines=bagels(2))
    order = a_booked_order.having(off, cancel, bagels_gone).settled().order
    line = order.lines["bagels"]
    assert (line.quantity, line.cancelled, line.shipped) == (2, 0, 2)
    assert order.status is Status.CONFIRMED


def test_a_carrier_takes_no_more_along_than_it_was_asked_to() -> None:
    ten = [Piece(line_id=key, sku="", quantity=10) for key in ("bagels", "tuna", "ghost")]
    a_booked_order.when(but(bagels_gone, lines=ten)).then(
        e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
        e.StockWithdrawalRequested(step_id="withdraw-19", held=[bagels_at("EAST", 2)]),
        e.DiscrepancyRecorded(
            discrepancy_id=f"more-than-planned:{BAGELS}",
            kind="more-than-planned",
            service="shipping",
            summary=f"shipment {BAGELS} left with 28 pieces that were not planned",
            fingerprint="",
        ),
        e.CaptureRequested(step_id="capture-21", authorisation_id="authorise-9", amount=380),
    )


@pytest.mark.parametrize("lines", [[], [Piece(line_id="1", sku="1095275", quantity=2)]])
def test_shipment_whose_lines_are_unknown_is_not_taken_for_an_empty_one(lines: list[Piece]) -> None:
    order = a_booked_order.having(but(bagels_gone, lines=lines)).order
    assert order.shipments == a_booked_order.order.shipments
    assert [d.kind for d in order.discrepancies.values()] == ["unknown-lines"]


def test_what_the_carrier_left_behind_is_sent_in_another_shipment() -> None:
    one = but(bagels_gone, lines=[Piece(line_id="bagels", sku="1095275", quantity=1)])
    order = a_booked_order.having(one).settled().order
    assert [s.lines["bagels"] for s in order.shipments.values() if "bagels" in s.lines] == [1, 1]
    assert order.lines["bagels"].reserved == {"EAST": 1}


def test_what_was_stopped_or_never_booked_cannot_have_left() -> None:
    split = c.CreateShipment(shipment_id="first", lines=bagels(1))
    for order, shipment_id, kind in (
        (a_booked_order.having(split), "first", "left-although-stopped"),
        (a_cancelled_order, BAGELS, "left-although-stopped"),
        (a_booked_order, "ghost", "unknown-shipment"),
    ):
        left = order.having(but(bagels_gone, shipment_id=shipment_id))
        assert [d.kind for d in left.order.discrepancies.values()] == [kind]
        assert left.order.shipments == order.order.shipments
        left.when(but(bagels_gone, shipment_id=shipment_id)).then()
