"""An order's money: what is due, authorised, captured and refunded, in minor units. Pure.

Every amount to settle is the difference between what should be and what is. So no amount is rounded
twice, and any change of an order leads to the right difference.
"""

from __future__ import annotations

from orders.lifecycle import Status
from orders.order import Order


def payable(order: Order) -> int:
    """The final price: of all pieces that are not cancelled, or only of what has been shipped."""
    if order.status in (Status.CANCELLING, Status.CANCELLED):
        return _shipped(order)
    return order.total


def due(order: Order) -> int:
    """What the customer should have paid by now, less refunds."""
    earned = max(_shipped(order), min(order.prepaid, payable(order)))
    return max(0, earned - _returned(order) - order.goodwill)


def final_due(order: Order) -> int:
    """What the customer should have paid once all has been shipped, less refunds."""
    return max(0, payable(order) - _returned(order) - order.goodwill)


def _shipped(order: Order) -> int:
    return order.sums.shipped_price + order.shipping_charge if order.sums.shipped else 0


def _returned(order: Order) -> int:
    return order.sums.returned_price


def net_captured(order: Order) -> int:
    """All captures less all refunds, as requested of the payment service so far."""
    return sum(a.capture_requested - a.refund_requested for a in order.authorisations.values())


def to_refund(order: Order) -> int:
    """What is captured beyond what is due, less refunds that failed: those wait for a person."""
    return max(0, net_captured(order) - due(order) - order.unrefunded)


def capturable(order: Order) -> int:
    """What is authorised and can still be captured."""
    return sum(a.capturable for a in order.authorisations.values())


def to_authorise(order: Order) -> int:
    """The part of the final price that is neither captured nor authorised."""
    return max(0, final_due(order) - net_captured(order) - capturable(order))


def to_capture(order: Order) -> int:
    """The part of the authorised money that will be needed."""
    return max(0, min(final_due(order) - net_captured(order), capturable(order)))


def prepaid_so_far(order: Order) -> int:
    """The value of `Order.prepaid` with which exactly the captured amount is due."""
    return net_captured(order) + _returned(order) + order.goodwill


def refund_pending(order: Order) -> int:
    """Refunds that were requested and that the payment service has not confirmed yet."""
    return sum(a.refund_requested - a.refunded for a in order.authorisations.values())


def holds_money(order: Order) -> bool:
    """Whether there is money to refund or void."""
    return bool(net_captured(order) or capturable(order))


def refundable(order: Order) -> int:
    """What is captured, and neither refunded, about to be, nor disputed."""
    return sum(a.refundable for a in order.authorisations.values())


def unpaid(order: Order) -> int:
    """What should have been captured by now, and that no request or decision will bring."""
    return max(0, due(order) - net_captured(order))


def disputed(order: Order) -> int:
    """Taken back by the customer's bank, until the chargebacks are decided."""
    return sum(a.disputed for a in order.authorisations.values())


def authorised(order: Order) -> int:
    return sum(a.amount for a in order.authorisations.values())


def voided(order: Order) -> int:
    return sum(a.amount - a.capture_requested for a in order.authorisations.values() if a.closed)


def captured(order: Order) -> int:
    return sum(a.captured for a in order.authorisations.values())


def refunded(order: Order) -> int:
    return sum(a.refunded for a in order.authorisations.values())
