"""An order's money: what is due by now, and what was promised, taken and given back. Pure.

All amounts are differences between what should be and what is: nothing can be rounded twice, and
whatever happens to an order, the difference is what has to be settled.
"""

from __future__ import annotations

from orders.order import Order, Status


def payable(order: Order) -> int:
    """What the order may cost in the end: all pieces not called off, or only what has left."""
    if order.status in (Status.CANCELLING, Status.CANCELLED):
        return _shipped(order)
    return order.total


def due(order: Order) -> int:
    """What the customer should have paid by now, and not got back."""
    taken = max(_shipped(order), min(order.prepaid, payable(order)))
    return max(0, taken - _returned(order) - order.goodwill)


def final_due(order: Order) -> int:
    """What the customer should have paid, and not got back, once all has left."""
    return max(0, payable(order) - _returned(order) - order.goodwill)


def _shipped(order: Order) -> int:
    return order.price_of({key: line.shipped for key, line in order.lines.items()})


def _returned(order: Order) -> int:
    return sum(
        line.value(line.shipped) - line.value(line.shipped - line.returned)
        for line in order.lines.values()
        if line.returned
    )


def net_captured(order: Order) -> int:
    """What was asked of the payment service so far: captures less refunds."""
    return sum(a.capture_requested - a.refund_requested for a in order.authorisations.values())


def capturable(order: Order) -> int:
    """What was promised and can still be captured."""
    return sum(a.capturable for a in order.authorisations.values())


def to_authorise(order: Order) -> int:
    """What the order will cost beyond all that was taken and promised."""
    return max(0, final_due(order) - net_captured(order) - capturable(order))


def to_capture(order: Order) -> int:
    """How much of what was promised will be needed."""
    return max(0, min(final_due(order) - net_captured(order), capturable(order)))


def prepaid_so_far(order: Order) -> int:
    """What `Order.prepaid` must be, so that just what was taken so far is due."""
    return net_captured(order) + _returned(order) + order.goodwill


def refund_pending(order: Order) -> int:
    """Refunds that were requested and that the payment service has not confirmed yet."""
    return sum(a.refund_requested - a.refunded for a in order.authorisations.values())


def refundable(order: Order) -> int:
    """What was captured and nobody has asked back yet."""
    return sum(a.captured - a.refund_requested for a in order.authorisations.values())


def authorised(order: Order) -> int:
    return sum(a.amount for a in order.authorisations.values())


def voided(order: Order) -> int:
    return sum(a.amount - a.capture_requested for a in order.authorisations.values() if a.closed)


def captured(order: Order) -> int:
    return sum(a.captured for a in order.authorisations.values())


def refunded(order: Order) -> int:
    return sum(a.refunded for a in order.authorisations.values())
