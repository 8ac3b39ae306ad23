"""The rules of a draft, and of the notes and addresses of an order in any status."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from orders import commands as c
from orders import events as e
from orders.commands import OrderCommand
from orders.entities import Line
from orders.events import OrderEvent
from orders.order import Order
from orders.rules.checks import CommandRejected, check_capacity, check_id_free, check_line, require

LINES_MAX = 5_000
DISCOUNTS_MAX = 100
NOTES_MAX = 1_000


def decide_draft(command: OrderCommand, order: Order, now: datetime) -> list[OrderEvent] | None:
    """The events of a command on a draft; None for any other command."""
    match command:
        case c.OpenOrder(policy=policy):
            return [
                e.OrderOpened(
                    customer_id=command.customer_id,
                    currency=command.currency,
                    external_reference=command.external_reference,
                    policy=policy,
                    expires_at=now + timedelta(seconds=policy.draft) if policy else None,
                )
            ]
        case c.AddItemToOrder(line_id=line_id):
            check_id_free(line_id, order.lines, order.removed_lines, "line_id")
            check_capacity(order.lines, LINES_MAX, "too-many-lines")
            check_line(Line.of(command), order.currency, "discount")
            return [e.ItemAdded(**command.model_dump(exclude={"type", "currency"}))]
        case c.ChangeItemQuantity(line_id=line_id):
            return [_quantity_changed(command, require(line_id, order.lines, "line_id"), order)]
        case c.RemoveItemFromOrder(line_id=line_id):
            require(line_id, order.lines, "line_id")
            return [e.ItemRemoved(line_id=line_id)]
        case c.ApplyDiscount(discount_id=discount_id, amount=amount, reason=reason):
            check_id_free(discount_id, order.discounts, order.removed_discounts, "discount_id")
            check_capacity(order.discounts, DISCOUNTS_MAX, "too-many-discounts")
            return [e.DiscountApplied(discount_id=discount_id, amount=amount, reason=reason)]
        case c.RemoveDiscount(discount_id=discount_id):
            require(discount_id, order.discounts, "discount_id")
            return [e.DiscountRemoved(discount_id=discount_id)]
        case c.SetShippingCharge(amount=amount):
            return [e.ShippingChargeSet(amount=amount)]
        case c.SetShippingAddress(address=address):
            if not takes_address(order):
                raise CommandRejected(
                    "all pieces have left; another address comes too late", "already-shipped"
                )
            return [e.ShippingAddressSet(address=address)]
        case c.SetBillingAddress(address=address):
            return [e.BillingAddressSet(address=address)]
        case c.AddNote(note_id=note_id, text=text):
            check_id_free(note_id, order.notes, frozenset(), "note_id")
            check_capacity(order.notes, NOTES_MAX, "too-many-notes")
            return [e.NoteAdded(note_id=note_id, text=text)]
        case c.PlaceOrder(payment_method=method):
            if not order.lines:
                raise CommandRejected("the order has no lines", "no-lines")
            return [e.OrderPlaced(total=order.total, payment_method=method)]
        case _:
            return None


def takes_address(order: Order) -> bool:
    """Whether pieces may still leave, so that another shipping address is of use."""
    return not order.has_shipped or bool(order.unshipped())


def _quantity_changed(
    command: c.ChangeItemQuantity, line: Line, order: Order
) -> e.ItemQuantityChanged:
    changed = line.with_quantity(command.quantity)
    if command.discount is not None:
        changed = replace(changed, discount=command.discount)
    if command.tax is not None:
        changed = replace(changed, tax=command.tax)
    check_line(changed, order.currency, "quantity" if command.discount is None else "discount")
    return e.ItemQuantityChanged(
        line_id=line.line_id,
        quantity=changed.quantity,
        discount=changed.discount if changed.discount != line.discount else None,
        tax=changed.tax if changed.tax != line.tax else None,
    )
