"""The rule by which a whole order is cancelled."""

from __future__ import annotations

from orders import events as e
from orders.events import OrderEvent
from orders.lifecycle import Status
from orders.order import Order
from orders.rules.checks import CommandRejected


def cancel(order: Order, reason: str | None) -> list[OrderEvent]:
    """Cancels a whole order; at once, if no other service is involved."""
    if order.status is Status.DRAFT or order.policy is None:
        return [e.OrderCancelled(reason=reason)]
    if order.has_shipped:
        raise CommandRejected(
            "pieces have left already; cancel the others with cancel-lines", "already-shipped"
        )
    return [e.OrderCancellationRequested(reason=reason)]
