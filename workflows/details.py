"""What the Temporal Web UI shows of an order: Markdown for people, without personal data."""

from __future__ import annotations

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
        parts.append(_table(order))
    if order.discounts:
        parts.append(f"Discounts on the order: {formatted(order.discounted, order.currency)}")
    return "\n\n".join(parts)


def _table(order: Order) -> str:
    rows = ["| SKU | title | quantity | unit price | total |", "| --- | --- | ---: | ---: | ---: |"]
    for line in list(order.lines.values())[:LINES_SHOWN]:
        price = formatted(line.unit_price, order.currency)
        total = formatted(line.total, order.currency)
        cells = [_cell(line.sku), _cell(line.title), str(line.quantity), price, total]
        rows.append(f"| {' | '.join(cells)} |")
    if len(order.lines) > LINES_SHOWN:
        rows.append(f"| … | and {len(order.lines) - LINES_SHOWN} more lines | | | |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    """Text that cannot be taken for the border of its cell."""
    return text.replace("\\", "\\\\").replace("|", "\\|")
