"""Reports of external services that no step requested, or that contradict the order.

Each is applied, is a repetition, or becomes a discrepancy that a person settles. None is dropped.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from datetime import datetime, timedelta

from orders import events as e
from orders import steps as o
from orders.entities import REFUND_FAILED, Authorisation, Shipment
from orders.events import OrderEvent, client_key, line_counts
from orders.lifecycle import ENDED
from orders.order import Order
from orders.rules.checks import policy_of
from orders.rules.shipments import dispatch, held_at, restock
from orders.text import ID_CHARACTERS_MAX

STEP_KINDS = (
    *("authorise", "book", "capture", "refund", "release", "reserve", "restock", "stop", "void"),
    "withdraw",
)
PAYMENTS, STOCK, SHIPPING = "payments", "stock", "shipping"


def discrepancy(
    order: Order,
    service: str,
    kind: str,
    subject: str,
    summary: str,
    amount: int | None = None,
    authorisation_id: str | None = None,
) -> list[OrderEvent]:
    """Records a contradiction once for its kind and subject, such as a shipment or step id."""
    key = f"{kind}:{subject}"
    if len(key) > ID_CHARACTERS_MAX or not re.fullmatch(r"[A-Za-z0-9._:~|-]+", key):
        key = f"{kind}:{hashlib.sha256(subject.encode()).hexdigest()[:16]}"
    if client_key("discrepancy_id", key) in order.client_ids:
        return []
    return [
        e.DiscrepancyRecorded(
            discrepancy_id=key,
            kind=kind,
            service=service,
            summary=summary,
            amount=amount,
            authorisation_id=authorisation_id,
            fingerprint="",
        )
    ]


def was_requested(step_id: str, order: Order) -> bool:
    """Whether a step that the order does not wait for is one that it once requested.

    Steps are named after the version of the event that requests them.
    """
    match = re.fullmatch(rf"(?:{'|'.join(STEP_KINDS)})-([0-9]{{1,9}})", step_id)
    return match is not None and int(match[1]) <= order.version


# Shipping


def departed(report: o.ShipmentDeparted, order: Order) -> list[OrderEvent]:
    """The shipment left; pieces in it that had been cancelled meanwhile were not in time."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "left")
    if shipment.status in ("dispatched", "delivered", "failed"):
        return _tracked(shipment, report.tracking)
    if shipment.status == "stopped" or not shipment.confirmed_lines:
        summary = f"shipment {key} left, although it was called off or never booked"
        return discrepancy(order, SHIPPING, "left-although-stopped", key, summary)
    reported = _reported(report, shipment)
    lines = {line: min(n, reported[line]) for line, n in shipment.confirmed_lines.items()}
    if not any(lines.values()):
        summary = f"shipment {key} left with none of its lines"
        return discrepancy(order, SHIPPING, "unknown-lines", key, summary)
    overtaken = {
        line: pieces - order.lines[line].unshipped
        for line, pieces in lines.items()
        if pieces > order.lines[line].unshipped
    }
    first: list[OrderEvent] = (
        [e.LinesCancellationOvertaken(lines=line_counts(overtaken))] if overtaken else []
    )
    events = [*first, *dispatch(shipment, lines, report.tracking, order, after=len(first))]
    excess = (reported - Counter(lines)).total()
    if excess:
        summary = f"shipment {key} left with {excess} pieces that were not planned"
        events += discrepancy(order, SHIPPING, "more-than-planned", key, summary)
    return events


def _reported(report: o.ShipmentDeparted, shipment: Shipment) -> Counter[str]:
    """The pieces by line id; where the carrier names none, those that it confirmed."""
    if report.lines is None:
        return Counter(shipment.confirmed_lines)
    reported: Counter[str] = Counter()
    for piece in report.lines:
        reported[piece.line_id] += piece.quantity
    return reported


def _tracked(shipment: Shipment, tracking: str | None) -> list[OrderEvent]:
    if tracking is None or tracking == shipment.tracking:
        return []
    return [e.TrackingChanged(shipment_id=shipment.shipment_id, tracking=tracking)]


def arrived(report: o.ShipmentArrived, order: Order, now: datetime) -> list[OrderEvent]:
    """The shipment was delivered; its departure may not have been reported yet."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "was delivered")
    if shipment.status == "delivered":
        return []
    left = _implied_departure(shipment, order)
    if left is None:
        summary = f"shipment {key} was delivered, although it was {shipment.status}"
        return discrepancy(order, SHIPPING, f"delivered-although-{shipment.status}", key, summary)
    return_by = now + timedelta(seconds=policy_of(order).return_window)
    return [*left, e.ShipmentDelivered(shipment_id=key, return_by=return_by)]


def lost(report: o.ShipmentLost, order: Order) -> list[OrderEvent]:
    """The shipment will not be delivered; returned goods go back to where they came from."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "could not be delivered")
    if shipment.status == "failed":
        return []
    left = _implied_departure(shipment, order)
    if left is None:
        summary = f"shipment {key} could not be delivered, although it was {shipment.status}"
        return discrepancy(order, SHIPPING, f"failed-although-{shipment.status}", key, summary)
    failed = e.DeliveryFailed(shipment_id=key, goods=report.goods, reason=report.reason)
    if report.goods == "lost":
        return [*left, failed]
    lines = shipment.confirmed_lines if left else shipment.lines
    held = held_at(shipment.location, lines, order)
    return [*left, failed, *restock(held, order, after=len(left) + 1)]


def denied(report: o.DeliveryDenied, order: Order) -> list[OrderEvent]:
    """The shipment was not delivered after all."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "was not delivered")
    if shipment.status in ("dispatched", "failed"):
        return []
    if shipment.status == "delivered" and not shipment.returned and order.status not in ENDED:
        return [e.DeliveryRevoked(shipment_id=key, reason=report.reason)]
    summary = f"shipment {key} was not delivered, although it is {shipment.status} here"
    return discrepancy(order, SHIPPING, "delivery-denied", key, summary)


def _implied_departure(shipment: Shipment, order: Order) -> list[OrderEvent] | None:
    """The events by which a shipment is on its way: none if it is; None if it cannot be."""
    if shipment.status == "dispatched":
        return []
    if not shipment.can_depart or not shipment.confirmed_lines:
        return None
    return departed(o.ShipmentDeparted(shipment_id=shipment.shipment_id), order)


def _unknown_shipment(order: Order, key: str, what: str) -> list[OrderEvent]:
    summary = f"shipment {key} {what}, and the order has none of that id"
    return discrepancy(order, SHIPPING, "unknown-shipment", key, summary)


# Payments


def done(report: o.StepDone, order: Order) -> list[OrderEvent]:
    """An operation that the order does not wait for: repeated, or made at the provider."""
    key = report.step_id
    if was_requested(key, order):
        return []
    if report.operation == "refund" and report.amount:
        if client_key("external_refund_id", key) in order.client_ids:
            return []
        authorisation = _refundable(order, report.authorisation_id, report.amount)
        if authorisation is not None:
            return [
                e.RefundRecorded(
                    external_refund_id=key,
                    authorisation_id=authorisation.authorisation_id,
                    amount=report.amount,
                    fingerprint="",
                )
            ]
    operation = report.operation or "step"
    summary = f"{operation} {key} was done, and the order did not request it"
    return discrepancy(order, PAYMENTS, f"unknown-{operation}", key, summary, report.amount)


def _refundable(order: Order, key: str | None, amount: int) -> Authorisation | None:
    for authorisation in order.authorisations.values():
        if key in (None, authorisation.authorisation_id) and (authorisation.refundable >= amount):
            return authorisation
    return None


def approved(report: o.PaymentApproved, order: Order) -> list[OrderEvent]:
    """An approval that the order does not wait for."""
    key = report.step_id
    if key in order.authorisations:
        return []
    kind = "approved-after-decline" if was_requested(key, order) else "unknown-authorisation"
    summary = f"authorisation {key} was approved, and the order does not wait for it"
    return discrepancy(order, PAYMENTS, kind, key, summary)


def declined(report: o.PaymentRefused, order: Order, now: datetime) -> list[OrderEvent]:
    """A decline of what was approved before: the money did not come, or will not."""
    key = report.step_id
    if key in order.authorisations:
        summary = f"authorisation {key} was declined after it had been approved: {report.reason}"
        return discrepancy(order, PAYMENTS, "declined-after-approval", key, summary)
    for authorisation in order.authorisations.values():
        if key in authorisation.captures:
            return _capture_reversed(key, report.reason, authorisation, order, now)
    if was_requested(key, order):
        return []
    summary = f"{key} was declined, and the order did not request it"
    return discrepancy(order, PAYMENTS, "unknown-decline", key, summary)


def _capture_reversed(
    key: str, reason: str, authorisation: Authorisation, order: Order, now: datetime
) -> list[OrderEvent]:
    amount = authorisation.captures[key]
    if authorisation.refundable < amount:
        summary = f"capture {key} was reversed after it had been refunded: {reason}"
        return discrepancy(order, PAYMENTS, "capture-reversed", key, summary, amount)
    answer_by = now + timedelta(seconds=policy_of(order).payment_retry)
    reversed_ = e.CaptureReversed(
        step_id=key,
        authorisation_id=authorisation.authorisation_id,
        amount=amount,
        reason=reason,
        answer_by=answer_by,
    )
    summary = f"capture {key} was reversed: {reason}"
    return [reversed_, *discrepancy(order, PAYMENTS, "capture-reversed", key, summary, amount)]


def refund_failed(report: o.RefundFailed, order: Order) -> list[OrderEvent]:
    """A refund that was accepted did not reach the customer; it is not repeated by itself."""
    key = report.step_id
    if key in order.steps:
        if order.stuck_steps.get(key) == report.reason:
            return []
        return [e.StepStuck(step_id=key, reason=report.reason)]
    for authorisation in order.authorisations.values():
        if key in authorisation.refunds:
            amount = authorisation.refunds[key]
            reversed_ = e.RefundReversed(
                step_id=key,
                authorisation_id=authorisation.authorisation_id,
                amount=amount,
                reason=report.reason,
            )
            summary = f"refund {key} did not reach the customer: {report.reason}"
            recorded = discrepancy(
                *(order, PAYMENTS, REFUND_FAILED, key, summary, amount),
                authorisation.authorisation_id,
            )
            return [reversed_, *recorded]
    if was_requested(key, order):
        return []
    summary = f"refund {key} failed, and the order did not request it"
    return discrepancy(order, PAYMENTS, "unknown-refund", key, summary)


def authorisation_changed(report: o.AuthorisationChanged, order: Order) -> list[OrderEvent]:
    """An authorisation has ended or shrunk; what is missing is authorised again."""
    key = report.authorisation_id
    authorisation = order.authorisations.get(key)
    if authorisation is None:
        if key in order.steps or was_requested(key, order):
            return []
        summary = f"authorisation {key} changed, and the order has none of that id"
        return discrepancy(order, PAYMENTS, "unknown-authorisation", key, summary)
    if authorisation.closed or max(report.amount, authorisation.capture_requested) >= (
        authorisation.amount
    ):
        return []
    return [
        e.AuthorisationReduced(
            authorisation_id=key, amount=max(report.amount, 0), reason=report.reason
        )
    ]


def chargeback(report: o.ChargebackReported, order: Order) -> list[OrderEvent]:
    """The customer's bank takes money back: opened, then won or lost."""
    key = report.chargeback_id
    is_known = client_key("chargeback_id", key) in order.client_ids
    if is_known:
        if report.state == "opened" or key not in order.chargebacks:
            return []
        return [e.ChargebackClosed(chargeback_id=key, outcome=report.state)]
    authorisation = _refundable(order, report.authorisation_id, report.amount)
    if authorisation is None:
        summary = f"chargeback {key} takes more than was captured and not refunded"
        return discrepancy(order, PAYMENTS, "unknown-chargeback", key, summary, report.amount)
    opened = e.ChargebackOpened(
        chargeback_id=key,
        authorisation_id=authorisation.authorisation_id,
        amount=report.amount,
        reason=report.reason,
        fingerprint="",
    )
    if report.state == "opened":
        return [opened]
    return [opened, e.ChargebackClosed(chargeback_id=key, outcome=report.state)]


# Stock


def stock_lost(report: o.StockLost, order: Order) -> list[OrderEvent]:
    """Reserved pieces are missing; more than are reserved there is a discrepancy."""
    if client_key("loss_id", report.loss_id) in order.client_ids:
        return []
    line = order.lines.get(report.line_id)
    there = line.reserved.get(report.location, 0) if line else 0
    pieces = min(there, report.quantity)
    events: list[OrderEvent] = []
    if pieces > 0:
        events.append(
            e.HeldStockLost(
                loss_id=report.loss_id,
                line_id=report.line_id,
                location=report.location,
                quantity=pieces,
                fingerprint="",
            )
        )
    if pieces < report.quantity:
        summary = (
            f"{report.quantity} pieces of line {report.line_id} are missing at {report.location}, "
            f"and {there} are reserved there"
        )
        events += discrepancy(order, STOCK, "more-lost-than-reserved", report.loss_id, summary)
    return events
