"""Payment, fulfilment and return status: derived from counters and ledger, never stored."""

from __future__ import annotations

from enum import StrEnum

from orders import ledger
from orders.lifecycle import ENDED, Status
from orders.order import Order
from orders.steps import Authorise, Capture


class PaymentStatus(StrEnum):
    """The status of the money."""

    NONE = "none"
    AUTHORISED = "authorised"
    PARTLY_CAPTURED = "partly_captured"
    CAPTURED = "captured"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"
    DECLINED = "declined"


class FulfilmentStatus(StrEnum):
    """The status of the pieces that are not cancelled."""

    NONE = "none"
    PARTLY_SHIPPED = "partly_shipped"
    SHIPPED = "shipped"
    PARTLY_DELIVERED = "partly_delivered"
    DELIVERED = "delivered"


class ReturnStatus(StrEnum):
    """The status of returned pieces."""

    NONE = "none"
    REQUESTED = "requested"
    PARTLY_RETURNED = "partly_returned"
    RETURNED = "returned"


def payment_status(order: Order) -> PaymentStatus:
    captured, refunded = ledger.captured(order), ledger.refunded(order)
    if order.awaiting == "payment":
        return PaymentStatus.DECLINED
    if refunded:
        return PaymentStatus.REFUNDED if refunded == captured else PaymentStatus.PARTLY_REFUNDED
    if captured:
        whole = captured >= ledger.final_due(order)
        return PaymentStatus.CAPTURED if whole else PaymentStatus.PARTLY_CAPTURED
    return PaymentStatus.AUTHORISED if ledger.capturable(order) else PaymentStatus.NONE


def fulfilment_status(order: Order) -> FulfilmentStatus:
    lines = order.lines.values()
    wanted = sum(line.quantity - line.cancelled for line in lines)
    shipped, delivered = sum(line.shipped for line in lines), sum(line.delivered for line in lines)
    if delivered:
        whole = delivered >= wanted
        return FulfilmentStatus.DELIVERED if whole else FulfilmentStatus.PARTLY_DELIVERED
    if shipped:
        whole = shipped >= wanted
        return FulfilmentStatus.SHIPPED if whole else FulfilmentStatus.PARTLY_SHIPPED
    return FulfilmentStatus.NONE


def return_status(order: Order) -> ReturnStatus:
    lines = order.lines.values()
    delivered, returned = (
        sum(line.delivered for line in lines),
        sum(line.returned for line in lines),
    )
    if returned:
        return ReturnStatus.RETURNED if returned == delivered else ReturnStatus.PARTLY_RETURNED
    if any(back.status in ("requested", "approved") for back in order.returns.values()):
        return ReturnStatus.REQUESTED
    return ReturnStatus.NONE


def cancelled_pieces(order: Order, line_id: str) -> int:
    """The pieces of a line that are cancelled, alone or with the whole order."""
    line = order.lines[line_id]
    return line.quantity if order.status is Status.CANCELLED else line.cancelled


def unpaid(order: Order) -> int:
    """The price of shipped goods that was not captured and that no step or deadline will bring."""
    if not order.is_priced or order.status in ENDED or order.owes(Authorise, Capture):
        return 0
    return ledger.unpaid(order) if order.has_shipped else 0
