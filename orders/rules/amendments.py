"""The rules of amendments: changes to the lines and shipping charge of a placed order."""

from __future__ import annotations

from dataclasses import replace

from orders import commands as c
from orders.entities import Line, PaidTerms
from orders.events import AmendedLine, AmendmentReverted, OrderAmended, OrderEvent
from orders.order import Order
from orders.rules.checks import (
    CommandRejected,
    check_capacity,
    check_id_free,
    check_line,
    fingerprint,
    require,
)
from orders.rules.draft import LINES_MAX


def decide_amendment(command: c.AmendOrder, order: Order) -> list[OrderEvent]:
    """The event of an amendment; none if it changes nothing."""
    lines, charge = dict(order.lines), order.shipping_charge
    for number, change in enumerate(command.changes):
        field = f"changes/{number}"
        match change:
            case c.AddLine(line_id=line_id):
                check_id_free(line_id, lines, order.removed_lines, f"{field}/line_id")
                check_capacity(lines, LINES_MAX, "too-many-lines")
                lines[line_id] = Line.of(change)
                check_line(lines[line_id], order.currency, f"{field}/discount")
            case c.ChangeLine(line_id=line_id):
                lines[line_id] = _changed(change, require(line_id, lines, "line_id"), field)
                check_line(lines[line_id], order.currency, field)
            case c.RemoveLine(line_id=line_id):
                line = require(line_id, lines, "line_id")
                if line.shipped:
                    raise CommandRejected(
                        f"{line.shipped} pieces of line {line_id} have left already",
                        "already-shipped",
                        field,
                    )
                lines[line_id] = replace(line, cancelled=line.quantity)
            case c.ChangeShippingCharge(amount=amount):
                charge = amount
    changed = [line for key, line in lines.items() if line != order.lines.get(key)]
    if not changed and charge == order.shipping_charge:
        return []
    return [
        OrderAmended(
            amendment_id=command.amendment_id,
            lines=[_terms(line) for line in changed],
            shipping_charge=charge,
            fingerprint=fingerprint(command),
        )
    ]


def _changed(change: c.ChangeLine, line: Line, field: str) -> Line:
    given = change.model_dump(exclude={"type", "line_id"}, exclude_none=True)
    settled = line.shipped + line.cancelled
    if given.get("quantity", settled) < settled:
        raise CommandRejected(
            f"{settled} pieces of line {line.line_id} have left or are cancelled already",
            "already-shipped",
            f"{field}/quantity",
        )
    return replace(line, **given)


def _terms(line: Line) -> AmendedLine:
    return AmendedLine(
        line_id=line.line_id,
        sku=line.sku,
        title=line.title,
        quantity=line.quantity,
        unit_price=line.unit_price,
        discount=line.discount,
        tax=line.tax,
        cancelled=line.cancelled,
    )


def revert(paid: PaidTerms, order: Order) -> AmendmentReverted:
    """Restores the terms that are paid for, as far as nothing of the amendment has left."""
    lines = [_reverted(order.lines[key], before) for key, before in paid.lines.items()]
    return AmendmentReverted(
        lines=[_terms(line) for line in lines],
        shipping_charge=paid.shipping_charge,
        reason="the increment of the amendment was not paid in time",
    )


def _reverted(line: Line, before: Line | None) -> Line:
    if before is None:
        return replace(line, cancelled=line.quantity - line.shipped)
    was_removed = line.cancelled == line.quantity
    cancelled = before.cancelled if was_removed else min(line.cancelled, before.quantity)
    return replace(
        line,
        quantity=max(before.quantity, line.shipped + cancelled),
        unit_price=before.unit_price,
        discount=before.discount,
        tax=before.tax,
        cancelled=cancelled,
    )
