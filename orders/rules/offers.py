"""The commands that an order offers: those of which it would accept some payload now."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from orders import commands as c
from orders import ledger
from orders.commands import OrderCommand
from orders.money import TOTAL_MAX
from orders.order import Order
from orders.rules import cancellation, draft, fulfilment, returns, shipments
from orders.rules.deadlines import passed_on_hold


def missing_for(command_type: type[OrderCommand], order: Order) -> str | None:
    """What the order lacks for a command, in words; None if it lacks nothing.

    Its status is checked elsewhere.
    """
    condition = _CONDITIONS.get(command_type)
    return None if condition is None or condition.holds(order) else condition.otherwise


def _has_removable_line(order: Order) -> bool:
    """Whether the discounts stay within the price without one of the lines."""
    totals = (line.total for line in order.lines.values())
    return min(totals, default=TOTAL_MAX) <= order.subtotal - order.discounted


def _has_returnable_pieces(order: Order) -> bool:
    if order.return_window_closed or _return_window_passed_on_hold(order):
        return False
    return any(n > 0 for n in order.returnable().values())


def _return_window_passed_on_hold(order: Order) -> bool:
    if order.return_by is None or not order.has_arrived:
        return False
    return passed_on_hold("return-window", order.return_by, order)


def _has_dispatched_shipment(order: Order) -> bool:
    return any(shipment.status == "dispatched" for shipment in order.shipments.values())


class _Condition(NamedTuple):
    """What an order needs for a command, and why it is not offered otherwise."""

    holds: Callable[[Order], object]
    otherwise: str


# Commands without a condition only depend on the status.
_CONDITIONS: dict[type[OrderCommand], _Condition] = {
    # The draft, notes and addresses
    c.AddItemToOrder: _Condition(
        lambda order: len(order.lines) < draft.LINES_MAX,
        f"it has {draft.LINES_MAX} lines, the most that it can have",
    ),
    c.ChangeItemQuantity: _Condition(lambda order: order.lines, "it has no line"),
    c.RemoveItemFromOrder: _Condition(
        _has_removable_line, "no line can be removed: its discounts would exceed the price"
    ),
    c.ApplyDiscount: _Condition(
        lambda order: (
            order.subtotal > order.discounted and len(order.discounts) < draft.DISCOUNTS_MAX
        ),
        f"its price is 0, or it has {draft.DISCOUNTS_MAX} discounts, the most that it can have",
    ),
    c.RemoveDiscount: _Condition(lambda order: order.discounts, "it has no discount"),
    c.SetShippingCharge: _Condition(
        lambda order: order.shipping_charge or order.subtotal < TOTAL_MAX,
        "its total is the highest that it can be",
    ),
    c.SetShippingAddress: _Condition(draft.takes_address, "all of it has left"),
    c.AddNote: _Condition(
        lambda order: len(order.notes) < draft.NOTES_MAX,
        f"it has {draft.NOTES_MAX} notes, the most that it can have",
    ),
    c.PlaceOrder: _Condition(lambda order: order.lines, "it has no line"),
    # Lifecycle
    c.CancelOrder: _Condition(cancellation.is_cancellable, "some of it has left: cancel lines"),
    c.CancelLines: _Condition(lambda order: order.unshipped(), "all of it has left"),
    # Decisions of the customer
    c.AcceptShortfall: _Condition(
        lambda order: order.awaiting == "shortfall", "it awaits no decision about a shortfall"
    ),
    c.RetryPayment: _Condition(
        lambda order: order.awaiting == "payment", "it awaits no other payment method"
    ),
    # Payment
    c.CapturePayment: _Condition(ledger.to_capture, "nothing is authorised that can be captured"),
    c.RefundPayment: _Condition(fulfilment.goodwill_max, "nothing is captured to be refunded"),
    # Shipments
    c.CreateShipment: _Condition(
        shipments.shippable, "no reserved pieces are left to put into a shipment"
    ),
    c.DispatchShipment: _Condition(
        lambda order: any(map(shipments.is_ready, order.shipments.values())),
        "no shipment is ready to leave",
    ),
    c.ConfirmDelivery: _Condition(_has_dispatched_shipment, "no shipment is on its way"),
    c.ReportDeliveryFailure: _Condition(_has_dispatched_shipment, "no shipment is on its way"),
    # Returns
    c.RequestReturn: _Condition(
        _has_returnable_pieces, "nothing of it can be returned, or the time for it is over"
    ),
    c.ApproveReturn: _Condition(
        lambda order: any(back.status == "requested" for back in order.returns.values()),
        "no return waits for approval",
    ),
    c.RejectReturn: _Condition(
        lambda order: any(
            back.status in ("requested", "approved") for back in order.returns.values()
        ),
        "no return is requested or approved",
    ),
    c.ReceiveReturn: _Condition(
        lambda order: any(
            back.status == "approved"
            and any(n > 0 for n in returns.receivable(back, order).values())
            for back in order.returns.values()
        ),
        "no approved return is on its way",
    ),
    # What a person settles
    c.RetryStep: _Condition(lambda order: order.stuck_steps, "no step is stuck"),
    c.SettleStep: _Condition(lambda order: order.steps, "no step is running"),
    c.ResolveDiscrepancy: _Condition(lambda order: order.discrepancies, "it has no discrepancy"),
}
