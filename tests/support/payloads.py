"""For each type of command, payloads of which an order accepts one if it accepts any."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orders import commands as c
from orders.commands import LineQuantity, OrderCommand
from orders.order import Order

FRESH = "fresh"  # A client id that no order has.
GHOST = "ghost"  # An id of nothing.


def payloads(type_: str, order: Order) -> Iterator[OrderCommand]:
    """Commands of a type for all that the order has, and for what it does not have."""
    yield from _PAYLOADS[type_](order)


def _pieces(order: Order) -> Iterator[list[LineQuantity]]:
    """One piece of each line."""
    for key in [*order.lines, GHOST]:
        yield [LineQuantity(line_id=key, quantity=1)]


def _changed_quantities(order: Order) -> Iterator[OrderCommand]:
    for key, line in order.lines.items():
        yield c.ChangeItemQuantity(line_id=key, quantity=line.quantity, tax=line.tax + 1)
    yield c.ChangeItemQuantity(line_id=GHOST, quantity=1)


def _shipments(order: Order) -> list[str]:
    return [*order.shipments, GHOST]


def _returns(order: Order) -> list[str]:
    return [*order.returns, GHOST]


def _receipts(order: Order) -> Iterator[OrderCommand]:
    for key in _returns(order):
        for lines in _pieces(order):
            yield c.ReceiveReturn(
                receipt_id=FRESH, return_id=key, lines=lines, condition="sellable"
            )


def _settlements(order: Order) -> Iterator[OrderCommand]:
    for key in [*order.steps, GHOST]:
        yield c.SettleStep(
            step_id=key, outcome="done", reason="by telephone", reference="r", location="EAST"
        )
        yield c.SettleStep(step_id=key, outcome="failed", reason="by telephone")


_PAYLOADS: dict[str, Callable[[Order], Iterator[OrderCommand] | list[OrderCommand]]] = {
    "open-order": lambda _: [c.OpenOrder(customer_id="901", currency="EUR")],
    "add-item-to-order": lambda _: [
        c.AddItemToOrder(line_id=FRESH, sku="S", title="T", quantity=1, unit_price=0)
    ],
    "change-item-quantity": _changed_quantities,
    "remove-item-from-order": lambda order: [
        c.RemoveItemFromOrder(line_id=key) for key in [*order.lines, GHOST]
    ],
    "apply-discount": lambda _: [c.ApplyDiscount(discount_id=FRESH, amount=1)],
    "remove-discount": lambda order: [
        c.RemoveDiscount(discount_id=key) for key in [*order.discounts, GHOST]
    ],
    "set-shipping-charge": lambda order: [c.SetShippingCharge(amount=order.shipping_charge + 1)],
    "set-shipping-address": lambda _: [c.SetShippingAddress(address=f"sealed.{FRESH}")],
    "set-billing-address": lambda _: [c.SetBillingAddress(address=f"sealed.{FRESH}")],
    "add-note": lambda _: [c.AddNote(note_id=FRESH, text="ring twice")],
    "place-order": lambda _: [c.PlaceOrder(payment_method="pm_fresh")],
    "hold-order": lambda _: [c.HoldOrder()],
    "release-order": lambda _: [c.ReleaseOrder()],
    "cancel-order": lambda _: [c.CancelOrder()],
    "cancel-lines": lambda order: (
        c.CancelLines(cancellation_id=FRESH, lines=lines) for lines in _pieces(order)
    ),
    "accept-shortfall": lambda _: [c.AcceptShortfall()],
    "retry-payment": lambda _: [c.RetryPayment(method="pm_fresh")],
    "capture-payment": lambda _: [c.CapturePayment(capture_id=FRESH, amount=1)],
    "refund-payment": lambda _: [c.RefundPayment(refund_id=FRESH, amount=1)],
    "create-shipment": lambda order: (
        c.CreateShipment(shipment_id=FRESH, lines=lines) for lines in _pieces(order)
    ),
    "dispatch-shipment": lambda order: [
        c.DispatchShipment(shipment_id=key) for key in _shipments(order)
    ],
    "confirm-delivery": lambda order: [
        c.ConfirmDelivery(shipment_id=key) for key in _shipments(order)
    ],
    "report-delivery-failure": lambda order: [
        c.ReportDeliveryFailure(shipment_id=key) for key in _shipments(order)
    ],
    "amend-order": lambda order: [
        c.AmendOrder(
            amendment_id=FRESH, changes=[c.ChangeShippingCharge(amount=order.shipping_charge + 1)]
        )
    ],
    "request-return": lambda order: (
        c.RequestReturn(return_id=FRESH, lines=lines) for lines in _pieces(order)
    ),
    "approve-return": lambda order: [c.ApproveReturn(return_id=key) for key in _returns(order)],
    "reject-return": lambda order: [c.RejectReturn(return_id=key) for key in _returns(order)],
    "receive-return": _receipts,
    "retry-step": lambda order: [c.RetryStep(step_id=key) for key in [None, *order.steps, GHOST]],
    "settle-step": _settlements,
    "resolve-discrepancy": lambda order: [
        c.ResolveDiscrepancy(discrepancy_id=key, reason="settled")
        for key in [*order.discrepancies, GHOST]
    ],
}
