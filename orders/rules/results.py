"""What follows from results. None is refused: one that nobody waits for changes nothing."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from orders import events as e
from orders import steps as o
from orders.events import OrderEvent
from orders.evolve import fold
from orders.ledger import to_capture
from orders.order import Order, Shipment, Status
from orders.rules.fulfilment import cancel, dispatch, policy_of
from orders.rules.process import counts, next_deadline, step_id


def decide_result(result: o.StepResult, order: Order, now: datetime) -> list[OrderEvent]:
    """The events that a result causes."""
    match result:
        case o.StockHeld(step_id=key, held=held):
            step = order.steps.get(key)
            return _reserved(step, held, order, now) if isinstance(step, o.Reserve) else []
        case o.StockLost():
            return _lost(result, order)
        case o.PaymentApproved(step_id=key, reference=reference):
            step = order.steps.get(key)
            if not isinstance(step, o.Authorise):
                return []
            capture_by = now + timedelta(seconds=policy_of(order).capture)
            return [
                e.PaymentAuthorised(
                    step_id=key, amount=step.amount, reference=reference, capture_by=capture_by
                )
            ]
        case o.PaymentRefused(step_id=key, reason=reason):
            return _declined(key, reason, order, now)
        case o.BookingAccepted(step_id=key, tracking=tracking):
            step = order.steps.get(key)
            if not isinstance(step, o.Book):
                return []
            return [e.ShipmentBooked(shipment_id=step.shipment_id, step_id=key, tracking=tracking)]
        case o.ShipmentDeparted(shipment_id=key, tracking=tracking, lines=lines):
            shipment = order.shipments.get(key)
            if shipment is None or not shipment.can_depart or not shipment.confirmed_lines:
                return []
            return _gone(shipment, lines, tracking, order)
        case o.StepDone(step_id=key):
            return _done(order.steps.get(key))
        case o.StepFailed(step_id=key, reason=reason):
            if key not in order.steps or order.stuck_steps.get(key) == reason:
                return []
            return [e.StepStuck(step_id=key, reason=reason)]
        case o.DeadlinePassed(deadline=name, at=at):
            deadline = next_deadline(order)
            if deadline is None or deadline != (name, at) or now < at:
                return []
            return _passed(name, order)


def _reserved(step: o.Reserve, held: list[o.Held], order: Order, now: datetime) -> list[OrderEvent]:
    asked = {piece.line_id: piece.quantity for piece in step.lines}
    given = [part for part in held if part.quantity > 0 and part.line_id in asked]
    reserved = e.StockReserved(step_id=step.step_id, held=given)
    got: Counter[str] = Counter()
    for part in given:
        got[part.line_id] += part.quantity
    # What was added while the question was under way is asked for on its own.
    missing = fold([reserved], order).missing()
    short = {key: min(n, asked[key] - got[key]) for key, n in missing.items() if key in asked}
    short = {key: n for key, n in short.items() if n > 0}
    if not short or order.status is Status.CANCELLING:
        return [reserved]
    answer_by = now + timedelta(seconds=policy_of(order).shortfall_answer)
    return [reserved, e.StockShort(lines=counts(short), answer_by=answer_by)]


def _lost(loss: o.StockLost, order: Order) -> list[OrderEvent]:
    line = order.lines.get(loss.line_id)
    there = line.reserved.get(loss.location, 0) if line else 0
    pieces = min(there, loss.quantity)
    if pieces <= 0 or f"loss:{loss.loss_id}" in order.client_ids:
        return []
    return [
        e.HeldStockLost(
            loss_id=loss.loss_id,
            line_id=loss.line_id,
            location=loss.location,
            quantity=pieces,
            fingerprint="",
        )
    ]


def _declined(key: str, reason: str, order: Order, now: datetime) -> list[OrderEvent]:
    step = order.steps.get(key)
    if not isinstance(step, o.Authorise | o.Capture):
        return []
    answer_by = now + timedelta(seconds=policy_of(order).payment_retry)
    if isinstance(step, o.Authorise):
        return [e.PaymentDeclined(step_id=key, reason=reason, answer_by=answer_by)]
    refused = e.CaptureRefused(step_id=key, reason=reason, answer_by=answer_by)
    if order.authorisations[step.authorisation_id].closed:
        return [refused]
    void = step_id("void", order, after=1)
    return [refused, e.VoidRequested(step_id=void, authorisation_id=step.authorisation_id)]


def _gone(
    shipment: Shipment, told: list[o.Piece] | None, tracking: str | None, order: Order
) -> list[OrderEvent]:
    """The shipment left; if pieces in it had been called off meanwhile, they were not in time."""
    lines = shipment.confirmed_lines
    if told is not None:  # Never more than it was asked to take along.
        counted: Counter[str] = Counter()
        for piece in told:
            counted[piece.line_id] += piece.quantity
        lines = {key: min(n, counted[key]) for key, n in lines.items()}
    overtaken = {
        key: pieces - order.lines[key].unshipped
        for key, pieces in lines.items()
        if pieces > order.lines[key].unshipped
    }
    first: list[OrderEvent] = (
        [e.LinesCancellationOvertaken(lines=counts(overtaken))] if overtaken else []
    )
    return [*first, *dispatch(shipment, lines, tracking, order, after=len(first))]


def _done(step: o.AnyStep | None) -> list[OrderEvent]:
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


def _passed(deadline: str, order: Order) -> list[OrderEvent]:
    match deadline:
        case "draft":
            return [e.OrderExpired()]
        case "capture":
            name = f"deadline-{order.version + 1}"
            amount = to_capture(order)
            return [e.AdvanceCaptureRequested(capture_id=name, amount=amount, fingerprint="")]
        case "return-window":
            return [e.ReturnWindowClosed()]
        case _:
            return _nobody_decided(order)


def _nobody_decided(order: Order) -> list[OrderEvent]:
    """A customer did not answer: what has not left is called off; what has is asked for again."""
    reason = f"no answer about the {order.awaiting} in time"
    if not any(line.shipped for line in order.lines.values()):
        return cancel(order, reason)
    unshipped = {key: line.unshipped for key, line in order.lines.items() if line.unshipped}
    if not unshipped:
        return [e.PaymentRetried(method=order.payment_method)]
    return [
        e.LinesCancelled(
            cancellation_id=f"deadline-{order.version + 1}",
            lines=counts(unshipped),
            reason=reason,
            fingerprint="",
        )
    ]
