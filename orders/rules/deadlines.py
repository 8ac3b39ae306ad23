"""The deadlines of an order, and what happens when one passes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from orders import events as e
from orders import ledger
from orders.events import OrderEvent, line_counts
from orders.lifecycle import UNFINISHED, Status
from orders.order import Order
from orders.rules.amendments import revert
from orders.rules.cancellation import cancel
from orders.rules.discrepancies import discrepancy, is_recorded

_ON_HOLD = "deadline-on-hold"


class Deadline(NamedTuple):
    """A time at which the order acts by itself."""

    name: str
    at: datetime


def next_deadline(order: Order) -> Deadline | None:
    """The first deadline of the order, if any; an order that is ending has none."""
    deadlines = (deadline for deadline in _deadlines(order) if not _is_noted(deadline, order))
    return min(deadlines, key=lambda deadline: deadline.at, default=None)


def _is_noted(deadline: Deadline, order: Order) -> bool:
    """Whether the deadline passed while the order was held, and still is."""
    return order.status is Status.ON_HOLD and passed_on_hold(*deadline, order)


def passed_on_hold(name: str, at: datetime, order: Order) -> bool:
    """Whether it is recorded that a deadline passed while the order was held."""
    return is_recorded(_ON_HOLD, _subject(name, at), order)


def _deadlines(order: Order) -> Iterable[Deadline]:
    if order.status is Status.DRAFT and order.expires_at:
        yield Deadline("draft", order.expires_at)
    if order.status not in UNFINISHED:
        return
    if order.awaiting and order.answer_by:
        yield Deadline(f"{order.awaiting}-answer", order.answer_by)
    if ledger.to_capture(order):
        first = min(a.capture_by for a in order.authorisations.values() if a.capturable)
        yield Deadline("capture", first)
    if order.return_by and not order.return_window_closed and order.has_arrived:
        yield Deadline("return-window", order.return_by)


def pass_deadline(deadline: Deadline, order: Order) -> list[OrderEvent]:
    """The events of a deadline that has passed. A held order only shows that it has."""
    if order.status is Status.ON_HOLD:
        return _on_hold(deadline, order)
    match deadline.name:
        case "draft":
            return [e.OrderExpired()]
        case "capture":
            amount = ledger.to_capture(order)
            return [
                e.AdvanceCaptureRequested(
                    capture_id=_deadline_id(order), amount=amount, fingerprint=""
                )
            ]
        case "return-window":
            return [e.ReturnWindowClosed()]
        case _:
            return _decide_for_customer(order)


def _on_hold(deadline: Deadline, order: Order) -> list[OrderEvent]:
    """Records that a deadline passed during a hold: once, and none if that is known."""
    summary = f"the deadline {deadline.name} passed while the order was held"
    return discrepancy(order, "orderly", _ON_HOLD, _subject(*deadline), summary)


def _subject(name: str, at: datetime) -> str:
    return f"{name}:{at:%Y%m%dT%H%M%SZ}"


def _decide_for_customer(order: Order) -> list[OrderEvent]:
    """Cancels what has not left; if all has left, requests its payment again.

    An unpaid increment reverts its amendment alone.
    """
    if order.awaiting == "payment" and order.unpaid_amendment is not None:
        return [revert(order.unpaid_amendment, order)]
    reason = f"no answer about the {order.awaiting} in time"
    if not order.has_shipped:
        return cancel(order, reason)
    unshipped = order.unshipped()
    if not unshipped:
        return [e.PaymentRetried(method=order.payment_method)]
    return [
        e.LinesCancelled(
            cancellation_id=_deadline_id(order),
            lines=line_counts(unshipped),
            reason=reason,
            fingerprint="",
        )
    ]


def _deadline_id(order: Order) -> str:
    return f"deadline-{order.version + 1}"
