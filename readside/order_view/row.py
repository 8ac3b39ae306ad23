"""A row of the read model: an order's document, and what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orders.decider import allowed_commands
from readside.order_view.document import document, with_orphan
from readside.order_view.view import OrderView


@dataclass(frozen=True, slots=True)
class OrderRow:
    """One order. The document does not depend on the caller, nor on keys; the rest is for both."""

    order_id: str
    version: int
    status: str
    document: str
    """The JSON of an OrderDocument."""
    allowed_commands: tuple[str, ...]
    """The types of command that the order offers, to an operator."""
    shipping_address: str | None = None
    """Encrypted, as is the other one."""
    billing_address: str | None = None
    orphaned: str | None = None
    """Why no workflow runs the order, although it is open; None if one does."""
    sort_value: datetime | int | None = None
    """In a list, the value that it is sorted by."""


def shown_document(row: OrderRow) -> str:
    """The JSON of its document, which says so if the order is orphaned."""
    return row.document if row.orphaned is None else with_orphan(row.document, row.orphaned)


def order_row(view: OrderView) -> OrderRow:
    """The row of a view."""
    order = view.order
    return OrderRow(
        order_id=view.order_id,
        version=order.version,
        status=order.status,
        document=document(view).model_dump_json(),
        allowed_commands=tuple(allowed_commands(order)),
        shipping_address=order.shipping_address,
        billing_address=order.billing_address,
    )
