"""Reports of the payment service that no step requested, or that contradict the order.

Each is applied, is a repetition, or becomes a discrepancy.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from orders import events as e
from orders import steps as o
from orders.entities import REFUND_FAILED, Authorisation
from orders.events import OrderEvent, client_key
from orders.money import format_amount
from orders.order import Order
from orders.rules.checks import policy_of
from orders.rules.discrepancies import PAYMENTS, discrepancy, is_recorded, was_requested


def done(report: o.StepDone, order: Order) -> list[OrderEvent]:
    """An operation that the order does not wait for: repeated, or made at the provider."""
    key = report.step_id
    if is_of_another_kind(report, order):
        return _unrequested(report, order)
    if _was_done(key, order):
        return _amount_differs(report, _known_amount(key, order), order)
    if key.startswith("capture-") and was_requested(key, order):
        summary = f"capture {key} was done after it had been declined"
        return discrepancy(order, PAYMENTS, "captured-after-decline", key, summary, report.amount)
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
    return _unrequested(report, order)


def is_of_another_kind(report: o.StepDone, order: Order) -> bool:
    """Whether a report names a step that requested something else, such as to stop a shipment."""
    kind, _, _ = report.step_id.partition("-")
    return report.operation not in (None, kind) and was_requested(report.step_id, order)


def differing_amount(report: o.StepDone, step: o.AnyStep, order: Order) -> list[OrderEvent]:
    """The discrepancy if another amount was moved than `step` requests; the step is done anyway."""
    requested = step.amount if isinstance(step, o.Capture | o.Refund) else None
    return _amount_differs(report, requested, order)


def _amount_differs(report: o.StepDone, known: int | None, order: Order) -> list[OrderEvent]:
    key, amount = report.step_id, report.amount
    if known is None or amount is None or amount == known:
        return []
    summary = (
        f"{report.operation or 'step'} {key} was done with"
        f" {format_amount(amount, order.currency)} instead of"
        f" {format_amount(known, order.currency)}"
    )
    return discrepancy(order, PAYMENTS, "amount-differs", key, summary, amount)


def _unrequested(report: o.StepDone, order: Order) -> list[OrderEvent]:
    key, operation = report.step_id, report.operation or "step"
    summary = f"{operation} {key} was done, and the order did not request it"
    return discrepancy(order, PAYMENTS, f"unknown-{operation}", key, summary, report.amount)


def _was_done(key: str, order: Order) -> bool:
    """Whether the order knows that a step was done, even if that was reversed since."""
    kind, _, _ = key.partition("-")
    if kind in ("capture", "refund"):
        reversal = "capture-reversed" if kind == "capture" else REFUND_FAILED
        return _known_amount(key, order) is not None or is_recorded(reversal, key, order)
    return was_requested(key, order)


def _known_amount(key: str, order: Order) -> int | None:
    """The amount of a capture or refund that was done, unless it was reversed."""
    for authorisation in order.authorisations.values():
        amount = authorisation.captures.get(key, authorisation.refunds.get(key))
        if amount is not None:
            return amount
    return None


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
