"""How each event changes an order. Pure; and as it has happened, no event is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any, TypeVar

from orders import events as e
from orders import ledger
from orders import steps as o
from orders.events import LineCount, OrderEvent
from orders.order import (
    ENDED,
    Authorisation,
    Discount,
    Line,
    Order,
    Return,
    Shipment,
    Status,
    evolve_fields,
)

T = TypeVar("T")


_NOTHING_YET = Order()


def fold(events: Iterable[OrderEvent], order: Order = _NOTHING_YET) -> Order:
    """The order after all of `events`, from `order` on; by default from the very beginning."""
    return reduce(evolve, events, order)


def evolve(order: Order, event: OrderEvent) -> Order:
    """The order after one more event."""
    order = evolve_fields(order, version=order.version + 1)
    if isinstance(event, e.ClientIdentified):
        order = evolve_fields(
            order, client_ids={**order.client_ids, _own_id(event): event.fingerprint}
        )
    match event:
        # The draft
        case e.OrderOpened():
            return evolve_fields(
                order,
                status=Status.DRAFT,
                customer_id=event.customer_id,
                currency=event.currency,
                external_reference=event.external_reference,
                policy=event.policy,
                expires_at=event.expires_at,
            )
        case e.ItemAdded(line_id=line_id):
            return evolve_fields(order, lines={**order.lines, line_id: Line.of(event)})
        case e.ItemQuantityChanged(line_id=line_id, quantity=quantity):
            return _with_line(order, line_id, quantity=quantity)
        case e.ItemRemoved(line_id=line_id):
            return evolve_fields(
                order,
                lines=_without(order.lines, line_id),
                removed_lines=order.removed_lines | {line_id},
            )
        case e.DiscountApplied(discount_id=discount_id, amount=amount, reason=reason):
            discount = Discount(discount_id, amount, reason)
            return evolve_fields(order, discounts={**order.discounts, discount_id: discount})
        case e.DiscountRemoved(discount_id=discount_id):
            return evolve_fields(
                order,
                discounts=_without(order.discounts, discount_id),
                removed_discounts=order.removed_discounts | {discount_id},
            )
        case e.NoteAdded(note_id=note_id, text=text):
            return evolve_fields(order, notes={**order.notes, note_id: text})
        case e.ShippingChargeSet(amount=amount):
            return evolve_fields(order, shipping_charge=amount)
        case e.ShippingAddressSet(address=address):
            shipments = {
                key: replace(s, needs_rebooking=True) for key, s in order.shipments.items()
            }
            return evolve_fields(order, shipping_address=address, shipments=shipments)
        case e.BillingAddressSet(address=address):
            return evolve_fields(order, billing_address=address)

        # The lifecycle
        case e.OrderPlaced():
            return _placed(order, event)
        case e.OrderConfirmed():
            return _resume(evolve_fields(order, confirmed=True))
        case e.OrderHeld():
            return evolve_fields(order, status=Status.ON_HOLD)
        case e.OrderReleased():
            return _resume(order, released=True)
        case e.OrderExpired():
            return evolve_fields(order, status=Status.EXPIRED)
        case e.OrderCompleted():
            return evolve_fields(order, status=Status.COMPLETED)
        case e.OrderCancellationRequested(reason=reason):
            return evolve_fields(
                order, status=Status.CANCELLING, cancel_reason=reason, awaiting=None, answer_by=None
            )
        case e.OrderCancelled():
            return evolve_fields(order, status=Status.CANCELLED, cancel_reason=event.reason)
        case e.OrderCancellationOvertaken(lines=lines):
            order = evolve_fields(_cancelled(order, lines), status=Status.CONFIRMED, confirmed=True)
            return evolve_fields(order, cancel_reason=None)
        case e.AnswerNotNeeded():
            return _clear_decision(order)
        case e.LinesCancelled(lines=lines):
            return _clear_decision(_cancelled(order, lines))
        case e.LinesCancellationOvertaken(lines=lines):
            too_late = _counts(lines)
            back = {key: min(n, order.lines[key].cancelled) for key, n in too_late.items()}
            # An amendment takes pieces off the quantity itself: they come back there.
            amended = {key: n - back[key] for key, n in too_late.items()}
            return _adjust_lines(_adjust_lines(order, back, cancelled=-1), amended, quantity=+1)
        case e.OrderAmended():
            return _clear_decision(_amended(order, event))

        # Stock
        case e.StockRequested(step_id=step_id, lines=lines):
            wanted = [_piece(order, n) for n in lines]
            return _add_step(order, o.Reserve(step_id=step_id, lines=wanted))
        case e.StockReserved(step_id=step_id, held=held):
            return _held(_finish_step(order, step_id), held, +1)
        case e.StockShort(answer_by=answer_by):
            order = evolve_fields(order, awaiting="shortfall", shortfall_accepted=False)
            return _resume(evolve_fields(order, answer_by=answer_by))
        case e.ShortfallAccepted(lines=lines):
            return _clear_decision(evolve_fields(_cancelled(order, lines), shortfall_accepted=True))
        case e.HeldStockLost():
            line = order.lines[event.line_id]
            left = max(0, line.reserved.get(event.location, 0) - event.quantity)
            return _with_line(
                order, line.line_id, reserved=_kept(line.reserved, event.location, left)
            )
        case e.StockReleaseRequested(step_id=step_id, held=held):
            return _add_step(_held(order, held, -1), o.Release(step_id=step_id, held=held))
        case e.StockWithdrawalRequested(step_id=step_id, held=held):
            return _add_step(_held(order, held, -1), o.Withdraw(step_id=step_id, held=held))
        case e.RestockRequested(step_id=step_id, held=held):
            return _add_step(order, o.Restock(step_id=step_id, held=held))
        case e.StockReleased(step_id=step_id) | e.StockWithdrawn(step_id=step_id):
            return _finish_step(order, step_id)
        case e.Restocked(step_id=step_id) | e.PaymentVoided(step_id=step_id):
            return _finish_step(order, step_id)

        # Money
        case e.AuthorisationRequested(step_id=step_id, amount=amount, method=method):
            return _add_step(order, o.Authorise(step_id=step_id, amount=amount, method=method))
        case e.PaymentAuthorised(step_id=step_id):
            promise = Authorisation(step_id, event.amount, event.reference, event.capture_by)
            authorisations = {**order.authorisations, step_id: promise}
            return evolve_fields(_finish_step(order, step_id), authorisations=authorisations)
        case e.PaymentDeclined(step_id=step_id, answer_by=answer_by):
            return _declined(_finish_step(order, step_id), answer_by)
        case e.PaymentRetried(method=method):
            return _clear_decision(evolve_fields(order, payment_method=method))
        case e.AdvanceCaptureRequested(amount=amount):
            return evolve_fields(order, prepaid=ledger.prepaid_so_far(order) + amount)
        case e.CaptureRequested(step_id=step_id, authorisation_id=key, amount=amount):
            capture = o.Capture(
                step_id=step_id,
                authorisation_id=key,
                reference=order.authorisations[key].reference,
                amount=amount,
            )
            return _adjust_authorisation(_add_step(order, capture), key, capture_requested=amount)
        case e.PaymentCaptured(step_id=step_id, amount=amount):
            key = _authorisation_of(order, step_id)
            return _adjust_authorisation(_finish_step(order, step_id), key, captured=amount)
        case e.CaptureRefused(step_id=step_id, answer_by=answer_by):
            key, amount = _authorisation_of(order, step_id), _amount_of(order, step_id)
            order = _adjust_authorisation(
                _finish_step(order, step_id), key, capture_requested=-amount
            )
            return _declined(order, answer_by)
        case e.VoidRequested(step_id=step_id, authorisation_id=key):
            reference = order.authorisations[key].reference
            void = o.Void(step_id=step_id, authorisation_id=key, reference=reference)
            return _add_step(_closed(order, key), void)
        case e.RefundGranted(amount=amount):
            return evolve_fields(order, goodwill=order.goodwill + amount)
        case e.RefundRequested(step_id=step_id, authorisation_id=key, amount=amount):
            refund = o.Refund(
                step_id=step_id,
                authorisation_id=key,
                reference=order.authorisations[key].reference,
                amount=amount,
            )
            order = _adjust_authorisation(_add_step(order, refund), key, refund_requested=amount)
            # What went back was not taken in advance: it is not to be captured by itself again.
            return evolve_fields(order, prepaid=min(order.prepaid, ledger.prepaid_so_far(order)))
        case e.PaymentRefunded(step_id=step_id, amount=amount):
            key = _authorisation_of(order, step_id)
            return _adjust_authorisation(_finish_step(order, step_id), key, refunded=amount)

        # Shipments
        case e.ShipmentCreated(shipment_id=key, location=location, lines=lines):
            return _with_shipment(order, Shipment(key, location, _counts(lines)))
        case e.ShipmentChanged(shipment_id=key, lines=lines):
            return _with_shipment(
                order, replace(order.shipments[key], lines=_counts(lines), needs_rebooking=True)
            )
        case e.ShipmentBookingRequested(shipment_id=key, step_id=step_id):
            return _booking(order, order.shipments[key], step_id)
        case e.ShipmentBooked(shipment_id=key, step_id=step_id, tracking=tracking):
            shipment = order.shipments[key]
            agreed = replace(shipment, confirmed_lines=shipment.lines, tracking=tracking)
            return _with_shipment(_finish_step(order, step_id), agreed)
        case e.ShipmentStopRequested(shipment_id=key, step_id=step_id):
            stopping = replace(order.shipments[key], status="stopping")
            order = _with_shipment(_without_shipment_steps(order, key), stopping)
            return _add_step(order, o.Stop(step_id=step_id, shipment_id=key))
        case e.ShipmentStopped(shipment_id=key):
            stopped = replace(order.shipments[key], status="stopped")
            return _with_shipment(_without_shipment_steps(order, key), stopped)
        case e.ShipmentDispatched(shipment_id=key, lines=lines, tracking=tracking):
            gone = replace(
                order.shipments[key],
                status="dispatched",
                lines=_counts(lines),
                tracking=tracking or order.shipments[key].tracking,
            )
            order = _with_shipment(_without_shipment_steps(order, key), gone)
            return _adjust_lines(order, gone.lines, shipped=+1)
        case e.ShipmentDelivered(shipment_id=key, return_by=return_by):
            there = replace(order.shipments[key], status="delivered")
            order = evolve_fields(order, return_by=return_by, return_window_closed=False)
            return _adjust_lines(_with_shipment(order, there), there.lines, delivered=+1)
        case e.DeliveryFailed(shipment_id=key):
            failed = replace(order.shipments[key], status="failed")
            return _adjust_lines(
                _with_shipment(order, failed), failed.lines, shipped=-1, cancelled=+1
            )

        # Returns
        case e.ReturnRequested(return_id=key, lines=lines, reason=reason):
            return _with_return(order, Return(key, _counts(lines), reason))
        case e.ReturnApproved(return_id=key):
            return _with_return(order, replace(order.returns[key], status="approved"))
        case e.ReturnRejected(return_id=key):
            return _with_return(order, replace(order.returns[key], status="rejected"))
        case e.ReturnReceived(return_id=key, lines=lines):
            return _received(order, order.returns[key], _counts(lines))
        case e.ReturnWindowClosed():
            return evolve_fields(order, return_window_closed=True)

        # Steps that do not get on
        case e.StepStuck(step_id=step_id, reason=reason):
            return evolve_fields(order, stuck_steps={**order.stuck_steps, step_id: reason})
        case e.StepRetried(step_id=step_id):
            return evolve_fields(order, stuck_steps=_without(order.stuck_steps, step_id))


def _placed(order: Order, event: e.OrderPlaced) -> Order:
    order = evolve_fields(order, status=Status.PLACED, payment_method=event.payment_method)
    if order.policy is None:
        return order
    shares = order.discount_shares()
    lines = {key: replace(line, discount_share=shares[key]) for key, line in order.lines.items()}
    return evolve_fields(order, lines=lines, is_priced=True)


def _resume(order: Order, released: bool = False) -> Order:
    """The order where it now stands between placing and its end, unless it is held or ending."""
    if order.status is Status.CANCELLING or order.status in ENDED:
        return order
    if order.status is Status.ON_HOLD and not released:
        return order
    if order.awaiting:
        return evolve_fields(order, status=Status.AWAITING_CUSTOMER)
    return evolve_fields(order, status=Status.CONFIRMED if order.confirmed else Status.PLACED)


def _clear_decision(order: Order) -> Order:
    """The order after a change that may be the decision it waited for: it tries again."""
    return _resume(evolve_fields(order, awaiting=None, answer_by=None))


def _declined(order: Order, answer_by: Any) -> Order:
    if order.status is Status.CANCELLING:
        return order
    return _resume(evolve_fields(order, awaiting="payment", answer_by=answer_by))


def _amended(order: Order, event: e.OrderAmended) -> Order:
    lines = dict(order.lines)
    for terms in event.lines:
        known = lines.get(terms.line_id)
        changed: dict[str, Any] = {
            "sku": terms.sku,
            "title": terms.title,
            "quantity": terms.quantity,
            "unit_price": terms.unit_price,
            "discount": terms.discount,
            "tax": terms.tax,
        }
        line = replace(known, **changed) if known else Line(line_id=terms.line_id, **changed)
        lines[terms.line_id] = replace(line, cancelled=terms.cancelled)
    return evolve_fields(order, lines=lines, shipping_charge=event.shipping_charge)


def _received(order: Order, back: Return, pieces: Mapping[str, int]) -> Order:
    received = dict(back.received)
    for line_id, n in pieces.items():
        received[line_id] = received.get(line_id, 0) + n
    back = replace(back, received=received)
    if not any(back.outstanding.values()):
        back = replace(back, status="received")
    return _with_return(_adjust_lines(order, pieces, returned=+1), back)


def _own_id(event: e.ClientIdentified) -> str:
    match event:
        case e.LinesCancelled():
            return f"cancellation:{event.cancellation_id}"
        case e.OrderAmended():
            return f"amendment:{event.amendment_id}"
        case e.AdvanceCaptureRequested():
            return f"capture:{event.capture_id}"
        case e.RefundGranted():
            return f"refund:{event.refund_id}"
        case e.ShipmentCreated():
            return f"shipment:{event.shipment_id}"
        case e.ReturnRequested():
            return f"return:{event.return_id}"
        case e.ReturnReceived():
            return f"receipt:{event.receipt_id}"
        case e.HeldStockLost():
            return f"loss:{event.loss_id}"
    raise AssertionError(f"{event} has no id of its own")


# Steps


def _add_step(order: Order, step: o.AnyStep) -> Order:
    return evolve_fields(order, steps={**order.steps, step.step_id: step})


def _finish_step(order: Order, step_id: str) -> Order:
    return evolve_fields(
        order,
        steps=_without(order.steps, step_id),
        stuck_steps=_without(order.stuck_steps, step_id),
    )


def _booking(order: Order, shipment: Shipment, step_id: str) -> Order:
    """Owes that the carrier is told how the shipment is now; until it agrees, it may be as was."""
    booked = replace(
        shipment, confirmed_lines=shipment.confirmed_lines or shipment.lines, needs_rebooking=False
    )
    order = _with_shipment(_without_shipment_steps(order, shipment.shipment_id), booked)
    wanted = [LineCount(line_id=key, quantity=n) for key, n in shipment.lines.items()]
    return _add_step(
        order,
        o.Book(
            step_id=step_id,
            shipment_id=shipment.shipment_id,
            revision=order.version,
            location=shipment.location,
            lines=[_piece(order, n) for n in wanted],
            address=order.shipping_address,
        ),
    )


def _without_shipment_steps(order: Order, shipment_id: str) -> Order:
    for step_id in list(order.shipment_steps(shipment_id)):
        order = _finish_step(order, step_id)
    return order


# Parts of an order, changed


def _with_line(order: Order, line_id: str, **changes: Any) -> Order:
    line = replace(order.lines[line_id], **changes)
    return evolve_fields(order, lines={**order.lines, line_id: line})


def _adjust_lines(order: Order, pieces: Mapping[str, int], **signs: int) -> Order:
    """These pieces of each line, more (+1) or fewer (-1) in the counters that are named."""
    lines = dict(order.lines)
    for line_id, n in pieces.items():
        line = lines[line_id]
        counted = {counter: getattr(line, counter) + sign * n for counter, sign in signs.items()}
        lines[line_id] = replace(line, **counted)
    return evolve_fields(order, lines=lines)


def _cancelled(order: Order, lines: list[LineCount]) -> Order:
    return _adjust_lines(order, _counts(lines), cancelled=+1)


def _held(order: Order, held: list[o.Held], sign: int) -> Order:
    lines = dict(order.lines)
    for part in held:
        line = lines[part.line_id]
        pieces = line.reserved.get(part.location, 0) + sign * part.quantity
        lines[part.line_id] = replace(line, reserved=_kept(line.reserved, part.location, pieces))
    return evolve_fields(order, lines=lines)


def _kept(held: Mapping[str, int], location: str, pieces: int) -> dict[str, int]:
    return {k: n for k, n in {**held, location: pieces}.items() if n}


def _adjust_authorisation(order: Order, authorisation_id: str, **amounts: int) -> Order:
    known = order.authorisations[authorisation_id]
    changed = {key: getattr(known, key) + amount for key, amount in amounts.items()}
    return _with_authorisation(order, replace(known, **changed))


def _closed(order: Order, authorisation_id: str) -> Order:
    return _with_authorisation(order, replace(order.authorisations[authorisation_id], closed=True))


def _with_authorisation(order: Order, promise: Authorisation) -> Order:
    promises = {**order.authorisations, promise.authorisation_id: promise}
    return evolve_fields(order, authorisations=promises)


def _authorisation_of(order: Order, step_id: str) -> str:
    step = order.steps[step_id]
    assert isinstance(step, o.Capture | o.Refund)
    return step.authorisation_id


def _amount_of(order: Order, step_id: str) -> int:
    step = order.steps[step_id]
    assert isinstance(step, o.Capture | o.Refund)
    return step.amount


def _with_shipment(order: Order, shipment: Shipment) -> Order:
    return evolve_fields(order, shipments={**order.shipments, shipment.shipment_id: shipment})


def _with_return(order: Order, back: Return) -> Order:
    return evolve_fields(order, returns={**order.returns, back.return_id: back})


def _piece(order: Order, count: LineCount) -> o.Piece:
    sku = order.lines[count.line_id].sku
    return o.Piece(line_id=count.line_id, sku=sku, quantity=count.quantity)


def _counts(lines: Iterable[LineCount]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in lines:
        counts[part.line_id] = counts.get(part.line_id, 0) + part.quantity
    return counts


def _without(entries: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: entry for k, entry in entries.items() if k != key}
