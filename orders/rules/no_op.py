"""Commands whose effect is already there: they change nothing and are not rejected."""

from __future__ import annotations

from orders import commands as c
from orders.commands import OrderCommand
from orders.entities import Discount, Line
from orders.events import client_key
from orders.lifecycle import ACTIVE, Status
from orders.order import Order
from orders.rules.checks import CommandRejected, fingerprint
from orders.text import fingerprint_of

_PLACED = ACTIVE | {Status.ON_HOLD, Status.COMPLETED}
_RELEASED = ACTIVE | {Status.CANCELLING, Status.CANCELLED, Status.COMPLETED}


def is_no_op(command: OrderCommand, order: Order) -> bool:
    """Whether the order is as the command would make it. Rejects a client id used for another."""
    match command:
        case c.OpenOrder():
            return (order.customer_id, order.currency, order.external_reference) == (
                command.customer_id,
                command.currency,
                command.external_reference,
            )
        case c.AddItemToOrder(line_id=key):
            return key in order.lines and order.lines[key].terms == Line.of(command).terms
        case c.ChangeItemQuantity(line_id=key, quantity=quantity, discount=discount, tax=tax):
            line = order.lines.get(key)
            given = (quantity, discount, tax)
            return line is not None and all(
                amount in (None, known)
                for amount, known in zip(
                    given, (line.quantity, line.discount, line.tax), strict=True
                )
            )
        case c.RemoveItemFromOrder(line_id=key):
            return key in order.removed_lines
        case c.ApplyDiscount(discount_id=key, amount=amount, reason=reason):
            return order.discounts.get(key) == Discount(key, amount, fingerprint_of(reason or ""))
        case c.RemoveDiscount(discount_id=key):
            return key in order.removed_discounts
        case c.AddNote(note_id=key, text=text):
            return order.notes.get(key) == fingerprint_of(text)
        case c.SetShippingCharge(amount=amount):
            return order.status is Status.DRAFT and order.shipping_charge == amount
        case c.SetShippingAddress(address=address):
            return order.shipping_address == address
        case c.SetBillingAddress(address=address):
            return order.billing_address == address
        case c.PlaceOrder(payment_method=method):
            return order.status in _PLACED and method in (None, order.payment_method)
        case c.HoldOrder():
            return order.status is Status.ON_HOLD
        case c.ReleaseOrder():
            return order.policy is not None and order.status in _RELEASED
        case c.CancelOrder():
            return order.status in (Status.CANCELLING, Status.CANCELLED)
        case c.AcceptShortfall():
            return order.shortfall_accepted and order.awaiting != "shortfall"
        case c.RetryPayment(method=method):
            is_paying = order.status in ACTIVE and order.awaiting != "payment"
            return is_paying and order.payment_method == method
        case c.DispatchShipment(shipment_id=key):
            return _shipment_status(key, order) in ("dispatched", "delivered", "failed")
        case c.ConfirmDelivery(shipment_id=key):
            return _shipment_status(key, order) == "delivered"
        case c.ReportDeliveryFailure(shipment_id=key):
            return _shipment_status(key, order) == "failed"
        case c.ApproveReturn(return_id=key):
            return key in order.returns and order.returns[key].status in ("approved", "received")
        case c.RejectReturn(return_id=key):
            return key in order.returns and order.returns[key].status == "rejected"
        case c.RetryStep(step_id=None):
            return order.status is not Status.NEW and not order.stuck_steps
        case c.RetryStep(step_id=key):
            return key in order.steps and key not in order.stuck_steps
        case c.ResolveDiscrepancy(discrepancy_id=key):
            known = client_key("discrepancy_id", key) in order.client_ids
            return known and key not in order.discrepancies
        case _:
            return _is_repeat(command, order)


def _is_repeat(command: OrderCommand, order: Order) -> bool:
    """Whether this very command came before; rejects another one with its client id."""
    field = command.client_id_field
    assert field is not None, f"{command.type} has no client id: `is_no_op` needs a case for it"
    client_id = getattr(command, field)
    known = order.client_ids.get(client_key(field, client_id))
    if known is not None and known != fingerprint(command):
        raise CommandRejected(
            f"{client_id} already exists, with other content", "id-already-used", field
        )
    return known is not None


def _shipment_status(shipment_id: str, order: Order) -> str | None:
    shipment = order.shipments.get(shipment_id)
    return shipment.status if shipment else None
