"""Shipment commands: what follows, when they are refused, when they stay quiet."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orders import commands as c
from orders import events as e
from orders import ledger
from orders.events import LineCount
from orders.lifecycle import Status
from orders.rules.checks import fingerprint
from tests.support.given import NOW, Given, but
from tests.support.order_fixtures import (
    BAGELS,
    TUNA,
    a_booked_order,
    a_cancelling_order,
    a_confirmed_order,
    a_half_sent_order,
    a_placed_order,
    a_sent_order,
    bagels,
    bagels_arrive,
    bagels_at,
    bagels_leave,
    cancel,
    tuna,
    tuna_arrives,
    tuna_leaves,
)

one_first = c.CreateShipment(shipment_id="first", lines=bagels(1))
bagels_are_lost = c.ReportDeliveryFailure(shipment_id=BAGELS, reason="the van burnt")
bagels_come_back = c.ReportDeliveryFailure(shipment_id=BAGELS, goods="returned")
one_bagel = [LineCount(line_id="bagels", quantity=1)]
two_bagels = [LineCount(line_id="bagels", quantity=2)]

# CreateShipment


def test_new_shipment_is_booked_after_older_ones_lose_its_pieces() -> None:
    a_booked_order.when(one_first).then(
        e.ShipmentCreated(
            shipment_id="first",
            location="EAST",
            lines=one_bagel,
            fingerprint=fingerprint(one_first),
        ),
        e.ShipmentChanged(shipment_id=BAGELS, lines=one_bagel),
        e.ShipmentBookingRequested(shipment_id=BAGELS, step_id="book-20"),
    )
    assert a_booked_order.having(one_first).told_yes() == [
        e.ShipmentBooked,
        e.ShipmentBookingRequested,
        e.ShipmentBooked,
    ]


def test_new_shipment_may_take_all_pieces_of_an_older_one() -> None:
    settled = a_booked_order.having(but(one_first, lines=bagels(2))).settled().order
    assert settled.shipments[BAGELS].status == "stopped"
    assert settled.shipments["first"].confirmed_lines == {"bagels": 2}


def test_shipment_holds_reserved_pieces_of_one_location() -> None:
    a_booked_order.when(but(one_first, lines=bagels(3))).then_rejected(
        "line bagels has 2 pieces in stock for it, not 3", code="too-many-pieces", field="lines"
    )
    a_half_sent_order.when(one_first).then_rejected(
        "line bagels has 0 pieces in stock for it, not 1", code="too-many-pieces", field="lines"
    )
    called_off = c.CancelLines(cancellation_id="diet", lines=bagels(1))
    a_booked_order.having(called_off).when(but(one_first, lines=bagels(2))).then_rejected(
        "line bagels has 1 pieces in stock for it, not 2", code="too-many-pieces", field="lines"
    )
    a_booked_order.when(but(one_first, lines=[*bagels(1), *tuna()])).then_rejected(
        "the pieces are at several stock locations; each needs a shipment of its own",
        code="multiple-locations",
        field="lines",
    )


def test_unpaid_pieces_cannot_be_shipped() -> None:
    dearer = c.ChangeLine(line_id="bagels", unit_price=500)
    a_booked_order.having(c.AmendOrder(amendment_id="a", changes=[dearer])).when(
        one_first
    ).then_rejected("the order waits for its payment", code="payment-pending")
    a_placed_order.when(one_first).then_rejected(
        "create-shipment is not allowed while the order is placed", code="not-allowed-now"
    )


def test_repeated_create_shipment_changes_nothing() -> None:
    once = a_booked_order.having(one_first)
    once.when(one_first).then()
    once.settled().when(one_first).then()
    once.when(but(one_first, lines=bagels(2))).then_rejected(
        "first already exists, with other content", code="id-already-used", field="shipment_id"
    )
    once.when(but(one_first, shipment_id=TUNA)).then_rejected(
        f"{TUNA} already exists, with other content", code="id-already-used", field="shipment_id"
    )


def test_shipment_id_of_a_caller_is_not_generated_again() -> None:
    """The order names its own shipments by its version."""
    name = "shipment-27"
    taken = a_booked_order.having(but(one_first, shipment_id=name)).settled()
    milk = c.AddLine(line_id="milk", sku="995242", title="MILK", quantity=1, unit_price=0)
    more = taken.having(c.AmendOrder(amendment_id="milk", changes=[milk])).settled().order
    assert more.shipments[name].lines == {"bagels": 1}
    assert more.shipments["shipment-28"].lines == {"milk": 1}


def test_unbooked_shipment_is_stopped_without_a_request() -> None:
    a_booked_order.having(one_first).when(cancel).then(
        e.OrderCancellationRequested(reason="bought elsewhere"),
        e.ShipmentStopRequested(shipment_id=BAGELS, step_id="stop-22"),
        e.ShipmentStopRequested(shipment_id=TUNA, step_id="stop-23"),
        e.ShipmentStopped(shipment_id="first"),
    )


# DispatchShipment


def test_dispatch_withdraws_stock_and_captures_with_shipping_once() -> None:
    a_booked_order.when(bagels_leave).then(
        e.ShipmentDispatched(shipment_id=BAGELS, lines=two_bagels, tracking="1Z-BAGELS"),
        e.StockWithdrawalRequested(step_id="withdraw-19", held=[bagels_at("EAST", 2)]),
        e.CaptureRequested(step_id="capture-20", authorisation_id="authorise-9", amount=380),
    )


def test_shipment_may_be_dispatched_before_its_booking_is_confirmed() -> None:
    left = a_confirmed_order.having(bagels_leave).order
    assert left.shipments[BAGELS].status == "dispatched"
    assert [step.type for step in left.steps.values()] == ["book", "withdraw", "capture"]


def test_stopped_changing_or_unknown_shipment_cannot_be_dispatched() -> None:
    no_bagels = c.CancelLines(cancellation_id="diet", lines=bagels(2))
    a_booked_order.having(no_bagels).when(bagels_leave).then_rejected(
        f"shipment {BAGELS} is stopping", code="shipment-stopped", field="shipment_id"
    )
    splitting = a_booked_order.having(one_first)
    for shipment_id in (BAGELS, "first"):
        splitting.when(but(bagels_leave, shipment_id=shipment_id)).then_rejected(
            f"shipment {shipment_id} is being changed; try again in a moment",
            code="shipment-changing",
            field="shipment_id",
        )
    a_booked_order.when(but(bagels_leave, shipment_id="ghost")).then_rejected(
        "the order has no shipment ghost", code="unknown-id", field="shipment_id"
    )
    a_cancelling_order.when(bagels_leave).then_rejected(
        "dispatch-shipment is not allowed while the order is cancelling", code="not-allowed-now"
    )


def test_repeated_dispatch_changes_nothing() -> None:
    a_half_sent_order.when(bagels_leave).then()
    a_sent_order.having(bagels_arrive).when(bagels_leave).then()
    a_sent_order.having(bagels_are_lost).when(bagels_leave).then()


# ConfirmDelivery


def test_delivery_opens_the_return_window() -> None:
    a_half_sent_order.when(bagels_arrive).then(
        e.ShipmentDelivered(shipment_id=BAGELS, return_by=NOW + timedelta(days=30))
    )


@pytest.mark.parametrize(
    ("order", "status"), [(a_half_sent_order, "planned"), (a_sent_order, "failed")]
)
def test_only_dispatched_shipment_can_be_delivered(order: Given, status: str) -> None:
    if status == "failed":
        order = order.having(but(bagels_are_lost, shipment_id=TUNA))
    order.when(tuna_arrives).then_rejected(
        f"shipment {TUNA} is {status}, not on its way",
        code="shipment-not-dispatched",
        field="shipment_id",
    )


def test_repeated_delivery_changes_nothing() -> None:
    a_half_sent_order.having(bagels_arrive).when(bagels_arrive).then()


# ReportDeliveryFailure


def test_lost_shipment_is_cancelled_and_refunded() -> None:
    a_sent_order.when(bagels_are_lost).then(
        e.DeliveryFailed(shipment_id=BAGELS, goods="lost", reason="the van burnt"),
        e.RefundRequested(step_id="refund-29", authorisation_id="authorise-9", amount=336),
    )


def test_returned_shipment_is_restocked() -> None:
    a_sent_order.when(bagels_come_back).then(
        e.DeliveryFailed(shipment_id=BAGELS, goods="returned"),
        e.RestockRequested(step_id="restock-29", held=[bagels_at("EAST", 2)]),
        e.RefundRequested(step_id="refund-30", authorisation_id="authorise-9", amount=336),
    )


def test_only_dispatched_shipment_can_fail() -> None:
    a_booked_order.when(bagels_are_lost).then_rejected(
        f"shipment {BAGELS} is planned, not on its way",
        code="shipment-not-dispatched",
        field="shipment_id",
    )
    a_sent_order.having(bagels_arrive).when(bagels_are_lost).then_rejected(
        f"shipment {BAGELS} is delivered, not on its way",
        code="shipment-not-dispatched",
        field="shipment_id",
    )


def test_repeated_delivery_failure_changes_nothing() -> None:
    a_sent_order.having(bagels_are_lost).when(bagels_are_lost).then()
    a_sent_order.having(bagels_are_lost).settled().when(bagels_come_back).then()


def test_lost_shipments_are_cancelled_and_delivered_ones_kept() -> None:
    half = a_sent_order.having(bagels_are_lost, tuna_arrives).settled().order
    assert half.status is Status.CONFIRMED
    assert ledger.net_captured(half) == half.total == 64
    nothing = a_half_sent_order.having(tuna_leaves).settled()
    nothing = nothing.having(bagels_are_lost, but(bagels_are_lost, shipment_id=TUNA)).settled()
    assert nothing.order.status is Status.CANCELLED
    assert ledger.net_captured(nothing.order) == 0
