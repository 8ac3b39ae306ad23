"""The rules of an order: pure functions, with no clock, no I/O and no Temporal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from orders import commands as c
from orders.commands import OrderCommand
from orders.events import (
    DiscountApplied,
    DiscountRemoved,
    ItemAdded,
    ItemQuantityChanged,
    ItemRemoved,
    NoteAdded,
    OrderCancelled,
    OrderEvent,
    OrderOpened,
    OrderPlaced,
)
from orders.money import TOTAL_MAX, formatted
from orders.order import Discount, Line, Order, Status, fold

T = TypeVar("T")

LINES_MAX = 5_000
DISCOUNTS_MAX = 100
NOTES_MAX = 5_000


class CommandRejected(Exception):
    """A rule says no.

    `code` is stable and meant for programs; `index` is the place of the command in its
    instruction; `field` names the one field to change, where there is one.
    """

    def __init__(self, message: str, code: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.field = field
        self.index = 0


_EDITING: tuple[type[OrderCommand], ...] = (
    c.AddItemToOrder,
    c.ChangeItemQuantity,
    c.RemoveItemFromOrder,
    c.ApplyDiscount,
    c.RemoveDiscount,
)
ALLOWED: Mapping[Status, tuple[type[OrderCommand], ...]] = {
    Status.NEW: (c.OpenOrder,),
    Status.DRAFT: (*_EDITING, c.AddNote, c.PlaceOrder, c.CancelOrder),
    Status.PLACED: (c.AddNote, c.CancelOrder),
    Status.CANCELLED: (c.AddNote,),
}


def allowed_commands(order: Order) -> list[str]:
    """The types of command that the order's status admits; each still has rules of its own."""
    return [c.type_of(command) for command in ALLOWED[order.status]]


def is_over(order: Order) -> bool:
    """Whether the outside world owes the order nothing more, nor it the outside world."""
    return order.status is Status.CANCELLED


def decide(command: OrderCommand, order: Order) -> list[OrderEvent]:
    """The events that a command causes: none if it is already so; raises CommandRejected."""
    return _decide(command, order)[0]


def decide_all(
    commands: Sequence[OrderCommand], order: Order
) -> tuple[list[tuple[OrderCommand, OrderEvent]], Order]:
    """Several commands, each deciding on what the ones before it did; all or nothing.

    Returns each event beside the command that caused it, and the order after them. A
    CommandRejected says by its `index` which command was refused.
    """
    decided: list[tuple[OrderCommand, OrderEvent]] = []
    for index, command in enumerate(commands):
        try:
            events, order = _decide(command, order)
        except CommandRejected as rejected:
            rejected.index = index
            raise
        decided += [(command, event) for event in events]
    return decided, order


def _decide(command: OrderCommand, order: Order) -> tuple[list[OrderEvent], Order]:
    """The events that a command causes, and the order after them."""
    _check_currency(command, order)
    if _already_so(command, order):
        return [], order
    if type(command) not in ALLOWED[order.status]:
        raise CommandRejected(f"{command.type}: the order is {order.status}", "not-allowed-now")
    events = _consequences(command, order)
    after = fold(events, order)
    _check_totals(after, "amount" if isinstance(command, c.ApplyDiscount) else None)
    return events, after


def _already_so(command: OrderCommand, order: Order) -> bool:
    match command:
        case c.OpenOrder():
            return (order.customer_id, order.currency, order.external_reference) == (
                command.customer_id,
                command.currency,
                command.external_reference,
            )
        case c.AddItemToOrder(line_id=line_id):
            return order.lines.get(line_id) == Line.of(command)
        case c.ChangeItemQuantity(line_id=line_id, quantity=quantity):
            return line_id in order.lines and order.lines[line_id].quantity == quantity
        case c.RemoveItemFromOrder(line_id=line_id):
            return line_id in order.removed_lines
        case c.RemoveDiscount(discount_id=discount_id):
            return discount_id in order.removed_discounts
        case c.ApplyDiscount(discount_id=discount_id, amount=amount, reason=reason):
            return order.discounts.get(discount_id) == Discount(discount_id, amount, reason)
        case c.AddNote(note_id=note_id, text=text):
            return order.notes.get(note_id) == text
        case c.PlaceOrder():
            return order.status is Status.PLACED
        case c.CancelOrder():
            return order.status is Status.CANCELLED


def _consequences(command: OrderCommand, order: Order) -> list[OrderEvent]:
    match command:
        case c.OpenOrder():
            return [
                OrderOpened(
                    customer_id=command.customer_id,
                    currency=command.currency,
                    external_reference=command.external_reference,
                )
            ]
        case c.AddItemToOrder(line_id=line_id):
            _check_unused(line_id, order.lines, order.removed_lines, "line_id")
            _check_room(order.lines, LINES_MAX, "lines")
            _check_line(Line.of(command), order.currency, "discount")
            return [ItemAdded(**command.model_dump(exclude={"type", "currency"}))]
        case c.ChangeItemQuantity(line_id=line_id, quantity=quantity):
            line = _existing(line_id, order.lines, "line_id")
            _check_line(replace(line, quantity=quantity), order.currency, "quantity")
            return [ItemQuantityChanged(line_id=line_id, quantity=quantity)]
        case c.RemoveItemFromOrder(line_id=line_id):
            _existing(line_id, order.lines, "line_id")
            return [ItemRemoved(line_id=line_id)]
        case c.ApplyDiscount(discount_id=discount_id, amount=amount, reason=reason):
            _check_unused(discount_id, order.discounts, order.removed_discounts, "discount_id")
            _check_room(order.discounts, DISCOUNTS_MAX, "discounts")
            return [DiscountApplied(discount_id=discount_id, amount=amount, reason=reason)]
        case c.RemoveDiscount(discount_id=discount_id):
            _existing(discount_id, order.discounts, "discount_id")
            return [DiscountRemoved(discount_id=discount_id)]
        case c.AddNote(note_id=note_id, text=text):
            _check_unused(note_id, order.notes, frozenset(), "note_id")
            _check_room(order.notes, NOTES_MAX, "notes")
            return [NoteAdded(note_id=note_id, text=text)]
        case c.PlaceOrder():
            if not order.lines:
                raise CommandRejected("the order has no lines", "no-lines")
            return [OrderPlaced(total=order.total)]
        case c.CancelOrder(reason=reason):
            return [OrderCancelled(reason=reason)]


def _existing(key: str, entries: Mapping[str, T], field: str) -> T:
    if key not in entries:
        raise CommandRejected(
            f"the order has no {field.removesuffix('_id')} {key}", "unknown-id", field
        )
    return entries[key]


def _check_unused(
    key: str, entries: Mapping[str, object], removed: frozenset[str], field: str
) -> None:
    if key in entries:
        raise CommandRejected(
            f"{key} is already there, with other content", "id-already-used", field
        )
    if key in removed:
        raise CommandRejected(
            f"{key} was removed; an id is used once only", "id-already-used", field
        )


def _check_room(entries: Mapping[str, object], most: int, what: str) -> None:
    if len(entries) >= most:
        raise CommandRejected(f"an order holds at most {most:,} {what}", f"too-many-{what}")


def _check_currency(command: OrderCommand, order: Order) -> None:
    match command:
        case c.AddItemToOrder(currency=str(currency)) | c.ApplyDiscount(currency=str(currency)):
            if currency != order.currency and order.status is not Status.NEW:
                raise CommandRejected(
                    f"the order is in {order.currency}, not {currency}",
                    "other-currency",
                    "currency",
                )


def _check_line(line: Line, currency: str, field: str) -> None:
    if line.total < 0:
        raise CommandRejected(
            f"the discount makes the line {formatted(line.total, currency)}; it cannot be negative",
            "discount-exceeds-price",
            field,
        )


def _check_totals(order: Order, field: str | None) -> None:
    subtotal = order.subtotal
    if subtotal > TOTAL_MAX:
        raise CommandRejected(f"an order's lines come to {TOTAL_MAX:,} at most", "total-too-large")
    total = subtotal - order.discounted
    if total < 0:
        raise CommandRejected(
            f"the discounts make the order {formatted(total, order.currency)}; "
            "it cannot be negative",
            "discounts-exceed-total",
            field,
        )
