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


def test_booking_is_accepted() -> None:
    a_confirmed_order.when(o.BookingAccepted(step_id="book-13", tracking="1Z")).then(
        e.ShipmentBooked(shipment_id=BAGELS, step_id="book-13", tracking="1Z")
    )


def test_booking_without_a_tracking_number_keeps_the_known_one() -> None:
    rebooked = a_booked_order.having(one_bagel_off)
    known = rebooked.order.shipments[BAGELS].tracking
    assert known
    accepted = o.BookingAccepted(step_id=rebooked.owed(o.Book))
    assert rebooked.having(accepted).order.shipments[BAGELS].tracking == known


def test_result_of_an_older_booking_changes_nothing() -> None:
    a_confirmed_order.having(one_bagel_off).when(o.BookingAccepted(step_id="book-13")).then()


# ShipmentDeparted


def test_reported_departure_dispatches_the_shipment() -> None:
    for word in (bagels_gone, two_were_in_it):
        a_booked_order.when(word).then(
            e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
            e.StockWithdrawalRequested(step_id="withdraw-19", held=[bagels_at("EAST", 2)]),
            e.CaptureRequested(step_id="capture-20", authorisation_id="authorise-9", amount=380),
        )


def test_pieces_that_left_before_their_cancellation_are_shipped() -> None:
    a_booked_order.having(one_bagel_off).when(bagels_gone).then(
        e.LinesCancellationOvertaken(lines=[LineCount(line_id="bagels", quantity=1)]),
        e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
        e.StockWithdrawalRequested(step_id="withdraw-23", held=[bagels_at("EAST", 2)]),
        e.CaptureRequested(step_id="capture-24", authorisation_id="authorise-9", amount=380),
    )


def test_departure_as_last_booked_overtakes_no_cancellation() -> None:
    in_time = but(bagels_gone, lines=[Piece(line_id="bagels", sku="1095275", quantity=1)])
    order = a_booked_order.having(one_bagel_off, in_time).settled().order
    assert (order.lines["bagels"].cancelled, order.lines["bagels"].shipped) == (1, 1)


def test_late_cancellation_cancels_unshipped_pieces_only() -> None:
    a_cancelling_order.when(bagels_gone).then(
        e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
        e.StockWithdrawalRequested(step_id="withdraw-22", held=[bagels_at("EAST", 2)]),
        e.OrderCancellationOvertaken(lines=[LineCount(line_id="tuna", quantity=1)]),
        e.CaptureRequested(step_id="capture-24", authorisation_id="authorise-9", amount=380),
    )
    order = a_cancelling_order.having(bagels_gone).settled().order
    assert (order.status, order.total) == (Status.CONFIRMED, 380)
    assert not order.lines["tuna"].reserved


def test_lines_cancelled_before_the_order_may_still_be_shipped() -> None:
    """Both were too late: the pieces count as sent, never as more than were ordered."""
    off = c.CancelLines(cancellation_id="diet", lines=bagels(2))
    order = a_booked_order.having(off, cancel, bagels_gone).settled().order
    line = order.lines["bagels"]
    assert (line.quantity, line.cancelled, line.shipped) == (2, 0, 2)
    assert order.status is Status.CONFIRMED


def test_departure_with_extra_pieces_is_applied_as_booked() -> None:
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
def test_departure_with_unknown_lines_is_not_an_empty_one(lines: list[Piece]) -> None:
    order = a_booked_order.having(but(bagels_gone, lines=lines)).order
    assert order.shipments == a_booked_order.order.shipments
    assert [d.kind for d in order.discrepancies.values()] == ["unknown-lines"]


def test_pieces_left_behind_are_shipped_later() -> None:
    one = but(bagels_gone, lines=[Piece(line_id="bagels", sku="1095275", quantity=1)])
    order = a_booked_order.having(one).settled().order
    assert [s.lines["bagels"] for s in order.shipments.values() if "bagels" in s.lines] == [1, 1]
    assert order.lines["bagels"].reserved == {"EAST": 1}


def test_departure_of_a_stopped_or_unbooked_shipment_is_not_applied() -> None:
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
