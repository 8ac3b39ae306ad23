"""An order as the API shows it, made from the order as its events say it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel

from orders.decider import allowed_commands
from orders.order import Line, Order


class LineDocument(BaseModel):
    """One line. Amounts are integer minor units of the order's currency."""

    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int
    total: int
    share_of_discounts: int
    """The line's part of the discounts on the whole order; the parts sum to them exactly."""


class DiscountDocument(BaseModel):
    """An amount off the whole order."""

    discount_id: str
    amount: int
    reason: str | None


class NoteDocument(BaseModel):
    """Something that somebody wrote down about the order."""

    note_id: str
    text: str


class OrderDocument(BaseModel):
    """One order. Amounts are integer minor units of `currency`; `total` has all discounts off."""

    order_id: str
    version: int
    status: str
    customer_id: str
    currency: str
    external_reference: str | None
    total: int
    lines: list[LineDocument]
    discounts: list[DiscountDocument]
    notes: list[NoteDocument]
    opened_at: datetime | None
    placed_at: datetime | None
    updated_at: datetime | None
    allowed_commands: list[str]


@dataclass(frozen=True, slots=True)
class View:
    """An order and what its events' times tell of it."""

    order_id: str
    order: Order = field(default_factory=Order)
    opened_at: datetime | None = None
    placed_at: datetime | None = None
    updated_at: datetime | None = None


def document(view: View) -> OrderDocument:
    """The document of a view."""
    order, shares = view.order, view.order.discount_shares()
    return OrderDocument(
        order_id=view.order_id,
        version=order.version,
        status=order.status,
        customer_id=order.customer_id,
        currency=order.currency,
        external_reference=order.external_reference,
        total=order.total,
        lines=[_line(line, shares[line.line_id]) for line in order.lines.values()],
        discounts=[
            DiscountDocument(discount_id=d.discount_id, amount=d.amount, reason=d.reason)
            for d in order.discounts.values()
        ],
        notes=[NoteDocument(note_id=key, text=text) for key, text in order.notes.items()],
        opened_at=view.opened_at,
        placed_at=view.placed_at,
        updated_at=view.updated_at,
        allowed_commands=allowed_commands(order),
    )


def _line(line: Line, share_of_discounts: int) -> LineDocument:
    return LineDocument(
        line_id=line.line_id,
        sku=line.sku,
        title=line.title,
        quantity=line.quantity,
        unit_price=line.unit_price,
        discount=line.discount,
        tax=line.tax,
        total=line.total,
        share_of_discounts=share_of_discounts,
    )
