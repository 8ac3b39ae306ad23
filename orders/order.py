"""An order as its events say it is: the state, and how each event changes it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from typing import TypeVar

from orders.commands import AddItemToOrder
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
from orders.money import allocate

T = TypeVar("T")


class Status(StrEnum):
    """How far an order has come. `new` is the order that nobody has opened yet."""

    NEW = "new"
    DRAFT = "draft"
    PLACED = "placed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Line:
    """So many pieces of one SKU. Amounts are minor units of the order's currency."""

    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int

    @classmethod
    def of(cls, item: AddItemToOrder | ItemAdded) -> Line:
        return cls(
            line_id=item.line_id,
            sku=item.sku,
            title=item.title,
            quantity=item.quantity,
            unit_price=item.unit_price,
            discount=item.discount,
            tax=item.tax,
        )

    @property
    def total(self) -> int:
        return self.quantity * self.unit_price - self.discount + self.tax


@dataclass(frozen=True, slots=True)
class Discount:
    """An amount off the whole order."""

    discount_id: str
    amount: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """One order, as its events say. Treat the mappings as frozen: `evolve` makes new ones."""

    version: int = 0
    status: Status = Status.NEW
    customer_id: str = ""
    currency: str = ""
    external_reference: str | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)
    discounts: Mapping[str, Discount] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    # Ids stay used after a removal: a late duplicate must not bring a line back.
    removed_lines: frozenset[str] = frozenset()
    removed_discounts: frozenset[str] = frozenset()

    @property
    def subtotal(self) -> int:
        return sum(line.total for line in self.lines.values())

    @property
    def discounted(self) -> int:
        return sum(discount.amount for discount in self.discounts.values())

    @property
    def total(self) -> int:
        return self.subtotal - self.discounted

    def discount_shares(self) -> dict[str, int]:
        """By line id, each line's part of the order's discounts; the parts sum to `discounted`."""
        if not self.lines:
            return {}
        totals = [line.total for line in self.lines.values()]
        return dict(zip(self.lines, allocate(self.discounted, totals), strict=True))


def evolve(order: Order, event: OrderEvent) -> Order:
    """The order after one more event. It has happened: no event is refused."""
    order = replace(order, version=order.version + 1)
    match event:
        case OrderOpened():
            return replace(
                order,
                status=Status.DRAFT,
                customer_id=event.customer_id,
                currency=event.currency,
                external_reference=event.external_reference,
            )
        case ItemAdded(line_id=line_id):
            return replace(order, lines={**order.lines, line_id: Line.of(event)})
        case ItemQuantityChanged(line_id=line_id, quantity=quantity):
            line = replace(order.lines[line_id], quantity=quantity)
            return replace(order, lines={**order.lines, line_id: line})
        case ItemRemoved(line_id=line_id):
            return replace(
                order,
                lines=_without(order.lines, line_id),
                removed_lines=order.removed_lines | {line_id},
            )
        case DiscountApplied(discount_id=discount_id, amount=amount, reason=reason):
            discount = Discount(discount_id, amount, reason)
            return replace(order, discounts={**order.discounts, discount_id: discount})
        case DiscountRemoved(discount_id=discount_id):
            return replace(
                order,
                discounts=_without(order.discounts, discount_id),
                removed_discounts=order.removed_discounts | {discount_id},
            )
        case NoteAdded(note_id=note_id, text=text):
            return replace(order, notes={**order.notes, note_id: text})
        case OrderPlaced():
            return replace(order, status=Status.PLACED)
        case OrderCancelled():
            return replace(order, status=Status.CANCELLED)


def fold(events: Iterable[OrderEvent], order: Order = Order()) -> Order:
    """The order after all of `events`, from `order` on; by default from the very beginning."""
    return reduce(evolve, events, order)


def _without(entries: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: entry for k, entry in entries.items() if k != key}
