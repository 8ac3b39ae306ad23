"""How each event changes an order. Pure; an event has happened, so none is rejected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import reduce

from orders import events as e
from orders import ledger
from orders import steps as o
from orders.entities import (
    REFUND_FAILED,
    Authorisation,
    Chargeback,
    Discount,
    Discrepancy,
    Line,
    PaidTerms,
    Return,
    Shipment,
)
from orders.events import LineCount, OrderEvent
from orders.lifecycle import ENDED, Status
from orders.order import Order, evolve_fields, without
from orders.text import fingerprint_of

_INITIAL = Order()


def fold(events: Iterable[OrderEvent], order: Order = _INITIAL) -> Order:
    """The order after all of `events`; by default from its first event on."""
    return reduce(evolve, events, order)


def evolve(order: Order, event: OrderEvent) -> Order:
    """The order after one more event."""
    order = evolve_fields(order, version=order.version + 1)
    if isinstance(event, e.ClientIdentified):
        client_ids = {**order.client_ids, event.client_key: event.fingerprint}
        order = evolve_fields(order, client_ids=client_ids)
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
        case e.ItemAdded():
            return order.with_line(Line.of(event))
        case e.ItemQuantityChanged(line_id=key, quantity=quantity):
            line = replace(order.lines[key], quantity=quantity)
            if event.discount is not None:
                line = replace(line, discount=event.discount)
            if event.tax is not None:
                line = replace(line, tax=event.tax)
            return order.with_line(line)
        case e.ItemRemoved(line_id=key):
            lines, removed = without(order.lines, key), order.removed_lines | {key}
            return evolve_fields(order, lines=lines, removed_lines=removed)
        case e.DiscountApplied(discount_id=key, amount=amount, reason=reason):
            discount = Discount(key, amount, fingerprint_of(reason or ""))
            discounts = {**order.discounts, key: discount}
            return evolve_fields(order, discounts=discounts)
        case e.DiscountRemoved(discount_id=key):
            discounts, removed = without(order.discounts, key), order.removed_discounts | {key}
            return evolve_fields(order, discounts=discounts, removed_discounts=removed)
        case e.NoteAdded(note_id=key, text=text):
            return evolve_fields(order, notes={**order.notes, key: fingerprint_of(text)})
        case e.ShippingChargeSet(amount=amount):
            return evolve_fields(order, shipping_charge=amount)
        case e.ShippingAddressSet(address=address):
            shipments = {
                k: replace(s, needs_rebooking=s.can_depart) for k, s in order.shipments.items()
            }
            return evolve_fields(order, shipping_address=address, shipments=shipments)
        case e.BillingAddressSet(address=address):
            return evolve_fields(order, billing_address=address)

        # The lifecycle
        case e.OrderPlaced():
            return _placed(order, event)
        case e.OrderConfirmed():
            return evolve_fields(order, confirmed=True).resume()
        case e.OrderHeld():
            return evolve_fields(order, status=Status.ON_HOLD)
        case e.OrderReleased():
            return order.release()
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
            order = order.adjust_lines(_pieces(lines), cancelled=+1)
            return evolve_fields(order, status=Status.CONFIRMED, confirmed=True, cancel_reason=None)
        case e.AnswerNotNeeded():
            return order.clear_decision()
        case e.LinesCancelled(lines=lines):
            return order.adjust_lines(_pieces(lines), cancelled=+1).clear_decision()
        case e.LinesCancellationOvertaken(lines=lines):
            return _overtaken(order, lines)
        case e.OrderAmended():
            return _amended(order, event).clear_decision()
        case e.AmendmentReverted():
            order = _with_terms(order, event.lines, event.shipping_charge)
            return evolve_fields(order, unpaid_amendment=None).clear_decision()

        # Stock
        case e.StockRequested(step_id=key, lines=lines):
            return order.add_step(o.Reserve(step_id=key, lines=_wanted(order, _pieces(lines))))
        case e.StockReserved(step_id=key, held=held):
            return order.finish_step(key).adjust_reserved(held, +1)
        case e.StockShort(answer_by=answer_by):
            order = evolve_fields(order, shortfall_accepted=False)
            return order.await_decision("shortfall", answer_by)
        case e.ShortfallAccepted(lines=lines):
            order = order.adjust_lines(_pieces(lines), cancelled=+1)
            return evolve_fields(order, shortfall_accepted=True).clear_decision()
        case e.HeldStockLost(location=location):
            line = order.lines[event.line_id]
            left = max(0, line.reserved.get(location, 0) - event.quantity)
            return order.with_line(line.with_reserved(location, left))
        case e.StockReleaseRequested(step_id=key, held=held):
            return order.adjust_reserved(held, -1).add_step(o.Release(step_id=key, held=held))
        case e.StockWithdrawalRequested(step_id=key, held=held):
            return order.adjust_reserved(held, -1).add_step(o.Withdraw(step_id=key, held=held))
        case e.RestockRequested(step_id=key, held=held):
            return order.add_step(o.Restock(step_id=key, held=held))
        case e.StockReleased(step_id=key) | e.StockWithdrawn(step_id=key):
            return order.finish_step(key)
        case e.Restocked(step_id=key) | e.PaymentVoided(step_id=key):
            return order.finish_step(key)

        # Money
        case e.AuthorisationRequested(step_id=key, amount=amount, method=method):
            return order.add_step(o.Authorise(step_id=key, amount=amount, method=method))
        case e.PaymentAuthorised(step_id=key):
            authorisation = Authorisation(key, event.amount, event.reference, event.capture_by)
            order = order.finish_step(key).with_authorisation(authorisation)
            if not ledger.to_authorise(order):
                order = evolve_fields(order, unpaid_amendment=None)
            return order
        case e.PaymentDeclined(step_id=key, answer_by=answer_by):
            return _declined(order.finish_step(key), answer_by)
        case e.PaymentRetried(method=method):
            return evolve_fields(order, payment_method=method).clear_decision()
        case e.AdvanceCaptureRequested(amount=amount):
            return evolve_fields(order, prepaid=ledger.prepaid_so_far(order) + amount)
        case e.CaptureRequested(authorisation_id=key, amount=amount):
            reference = order.authorisations[key].reference
            order = order.adjust_authorisation(key, capture_requested=amount)
            return order.add_step(
                o.Capture(
                    step_id=event.step_id, authorisation_id=key, reference=reference, amount=amount
                )
            )
        case e.PaymentCaptured(step_id=key, amount=amount):
            authorisation_id = _claim(order, key).authorisation_id
            order = order.finish_step(key).adjust_authorisation(authorisation_id, captured=amount)
            return order.with_authorisation(
                order.authorisations[authorisation_id].note_capture(key, amount)
            )
        case e.CaptureRefused(step_id=key, answer_by=answer_by):
            claim = _claim(order, key)
            order = order.finish_step(key).adjust_authorisation(
                claim.authorisation_id, capture_requested=-claim.amount
            )
            return _declined(order, answer_by)
        case e.VoidRequested(step_id=step_id, authorisation_id=key):
            authorisation = replace(order.authorisations[key], closed=True)
            return order.with_authorisation(authorisation).add_step(
                o.Void(step_id=step_id, authorisation_id=key, reference=authorisation.reference)
            )
        case e.RefundGranted(amount=amount):
            return evolve_fields(order, goodwill=order.goodwill + amount)
        case e.RefundRequested(authorisation_id=key, amount=amount):
            reference = order.authorisations[key].reference
            order = order.adjust_authorisation(key, refund_requested=amount).add_step(
                o.Refund(
                    step_id=event.step_id, authorisation_id=key, reference=reference, amount=amount
                )
            )
            # A refunded amount is no longer prepaid: it must not be captured again by itself.
            return evolve_fields(order, prepaid=min(order.prepaid, ledger.prepaid_so_far(order)))
        case e.PaymentRefunded(step_id=key, amount=amount):
            authorisation_id = _claim(order, key).authorisation_id
            order = order.finish_step(key).adjust_authorisation(authorisation_id, refunded=amount)
            return order.with_authorisation(
                order.authorisations[authorisation_id].note_refund(key, amount)
            )
        case e.CaptureReversed(step_id=key, authorisation_id=authorisation_id, amount=amount):
            order = order.adjust_authorisation(
                authorisation_id, captured=-amount, capture_requested=-amount
            )
            reversed_ = order.authorisations[authorisation_id].note_capture(key, 0)
            order = order.with_authorisation(replace(reversed_, closed=True))
            return _declined(order, event.answer_by)
        case e.RefundReversed(step_id=key, authorisation_id=authorisation_id, amount=amount):
            order = order.adjust_authorisation(
                authorisation_id, refunded=-amount, refund_requested=-amount
            )
            order = evolve_fields(order, unrefunded=order.unrefunded + amount)
            return order.with_authorisation(
                order.authorisations[authorisation_id].note_refund(key, 0)
            )
        case e.RefundRecorded(authorisation_id=key, amount=amount):
            return _taken_back(order, key, amount)
        case e.AuthorisationReduced(authorisation_id=key, amount=amount):
            known = order.authorisations[key]
            left = max(amount, known.capture_requested)
            return order.with_authorisation(replace(known, amount=left))
        case e.ChargebackOpened(chargeback_id=key, authorisation_id=authorisation_id):
            chargeback = Chargeback(key, authorisation_id, event.amount)
            order = order.adjust_authorisation(authorisation_id, disputed=event.amount)
            return evolve_fields(order, chargebacks={**order.chargebacks, key: chargeback})
        case e.ChargebackClosed(chargeback_id=key, outcome=outcome):
            chargeback = order.chargebacks[key]
            order = evolve_fields(order, chargebacks=without(order.chargebacks, key))
            order = order.adjust_authorisation(
                chargeback.authorisation_id, disputed=-chargeback.amount
            )
            if outcome == "won":
                return order
            return _taken_back(order, chargeback.authorisation_id, chargeback.amount)

        # Shipments
        case e.ShipmentCreated(shipment_id=key, location=location, lines=lines):
            return order.with_shipment(Shipment(key, location, _pieces(lines)))
        case e.ShipmentChanged(shipment_id=key, lines=lines):
            changed = replace(order.shipments[key], lines=_pieces(lines), needs_rebooking=True)
            return order.with_shipment(changed)
        case e.ShipmentBookingRequested(shipment_id=key, step_id=step_id):
            return _booking(order, order.shipments[key], step_id)
        case e.ShipmentBooked(shipment_id=key, step_id=step_id, tracking=tracking):
            shipment = order.shipments[key]
            booked = replace(shipment, confirmed_lines=shipment.lines, tracking=tracking)
            return order.finish_step(step_id).with_shipment(booked)
        case e.ShipmentStopRequested(shipment_id=key, step_id=step_id):
            stopping = replace(order.shipments[key], status="stopping")
            order = order.drop_shipment_steps(key).with_shipment(stopping)
            return order.add_step(o.Stop(step_id=step_id, shipment_id=key))
        case e.ShipmentStopped(shipment_id=key):
            stopped = replace(order.shipments[key], status="stopped")
            return order.drop_shipment_steps(key).with_shipment(stopped)
        case e.ShipmentDispatched(shipment_id=key, lines=lines):
            tracking = event.tracking or order.shipments[key].tracking
            dispatched = replace(
                order.shipments[key], status="dispatched", lines=_pieces(lines), tracking=tracking
            )
            order = order.drop_shipment_steps(key).with_shipment(dispatched)
            return order.adjust_lines(dispatched.lines, shipped=+1)
        case e.ShipmentDelivered(shipment_id=key, return_by=return_by):
            delivered = replace(order.shipments[key], status="delivered")
            order = evolve_fields(order, return_by=return_by, return_window_closed=False)
            return order.with_shipment(delivered).adjust_lines(delivered.lines, delivered=+1)
        case e.DeliveryFailed(shipment_id=key):
            failed = replace(order.shipments[key], status="failed")
            order = order.with_shipment(failed)
            return order.adjust_lines(failed.lines, shipped=-1, cancelled=+1)

        case e.TrackingChanged(shipment_id=key, tracking=tracking):
            return order.with_shipment(replace(order.shipments[key], tracking=tracking))
        case e.DeliveryRevoked(shipment_id=key):
            revoked = replace(order.shipments[key], status="dispatched")
            order = order.with_shipment(revoked)
            return order.adjust_lines(revoked.lines, delivered=-1)

        # Returns
        case e.ReturnRequested(return_id=key, lines=lines):
            return order.with_return(Return(key, _pieces(lines)))
        case e.ReturnApproved(return_id=key):
            return order.with_return(replace(order.returns[key], status="approved"))
        case e.ReturnRejected(return_id=key):
            return order.with_return(replace(order.returns[key], status="rejected"))
        case e.ReturnReceived(return_id=key, lines=lines):
            pieces = _pieces(lines)
            for origin, returned in order.origins(pieces):
                order = order.with_shipment(origin.take_back(returned))
            order = order.adjust_lines(pieces, returned=+1)
            return order.with_return(order.returns[key].receive(pieces))
        case e.ReturnWindowClosed():
            return evolve_fields(order, return_window_closed=True)

        # What needs a person
        case e.StepStuck(step_id=key, reason=reason):
            return evolve_fields(order, stuck_steps={**order.stuck_steps, key: reason})
        case e.StepRetried(step_id=key):
            return evolve_fields(order, stuck_steps=without(order.stuck_steps, key))
        case e.StepSettled():
            return order  # The events of its result follow.
        case e.DiscrepancyRecorded(discrepancy_id=key):
            discrepancy = Discrepancy(
                key, event.kind, event.service, event.amount, event.authorisation_id
            )
            return evolve_fields(order, discrepancies={**order.discrepancies, key: discrepancy})
        case e.DiscrepancyResolved():
            return _resolved(order, event)
        case _:
            raise AssertionError(f"{event.type} changes nothing: `evolve` has no case for it")


def _placed(order: Order, event: e.OrderPlaced) -> Order:
    order = evolve_fields(order, status=Status.PLACED, payment_method=event.payment_method)
    if order.policy is None:
        return order
    shares = order.discount_shares()
    lines = {key: replace(line, discount_share=shares[key]) for key, line in order.lines.items()}
    return evolve_fields(order, lines=lines, is_priced=True)


def _declined(order: Order, answer_by: datetime) -> Order:
    if order.status is Status.CANCELLING or order.status in ENDED:
        return order
    return order.await_decision("payment", answer_by)


def _overtaken(order: Order, lines: list[LineCount]) -> Order:
    too_late = _pieces(lines)
    cancelled = {key: min(n, order.lines[key].cancelled) for key, n in too_late.items()}
    # An amendment takes pieces off the quantity itself: they come back there.
    amended = {key: n - cancelled[key] for key, n in too_late.items()}
    return order.adjust_lines(cancelled, cancelled=-1).adjust_lines(amended, quantity=+1)


def _amended(order: Order, event: e.OrderAmended) -> Order:
    amended = _with_terms(order, event.lines, event.shipping_charge)
    if not order.confirmed or not ledger.to_authorise(amended):
        return amended
    # If the customer does not pay the increment, these terms come back.
    before = order.unpaid_amendment or PaidTerms({}, order.shipping_charge)
    lines = {terms.line_id: order.lines.get(terms.line_id) for terms in event.lines}
    return evolve_fields(amended, unpaid_amendment=replace(before, lines={**lines, **before.lines}))


def _with_terms(order: Order, terms: Iterable[e.AmendedLine], shipping_charge: int) -> Order:
    lines = dict(order.lines)
    for line in terms:
        fields = line.model_dump()
        known = lines.get(line.line_id)
        lines[line.line_id] = replace(known, **fields) if known else Line(**fields)
    return evolve_fields(order, lines=lines, shipping_charge=shipping_charge)


def _taken_back(order: Order, authorisation_id: str, amount: int) -> Order:
    """Money went back to the customer that the order did not refund; it is not due any more."""
    order = order.adjust_authorisation(authorisation_id, refund_requested=amount, refunded=amount)
    failed = min(amount, order.unrefunded)  # It was due anyway.
    goodwill = order.goodwill + amount - failed
    return evolve_fields(order, unrefunded=order.unrefunded - failed, goodwill=goodwill)


def _resolved(order: Order, event: e.DiscrepancyResolved) -> Order:
    discrepancy = order.discrepancies[event.discrepancy_id]
    order = evolve_fields(order, discrepancies=without(order.discrepancies, event.discrepancy_id))
    amount, key = discrepancy.amount, discrepancy.authorisation_id
    if discrepancy.kind != REFUND_FAILED or not amount or key is None:
        return order
    if event.retry:
        again = amount if event.amount is None else event.amount
        return evolve_fields(order, unrefunded=max(0, order.unrefunded - again))
    if event.amount is not None:
        return _taken_back(order, key, event.amount)
    # Also in logs of before the amount was in such events, which must fold as they were decided.
    if order.authorisations[key].refundable < amount:
        return order
    return _taken_back(order, key, amount)


def _booking(order: Order, shipment: Shipment, step_id: str) -> Order:
    """Adds the step that sends a shipment to the carrier, in place of earlier ones for it."""
    # Until the carrier has confirmed, it may take what it confirmed before.
    confirmed = shipment.confirmed_lines or shipment.lines
    booked = replace(shipment, confirmed_lines=confirmed, needs_rebooking=False)
    order = order.drop_shipment_steps(shipment.shipment_id).with_shipment(booked)
    return order.add_step(
        o.Book(
            step_id=step_id,
            shipment_id=shipment.shipment_id,
            revision=order.version,
            location=shipment.location,
            lines=_wanted(order, shipment.lines),
            address=order.shipping_address,
        )
    )


def _claim(order: Order, step_id: str) -> o.Capture | o.Refund:
    step = order.steps[step_id]
    assert isinstance(step, o.Capture | o.Refund)
    return step


def _wanted(order: Order, pieces: Mapping[str, int]) -> list[o.Piece]:
    return [o.Piece(line_id=key, sku=order.lines[key].sku, quantity=n) for key, n in pieces.items()]


def _pieces(lines: Iterable[LineCount]) -> dict[str, int]:
    """The pieces by line id."""
    pieces: dict[str, int] = {}
    for part in lines:
        pieces[part.line_id] = pieces.get(part.line_id, 0) + part.quantity
    return pieces
