"""What the Temporal Web UI shows of an order: Markdown for people, without personal data."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orders.money import formatted
from orders.order import Order

LINES_SHOWN = 20


def summary(order: Order) -> str:
    """One line for the list of workflows: whose order it is, and how much it comes to."""
    lines = f"{len(order.lines)} line{'s' * (len(order.lines) != 1)}"
    return f"customer {order.customer_id}, {lines}, {formatted(order.total, order.currency)}"


def details(order: Order, unpublished: int, troubles: Sequence[str]) -> str:
    """The order as it is now, and what it is waiting for."""
    if order.version == 0:
        return "Nobody has opened this order yet."
    parts = [
        f"### {order.status}, {formatted(order.total, order.currency)}",
        f"Customer {order.customer_id}, version {order.version}",
    ]
    parts += [f"**Needs attention:** {trouble}" for trouble in troubles]
    if unpublished:
        parts.append(f"{unpublished} events not yet in the log")
    if order.lines:
        parts.append(_lines(order))
    if order.discounts:
        parts.append(f"Discounts on the order: {formatted(order.discounted, order.currency)}")
    return "\n\n".join(parts)


def _lines(order: Order) -> str:
    # A list and not a table: the Web UI draws tables without any space between their columns.
    rows = []
    for line in list(order.lines.values())[:LINES_SHOWN]:
        price = formatted(line.unit_price, order.currency)
        total = formatted(line.total, order.currency)
        what = f"{_plain(line.title)} ({_plain(line.sku)})"
        rows.append(f"- {line.quantity} × {what} at {price}: **{total}**")
    if len(order.lines) > LINES_SHOWN:
        rows.append(f"- and {len(order.lines) - LINES_SHOWN} more lines")
    return "\n".join(rows)


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
