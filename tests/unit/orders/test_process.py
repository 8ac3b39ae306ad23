"""What an order does by itself: in which order, by which deadline, and until when."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from orders import commands as c
from orders import events as e
from orders import ledger
from orders import steps as o
from orders.decider import decide
from orders.events import LineCount, OrderEvent
from orders.lifecycle import Status
from orders.policy import Policy
from orders.rules import process
from orders.rules.checks import CommandRejected
from orders.rules.deadlines import Deadline, next_deadline
from orders.rules.process import is_finished, next_steps
from orders.steps import DeadlinePassed, ShipmentDeparted, StepDone
from tests.support.given import NOW, Given, but, given, opened, placed, tuna_added
from tests.support.order_fixtures import (
    BAGELS,
    LATER,
    TUNA,
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_completed_order,
    a_declined_order,
    a_delivered_order,
    a_draft,
    a_half_sent_order,
    a_held_order,
    a_placed_order,
    a_return_agreed,
    a_return_asked_for,
    a_sent_order,
    a_short_order,
    all_held,
    an_expired_order,
    bagels,
    bagels_leave,
    cancel,
    hold,
    passed,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
bagels_lost = c.ReportDeliveryFailure(shipment_id=BAGELS, goods="returned")
no_bagels = c.CancelLines(cancellation_id="diet", lines=bagels(2))


def at_deadline(scene: Given) -> list[OrderEvent]:
    """What follows when the order's next deadline passes."""
    deadline = next_deadline(scene.order)
    assert deadline is not None
    message = DeadlinePassed(deadline=deadline.name, at=deadline.at)
    return decide(message, scene.order, deadline.at + LATER)


# Deadlines


@pytest.mark.parametrize(
    ("scene", "name", "at"),
    [
        (a_draft, "draft", NOW + 7 * DAY),
        (a_short_order, "shortfall-answer", NOW + DAY),
        (a_declined_order, "payment-answer", NOW + DAY),
        (a_booked_order, "capture", NOW + 6 * DAY),
        (a_half_sent_order, "capture", NOW + 6 * DAY),
        (a_delivered_order, "return-window", NOW + 30 * DAY),
        (a_return_asked_for, "return-window", NOW + 30 * DAY),
    ],
)
def test_next_deadline_by_stage(scene: Given, name: str, at: datetime) -> None:
    assert next_deadline(scene.order) == Deadline(name, at)


@pytest.mark.parametrize(
    "scene",
    [
        given(),
        given(opened, tuna_added),
        given(opened, tuna_added, placed),
        a_placed_order,
        a_sent_order,
        a_cancelling_order,
        a_cancelled_order,
        a_completed_order,
        an_expired_order,
    ],
)
def test_order_without_a_pending_decision_has_no_deadline(scene: Given) -> None:
    assert next_deadline(scene.order) is None


def test_deadlines_follow_the_policy_at_opening() -> None:
    hurried = c.OpenOrder(customer_id="900", currency="USD", policy=Policy(draft=3600))
    assert next_deadline(given().having(hurried).order) == Deadline("draft", NOW + HOUR)


def test_draft_expires() -> None:
    assert at_deadline(a_draft) == [e.OrderExpired()]


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (a_short_order, "no answer about the shortfall in time"),
        (a_declined_order, "no answer about the payment in time"),
    ],
)
def test_unanswered_decision_cancels_the_order(scene: Given, reason: str) -> None:
    assert at_deadline(scene)[0] == e.OrderCancellationRequested(reason=reason)
    ended = passed(scene).settled().order
    assert (ended.status, ended.cancel_reason) == (Status.CANCELLED, reason)
    assert not any(line.reserved for line in ended.lines.values())


def test_unanswered_decision_cancels_unshipped_pieces_only() -> None:
    lost = o.StockLost(loss_id="flood", line_id="tuna", location="WEST", quantity=1)
    waiting = a_half_sent_order.having(lost)
    waiting = waiting.having(StepDone(step_id=waiting.owed(o.Stop)))
    waiting = waiting.having(o.StockHeld(step_id=waiting.owed(o.Reserve), held=[]))
    assert waiting.order.awaiting == "shortfall"
    called_off, *_ = at_deadline(waiting)
    assert isinstance(called_off, e.LinesCancelled)
    assert called_off.lines == [LineCount(line_id="tuna", quantity=1)]
    order = passed(waiting).settled().order
    assert (order.status, order.total, ledger.net_captured(order)) == (Status.CONFIRMED, 380, 380)


def test_unanswered_payment_of_shipped_goods_is_requested_again() -> None:
    capture = next(iter(next(iter(a_sent_order.order.authorisations.values())).captures))
    waiting = a_sent_order.having(o.PaymentRefused(step_id=capture, reason="reversed"))
    retried, asked = at_deadline(waiting)
    assert retried == e.PaymentRetried(method="pm_visa")
    assert isinstance(asked, e.AuthorisationRequested)


def test_authorisation_is_captured_before_it_ends() -> None:
    assert at_deadline(a_half_sent_order) == [
        e.AdvanceCaptureRequested(capture_id="deadline-23", amount=20, fingerprint=""),
        e.CaptureRequested(step_id="capture-24", authorisation_id="authorise-9", amount=20),
    ]
    assert next_deadline(passed(a_half_sent_order).settled().order) is None


def test_order_is_completed_after_the_return_window() -> None:
    assert at_deadline(a_delivered_order) == [e.ReturnWindowClosed(), e.OrderCompleted()]


def test_order_with_an_outstanding_return_is_not_completed() -> None:
    assert at_deadline(a_return_agreed) == [e.ReturnWindowClosed()]
    back = c.ReceiveReturn(receipt_id="r", return_id="stale", lines=bagels(1), condition="sellable")
    assert passed(a_return_agreed).having(back).settled().order.status is Status.COMPLETED


def test_deadline_passes_once_at_its_time_unless_lifted() -> None:
    deadline = DeadlinePassed(deadline="shortfall-answer", at=NOW + DAY)
    a_short_order.when(deadline, now=NOW + DAY - LATER).then()
    a_short_order.having(c.AcceptShortfall()).when(deadline, now=NOW + DAY).then()
    a_short_order.when(but(deadline, at=NOW + HOUR), now=NOW + DAY).then()
    a_short_order.when(but(deadline, deadline="capture"), now=NOW + DAY).then()
    passed(a_short_order).when(deadline, now=NOW + DAY).then()


def test_deadline_during_a_hold_is_shown_once_and_acts_after_release() -> None:
    held = a_short_order.having(hold)
    assert next_deadline(held.order) == Deadline("shortfall-answer", NOW + DAY)
    (recorded,) = at_deadline(held)
    assert isinstance(recorded, e.DiscrepancyRecorded)
    assert recorded.summary == "the deadline shortfall-answer passed while the order was held"
    shown = passed(held)
    assert next_deadline(shown.order) is None
    assert next_deadline(shown.having(c.ReleaseOrder()).order) == Deadline(
        "shortfall-answer", NOW + DAY
    )


# In which order


def test_stock_is_reserved_before_payment_is_authorised() -> None:
    assert [step.type for step in next_steps(a_placed_order.order)] == ["reserve"]
    assert a_short_order.order.steps == {}
    assert [step.type for step in next_steps(a_placed_order.having(all_held).order)] == [
        "authorise"
    ]


def test_cancelled_pieces_settle_shipments_then_money_then_stock() -> None:
    paid = a_booked_order.having(c.CapturePayment(capture_id="early")).settled()
    assert paid.having(no_bagels).told_yes() == [
        e.ShipmentStopped,
        e.RefundRequested,
        e.StockReleaseRequested,
        e.PaymentRefunded,
        e.StockReleased,
    ]
    assert paid.having(cancel).told_yes() == [
        e.ShipmentStopped,
        e.ShipmentStopped,
        e.RefundRequested,
        e.PaymentRefunded,
        e.StockReleaseRequested,
        e.StockReleased,
        e.OrderCancelled,
    ]


def test_stock_is_released_only_after_its_reservation() -> None:
    """A reservation is under way: what it brings is looked at together with what is held."""
    three = c.ChangeLine(line_id="bagels", quantity=3)
    asking = a_booked_order.having(c.AmendOrder(amendment_id="more", changes=[three]))
    fewer = asking.having(c.CancelLines(cancellation_id="diet", lines=bagels(2)))
    booked = fewer.having(o.BookingAccepted(step_id=fewer.owed(o.Book)))
    assert [step.type for step in next_steps(booked.order)] == ["reserve"]
    assert booked.told_yes() == [e.StockReserved, e.StockReleaseRequested, e.StockReleased]
    assert booked.settled().order.lines["bagels"].reserved == {"EAST": 1}


def test_stock_is_reserved_only_after_its_release() -> None:
    """A release names numbers of pieces, and must not take new ones."""
    giving_back = a_booked_order.having(no_bagels)
    giving_back = giving_back.having(StepDone(step_id=giving_back.owed(o.Stop)))
    three = c.AmendOrder(amendment_id="more", changes=[c.ChangeLine(line_id="bagels", quantity=3)])
    again = giving_back.having(three)
    assert [step.type for step in next_steps(again.order)] == ["release"]
    assert again.told_yes()[:2] == [e.StockReleased, e.StockRequested]


def test_partly_captured_authorisation_is_voided_after_cancellation() -> None:
    no_tuna_wanted = but(no_bagels, lines=[{"line_id": "tuna", "quantity": 1}])
    order = a_half_sent_order.having(no_tuna_wanted).settled().order
    (promise,) = order.authorisations.values()
    assert (promise.amount, promise.captured, promise.closed) == (400, 380, True)


def test_authorisation_is_not_voided_during_a_capture() -> None:
    capturing = a_half_sent_order.having(c.CapturePayment(capture_id="all"))
    called_off = capturing.having(but(no_bagels, lines=[{"line_id": "tuna", "quantity": 1}]))
    kinds = [step.type for step in next_steps(called_off.order)]
    assert kinds == ["capture", "stop"]
    assert ledger.net_captured(called_off.settled().order) == 380


def test_new_address_is_sent_to_the_carrier() -> None:
    moved = c.SetShippingAddress(address="sealed.2-OAK-STREET")
    order = a_half_sent_order.having(moved).order
    (step,) = next_steps(order)
    assert isinstance(step, o.Book)
    assert (step.shipment_id, step.address) == (TUNA, "sealed.2-OAK-STREET")
    assert order.shipments[TUNA].status == "planned"
    leaves = c.DispatchShipment(shipment_id=TUNA)
    assert a_half_sent_order.having(moved, leaves).order.shipments[TUNA].status == "dispatched"


def test_held_order_acts_on_results_after_its_release() -> None:
    gone = a_held_order.having(ShipmentDeparted(shipment_id=BAGELS))
    assert [step.type for step in next_steps(gone.order)] == ["withdraw"]
    released = gone.having(c.ReleaseOrder())
    assert [step.type for step in next_steps(released.order)] == ["withdraw", "capture"]


def test_decision_may_become_unnecessary() -> None:
    """The delivery for which a card was declined fails: there is nothing to pay any more."""
    dearer = c.ChangeLine(line_id="bagels", unit_price=500)
    sent = a_sent_order.having(c.AmendOrder(amendment_id="a", changes=[dearer]))
    waiting = sent.having(o.PaymentRefused(step_id=sent.owed(o.Authorise), reason="no funds"))
    assert waiting.order.status is Status.AWAITING_CUSTOMER
    lost = c.ReportDeliveryFailure(shipment_id=BAGELS)
    assert e.AnswerNotNeeded() in decide(lost, waiting.order, NOW)
    assert waiting.having(lost).order.status is Status.CONFIRMED


def test_endless_follow_ups_raise_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """And if a rule were wrong, it would say so rather than hang."""
    endless = {Status.PLACED: (lambda order: e.OrderReleased(),)}
    monkeypatch.setattr(process, "_RULES", endless)
    monkeypatch.setattr(process, "FOLLOW_UPS_MAX", 10)
    with pytest.raises(AssertionError, match="follows without end"):
        a_draft.having(c.PlaceOrder())


# Until when


@pytest.mark.parametrize("scene", [a_cancelled_order, a_completed_order, an_expired_order])
def test_ended_order_is_finished(scene: Given) -> None:
    assert is_finished(scene.order)
    assert next_steps(scene.order) == []


@pytest.mark.parametrize(
    "scene", [given(), a_draft, a_placed_order, a_held_order, a_cancelling_order, a_delivered_order]
)
def test_unfinished_order_is_not_finished(scene: Given) -> None:
    assert not is_finished(scene.order)


def test_ended_order_with_a_refund_is_finished_after_it() -> None:
    sorry = a_completed_order.having(c.RefundPayment(refund_id="sorry", amount=1))
    assert not is_finished(sorry.order)
    assert is_finished(sorry.settled().order)


@pytest.mark.parametrize("before", [a_draft, a_placed_order, a_booked_order, a_sent_order])
def test_step_id_is_the_version_of_its_event(before: Given) -> None:
    """So no two steps have the same name, and a call's idempotency key is its alone."""
    version, asked = before.order.version, 0
    for message in (c.PlaceOrder(), all_held, cancel, bagels_leave, bagels_lost):
        try:
            events = decide(message, before.order, NOW)
        except CommandRejected:
            continue
        for place, event in enumerate(events, start=version + 1):
            if type(event).__name__.endswith("Requested") and hasattr(event, "step_id"):
                assert event.step_id.endswith(f"-{place}")
                asked += 1
    assert asked
