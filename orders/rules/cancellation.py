"""The rule by which a whole order is cancelled."""

from __future__ import annotations

from orders import events as e
from orders.events import OrderEvent
from orders.lifecycle import Status
from orders.order import Order
from orders.rules.checks import CommandRejected


def is_cancellable(order: Order) -> bool:
    """Whether nothing of the order has left."""
    return _is_alone(order) or not order.has_shipped


def cancel(order: Order, reason: str | None) -> list[OrderEvent]:
    """Cancels a whole order; at once, if no other service is involved."""
    if not is_cancellable(order):
        raise CommandRejected(
            "pieces have left already; cancel the others with cancel-lines", "already-shipped"
        )
    if _is_alone(order):
        return [e.OrderCancelled(reason=reason)]
    return [e.OrderCancellationRequested(reason=reason)]


def _is_alone(order: Order) -> bool:
    """Whether no other service is involved."""
    return order.status is Status.DRAFT or order.policy is None
