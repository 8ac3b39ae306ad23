"""The commands that an order offers: those of which it would accept some payload now."""

from __future__ import annotations

from collections.abc import Callable

from orders import commands as c
from orders import ledger
from orders.commands import OrderCommand
from orders.money import TOTAL_MAX
from orders.order import Order
from orders.rules import cancellation, draft, fulfilment, returns, shipments
from orders.rules.deadlines import passed_on_hold


def is_offered(command_type: type[OrderCommand], order: Order) -> bool:
    """Whether the order has what a command needs; its status is checked elsewhere."""
    condition = _CONDITIONS.get(command_type)
    return condition is None or bool(condition(order))


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


# Commands without a condition only depend on the status.
_CONDITIONS: dict[type[OrderCommand], Callable[[Order], object]] = {
    # The draft, notes and addresses
    c.AddItemToOrder: lambda order: len(order.lines) < draft.LINES_MAX,
    c.ChangeItemQuantity: lambda order: order.lines,
    c.RemoveItemFromOrder: _has_removable_line,
    c.ApplyDiscount: lambda order: (
        order.subtotal > order.discounted and len(order.discounts) < draft.DISCOUNTS_MAX
    ),
    c.RemoveDiscount: lambda order: order.discounts,
    c.SetShippingCharge: lambda order: order.shipping_charge or order.subtotal < TOTAL_MAX,
    c.SetShippingAddress: draft.takes_address,
    c.AddNote: lambda order: len(order.notes) < draft.NOTES_MAX,
    c.PlaceOrder: lambda order: order.lines,
    # Lifecycle
    c.CancelOrder: cancellation.is_cancellable,
    c.CancelLines: lambda order: order.unshipped(),
    # Decisions of the customer
    c.AcceptShortfall: lambda order: order.awaiting == "shortfall",
    c.RetryPayment: lambda order: order.awaiting == "payment",
    # Payment
    c.CapturePayment: ledger.to_capture,
    c.RefundPayment: fulfilment.goodwill_max,
    # Shipments
    c.CreateShipment: shipments.shippable,
    c.DispatchShipment: lambda order: any(map(shipments.is_ready, order.shipments.values())),
    c.ConfirmDelivery: _has_dispatched_shipment,
    c.ReportDeliveryFailure: _has_dispatched_shipment,
    # Returns
    c.RequestReturn: _has_returnable_pieces,
    c.ApproveReturn: lambda order: any(b.status == "requested" for b in order.returns.values()),
    c.RejectReturn: lambda order: any(
        back.status in ("requested", "approved") for back in order.returns.values()
    ),
    c.ReceiveReturn: lambda order: any(
        back.status == "approved" and any(n > 0 for n in returns.receivable(back, order).values())
        for back in order.returns.values()
    ),
    # What a person settles
    c.RetryStep: lambda order: order.stuck_steps,
    c.SettleStep: lambda order: order.steps,
    c.ResolveDiscrepancy: lambda order: order.discrepancies,
}
