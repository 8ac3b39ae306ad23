"""What other services say: what follows, and that late, repeated and unasked words change nothing.

A result is never refused: nobody is there who could read the refusal.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from orders import commands as c
from orders import events as e
from orders import steps as o
from orders.decider import decide
from orders.events import LineCount
from orders.lifecycle import Status
from orders.steps import RESULT_TYPES, Piece, StepResult
from tests.support.given import NOW, Given, but, given
from tests.support.order_fixtures import (
    BAGELS,
    TUNA,
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_completed_order,
    a_confirmed_order,
    a_delivered_order,
    a_draft,
    a_placed_order,
    a_reserved_order,
    a_sent_order,
    a_short_order,
    all_held,
    approved,
    bagels,
    bagels_at,
    bagels_leave,
    cancel,
    declined,
    no_tuna,
    tuna_in_the_west,
)

A_DAY_LATER = NOW + timedelta(days=1)
two_bagels = [LineCount(line_id="bagels", quantity=2)]
one_bagel_off = c.CancelLines(cancellation_id="diet", lines=bagels(1))
capturing = a_booked_order.having(bagels_leave)
refunding = a_sent_order.having(c.RefundPayment(refund_id="sorry", amount=50))

bagels_gone = o.ShipmentDeparted(shipment_id=BAGELS, tracking="1Z-BAGELS")
two_were_in_it = but(bagels_gone, lines=[Piece(line_id="bagels", sku="1095275", quantity=2)])
giving_back = a_placed_order.having(one_bagel_off, all_held)
lost_on_the_way = a_sent_order.having(c.ReportDeliveryFailure(shipment_id=BAGELS, goods="returned"))
a_bagel_lost = o.StockLost(loss_id="mouse", line_id="bagels", location="EAST", quantity=1)

# StockHeld


def test_total_is_authorised_when_all_stock_is_reserved() -> None:
    a_placed_order.when(all_held).then(
        e.StockReserved(step_id="reserve-7", held=[bagels_at("EAST", 2), tuna_in_the_west]),
        e.AuthorisationRequested(step_id="authorise-9", amount=400, method="pm_visa"),
    )


def test_short_stock_awaits_the_customer() -> None:
    a_placed_order.when(no_tuna).then(
        e.StockReserved(step_id="reserve-7", held=[bagels_at("EAST", 2)]),
        e.StockShort(lines=[LineCount(line_id="tuna", quantity=1)], answer_by=A_DAY_LATER),
    )


def test_pieces_cancelled_during_the_reservation_are_released() -> None:
    no_tuna_wanted = c.CancelLines(
        cancellation_id="diet", lines=[c.LineQuantity(line_id="tuna", quantity=1)]
    )
    smaller = a_placed_order.having(no_tuna_wanted)
    smaller.when(no_tuna).then(
        e.StockReserved(step_id="reserve-7", held=[bagels_at("EAST", 2)]),
        e.AuthorisationRequested(step_id="authorise-10", amount=380, method="pm_visa"),
    )
    assert smaller.having(all_held).owed(o.Release) == "release-10"


def test_pieces_added_during_the_reservation_are_requested_separately() -> None:
    three = c.ChangeLine(line_id="bagels", quantity=3)
    larger = a_placed_order.having(c.AmendOrder(amendment_id="a", changes=[three]))
    larger.when(all_held).then(
        e.StockReserved(step_id="reserve-7", held=[bagels_at("EAST", 2), tuna_in_the_west]),
        e.StockRequested(step_id="reserve-10", lines=[LineCount(line_id="bagels", quantity=1)]),
    )


# PaymentApproved


def test_approved_payment_confirms_the_order_and_plans_shipments() -> None:
    a_reserved_order.when(approved).then(
        e.PaymentAuthorised(
            step_id="authorise-9",
            amount=400,
            reference="visa-1",
            capture_by=NOW + timedelta(days=6),
        ),
        e.OrderConfirmed(),
        e.ShipmentCreated(shipment_id=BAGELS, location="EAST", lines=two_bagels, fingerprint=""),
        e.ShipmentBookingRequested(shipment_id=BAGELS, step_id="book-13"),
        e.ShipmentCreated(
            shipment_id=TUNA,
            location="WEST",
            lines=[LineCount(line_id="tuna", quantity=1)],
            fingerprint="",
        ),
        e.ShipmentBookingRequested(shipment_id=TUNA, step_id="book-15"),
    )


def test_payment_approved_after_cancellation_is_voided() -> None:
    a_reserved_order.having(cancel).when(approved).then(
        e.PaymentAuthorised(
            step_id="authorise-9",
            amount=400,
            reference="visa-1",
            capture_by=NOW + timedelta(days=6),
        ),
        e.VoidRequested(step_id="void-12", authorisation_id="authorise-9"),
    )


# PaymentRefused


def test_declined_payment_awaits_the_customer() -> None:
    a_reserved_order.when(declined).then(
        e.PaymentDeclined(step_id="authorise-9", reason="no funds", answer_by=A_DAY_LATER)
    )


def test_refused_capture_is_voided_and_authorised_again() -> None:
    expired = o.PaymentRefused(step_id="capture-20", reason="expired")
    capturing.when(expired).then(
        e.CaptureRefused(step_id="capture-20", reason="expired", answer_by=A_DAY_LATER),
        e.VoidRequested(step_id="void-22", authorisation_id="authorise-9"),
    )
    waiting = capturing.having(expired).settled()
    assert waiting.order.status is Status.AWAITING_CUSTOMER
    again = waiting.having(c.RetryPayment(method="pm_master")).order
    assert [(s.type, s.amount) for s in again.steps.values() if isinstance(s, o.Authorise)] == [
        ("authorise", 400)
    ]


def test_voided_authorisation_is_not_voided_again() -> None:
    both = a_booked_order.having(bagels_leave, c.DispatchShipment(shipment_id=TUNA))
    first, second = (s.step_id for s in both.order.steps.values() if isinstance(s, o.Capture))
    refused = both.having(o.PaymentRefused(step_id=first, reason="expired"))
    refused.when(o.PaymentRefused(step_id=second, reason="expired")).then(
        e.CaptureRefused(step_id=second, reason="expired", answer_by=A_DAY_LATER)
    )


# StepDone


def test_requested_steps_are_done() -> None:
    for order, done in (
        (capturing, e.StockWithdrawn(step_id="withdraw-19")),
        (capturing, e.PaymentCaptured(step_id="capture-20", amount=380)),
        (refunding, e.PaymentRefunded(step_id="refund-29", amount=50)),
        (lost_on_the_way, e.Restocked(step_id="restock-29")),
        (giving_back, e.StockReleased(step_id="release-10")),
    ):
        order.when(o.StepDone(step_id=done.step_id)).then(done)


@pytest.mark.parametrize("step_id", ["book-13", "book-15"])
def test_bare_done_does_not_settle_a_step_with_content(step_id: str) -> None:
    a_confirmed_order.when(o.StepDone(step_id=step_id)).then()
    a_placed_order.when(o.StepDone(step_id="reserve-7")).then()
    a_reserved_order.when(o.StepDone(step_id="authorise-9")).then()


# StepFailed and RetryStep


def test_failing_step_stays_pending_with_its_reason() -> None:
    no_answer = o.StepFailed(step_id="reserve-7", reason="503")
    a_placed_order.when(no_answer).then(e.StepStuck(step_id="reserve-7", reason="503"))
    stuck = a_placed_order.having(no_answer)
    assert list(stuck.order.steps) == ["reserve-7"]
    stuck.when(but(no_answer, reason="504")).then(e.StepStuck(step_id="reserve-7", reason="504"))
    assert not stuck.having(all_held).order.stuck_steps


def test_stuck_step_is_retried_alone_or_with_all_others() -> None:
    stuck = a_placed_order.having(o.StepFailed(step_id="reserve-7", reason="503"))
    for retry in (c.RetryStep(), c.RetryStep(step_id="reserve-7")):
        stuck.when(retry).then(e.StepRetried(step_id="reserve-7"))
        stuck.having(retry).when(retry).then()
        a_placed_order.when(retry).then()


def test_only_pending_step_can_be_retried() -> None:
    a_placed_order.when(c.RetryStep(step_id="capture-99")).then_rejected(
        "the order has no step capture-99", code="unknown-id", field="step_id"
    )
    given().when(c.RetryStep()).then_rejected(
        "retry-step is not allowed while the order is new", code="not-allowed-now"
    )


# StockLost


def test_lost_pieces_leave_their_shipment_and_are_reserved_again() -> None:
    a_booked_order.when(a_bagel_lost).then(
        e.HeldStockLost(
            loss_id="mouse", line_id="bagels", location="EAST", quantity=1, fingerprint=""
        ),
        e.ShipmentChanged(shipment_id=BAGELS, lines=[LineCount(line_id="bagels", quantity=1)]),
        e.ShipmentBookingRequested(shipment_id=BAGELS, step_id="book-20"),
    )
    assert a_booked_order.having(a_bagel_lost).told_yes() == [
        e.ShipmentBooked,
        e.StockRequested,
        e.StockReserved,
        e.ShipmentCreated,
        e.ShipmentBookingRequested,
        e.ShipmentBooked,
    ]


def test_lost_pieces_that_were_shipped_are_not_reserved_again() -> None:
    order = a_booked_order.having(a_bagel_lost, bagels_gone).settled().order
    assert order.lines["bagels"].shipped == 2
    assert not order.lines["bagels"].reserved


def test_loss_counts_once_and_of_reserved_pieces_only() -> None:
    lost = a_booked_order.having(a_bagel_lost)
    lost.when(a_bagel_lost).then()
    lost.settled().when(a_bagel_lost).then()
    for order, loss in (
        (a_sent_order, a_bagel_lost),
        (a_booked_order, but(a_bagel_lost, location="WEST")),
        (a_booked_order, but(a_bagel_lost, line_id="ghost")),
        (a_booked_order, but(a_bagel_lost, quantity=9)),
    ):
        after = order.having(loss).order
        assert [d.kind for d in after.discrepancies.values()] == ["more-lost-than-reserved"]
    assert after.lines["bagels"].reserved == {}


# Every result

# What a contradiction leaves: a record for a person, and money that did not come after all.
RECORDS = (
    e.AuthorisationReduced,
    e.CaptureReversed,
    e.ChargebackOpened,
    e.DiscrepancyRecorded,
    e.TrackingChanged,
)

HEARD: list[tuple[Given, StepResult]] = [
    (a_placed_order, all_held),
    (a_placed_order, no_tuna),
    (a_reserved_order, approved),
    (a_reserved_order, declined),
    (a_confirmed_order, o.BookingAccepted(step_id="book-13")),
    (a_booked_order, bagels_gone),
    (a_cancelling_order, bagels_gone),
    (a_booked_order.having(one_bagel_off), two_were_in_it),
    (capturing, o.StepDone(step_id="capture-20")),
    (capturing, o.PaymentRefused(step_id="capture-20", reason="expired")),
    (capturing, o.StepDone(step_id="withdraw-19")),
    (a_cancelling_order, o.StepDone(step_id="stop-19")),
    (refunding, o.StepDone(step_id="refund-29")),
    (a_placed_order, o.StepFailed(step_id="reserve-7", reason="503")),
    (a_booked_order, a_bagel_lost),
    (a_sent_order, o.ShipmentArrived(shipment_id=BAGELS)),
    (a_sent_order, o.ShipmentLost(shipment_id=BAGELS, goods="returned", reason="no such house")),
    (a_delivered_order, o.DeliveryDenied(shipment_id=BAGELS, reason="left at the depot")),
    (a_sent_order, o.RefundFailed(step_id="refund-in-the-shop", reason="account closed")),
    (a_booked_order, o.AuthorisationChanged(authorisation_id="authorise-9", amount=0, reason="-")),
    (
        a_sent_order,
        o.ChargebackReported(chargeback_id="c", state="opened", amount=100, reason="unknown"),
    ),
    (a_draft, o.DeadlinePassed(deadline="draft", at=NOW + timedelta(days=7))),
    (a_short_order, o.DeadlinePassed(deadline="shortfall-answer", at=A_DAY_LATER)),
]


@pytest.mark.parametrize(("order", "result"), HEARD)
def test_repeated_result_changes_nothing(order: Given, result: StepResult) -> None:
    now = result.at if isinstance(result, o.DeadlinePassed) else NOW
    once = order.having(result, now=now)
    assert once.order != order.order
    once.when(result, now=now).then()


@pytest.mark.parametrize("order", [given(), a_draft, a_cancelled_order, a_completed_order])
@pytest.mark.parametrize("result", [r for _, r in HEARD if not isinstance(r, o.DeadlinePassed)])
def test_unexpected_result_changes_nothing_or_is_recorded(order: Given, result: StepResult) -> None:
    events = decide(result, order.order, NOW)
    assert len(events) <= 2
    for event in events:
        assert isinstance(event, RECORDS), event
    order.having(result).when(result).then()
    if isinstance(result, o.ShipmentDeparted | o.ShipmentArrived) and order.order.lines:
        shipment = order.order.shipments.get(result.shipment_id)
        known = shipment is not None and shipment.status == "delivered"
        assert bool(events) != known


def test_every_kind_of_result_is_tested() -> None:
    assert {type(result) for _, result in HEARD} == set(RESULT_TYPES)
