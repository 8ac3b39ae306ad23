"""Applies the results of steps and the reports of external services. None is rejected."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from orders import events as e
from orders import steps as o
from orders.events import OrderEvent, line_counts
from orders.evolve import fold
from orders.lifecycle import Status
from orders.order import Order
from orders.rules import payment_reports, shipping_reports, stock_reports
from orders.rules.checks import policy_of
from orders.rules.deadlines import next_deadline, pass_deadline


def decide_result(result: o.StepResult, order: Order, now: datetime) -> list[OrderEvent]:
    """The events of a result."""
    if order.status is Status.NEW:
        return []
    match result:
        case o.StockHeld(step_id=key, held=held):
            step = order.steps.get(key)
            return _reserved(step, held, order, now) if isinstance(step, o.Reserve) else []
        case o.StockLost():
            return stock_reports.stock_lost(result, order)
        case o.PaymentApproved(step_id=key, reference=reference):
            step = order.steps.get(key)
            if isinstance(step, o.Authorise):
                return _approved(step, reference, order, now)
            return payment_reports.approved(result, order)
        case o.PaymentRefused(step_id=key, reason=reason):
            step = order.steps.get(key)
            if isinstance(step, o.Authorise | o.Capture):
                return _declined(step, reason, order, now)
            return payment_reports.declined(result, order, now)
        case o.BookingAccepted(step_id=key, tracking=tracking):
            step = order.steps.get(key)
            if not isinstance(step, o.Book):
                return []
            known = order.shipments[step.shipment_id]
            booked = e.ShipmentBooked(
                shipment_id=step.shipment_id, step_id=key, tracking=tracking or known.tracking
            )
            return [booked]
        case o.ShipmentDeparted():
            return shipping_reports.departed(result, order)
        case o.ShipmentArrived():
            return shipping_reports.arrived(result, order, now)
        case o.ShipmentLost():
            return shipping_reports.lost(result, order)
        case o.DeliveryDenied():
            return shipping_reports.denied(result, order)
        case o.StepDone(step_id=key):
            step = order.steps.get(key)
            if step is None or payment_reports.is_of_another_kind(result, order):
                return payment_reports.done(result, order)
            return [*_done(step), *payment_reports.differing_amount(result, step, order)]
        case o.RefundFailed():
            return payment_reports.refund_failed(result, order)
        case o.AuthorisationChanged():
            return payment_reports.authorisation_changed(result, order)
        case o.ChargebackReported():
            return payment_reports.chargeback(result, order)
        case o.StepFailed(step_id=key, reason=reason):
            if key not in order.steps or order.stuck_steps.get(key) == reason:
                return []
            return [e.StepStuck(step_id=key, reason=reason)]
        case o.DeadlinePassed(deadline=name, at=at):
            deadline = next_deadline(order)
            if deadline is None or deadline != (name, at) or now < at:
                return []
            return pass_deadline(deadline, order)


def _reserved(step: o.Reserve, held: list[o.Held], order: Order, now: datetime) -> list[OrderEvent]:
    requested = {piece.line_id: piece.quantity for piece in step.lines}
    given = [part for part in held if part.quantity > 0 and part.line_id in requested]
    reserved = e.StockReserved(step_id=step.step_id, held=given)
    got: Counter[str] = Counter()
    for part in given:
        got[part.line_id] += part.quantity
    # Pieces that were added since the request have a request of their own.
    missing = fold([reserved], order).missing()
    short = {
        key: min(n, requested[key] - got[key]) for key, n in missing.items() if key in requested
    }
    short = {key: n for key, n in short.items() if n > 0}
    if not short or order.status is Status.CANCELLING:
        return [reserved]
    answer_by = now + timedelta(seconds=policy_of(order).shortfall_answer)
    return [reserved, e.StockShort(lines=line_counts(short), answer_by=answer_by)]


def _approved(step: o.Authorise, reference: str, order: Order, now: datetime) -> list[OrderEvent]:
    capture_by = now + timedelta(seconds=policy_of(order).capture)
    return [
        e.PaymentAuthorised(
            step_id=step.step_id, amount=step.amount, reference=reference, capture_by=capture_by
        )
    ]


def _declined(
    step: o.Authorise | o.Capture, reason: str, order: Order, now: datetime
) -> list[OrderEvent]:
    answer_by = now + timedelta(seconds=policy_of(order).payment_retry)
    if isinstance(step, o.Authorise):
        return [e.PaymentDeclined(step_id=step.step_id, reason=reason, answer_by=answer_by)]
    refused = e.CaptureRefused(step_id=step.step_id, reason=reason, answer_by=answer_by)
    if order.authorisations[step.authorisation_id].closed:
        return [refused]
    void = order.next_step_id("void", after=1)
    return [refused, e.VoidRequested(step_id=void, authorisation_id=step.authorisation_id)]


def _done(step: o.AnyStep) -> list[OrderEvent]:
    match step:
        case o.Release(step_id=key):
            return [e.StockReleased(step_id=key)]
        case o.Withdraw(step_id=key):
            return [e.StockWithdrawn(step_id=key)]
        case o.Restock(step_id=key):
            return [e.Restocked(step_id=key)]
        case o.Capture(step_id=key, amount=amount):
            return [e.PaymentCaptured(step_id=key, amount=amount)]
        case o.Void(step_id=key):
            return [e.PaymentVoided(step_id=key)]
        case o.Refund(step_id=key, amount=amount):
            return [e.PaymentRefunded(step_id=key, amount=amount)]
        case o.Stop(shipment_id=key):
            return [e.ShipmentStopped(shipment_id=key)]
        case _:
            return []
