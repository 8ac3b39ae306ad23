"""An order in the Temporal Web UI: Markdown without personal data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from orders import ledger, statuses
from orders.entities import Line, Return, Shipment
from orders.lifecycle import ENDED, Status
from orders.money import format_amount
from orders.order import Order
from orders.rules.deadlines import next_deadline
from workflows import activity_options

LINES_SHOWN = 20

CANCELLATION_IGNORED = (
    "**A cancellation requested in Temporal does not cancel an order.** It was ignored, and the "
    "order continues. To cancel the order, send `cancel-order` instead."
)
_ENDING = ENDED | {Status.CANCELLING}


def summary(order: Order) -> str:
    """One line for the list of workflows: customer, number of lines, total."""
    lines = f"{len(order.lines)} line{'s' * (len(order.lines) != 1)}"
    return f"customer {order.customer_id}, {lines}, {format_amount(order.total, order.currency)}"


def details(
    order: Order,
    unpublished: int,
    alerts: Sequence[str],
    *,
    cancellation_ignored: bool = False,
) -> str:
    """The order as it is now, what needs attention, and what it waits for until when."""
    if order.version == 0:
        return "This order has not been opened."
    parts = [
        f"### {order.status}, {format_amount(order.total, order.currency)}",
        f"Customer {order.customer_id}, version {order.version}",
    ]
    if cancellation_ignored and order.status not in _ENDING:
        parts.append(CANCELLATION_IGNORED)
    parts += [f"**Needs attention:** {alert}" for alert in alerts]
    parts += [
        f"**Needs attention:** step {key} is stuck: {_plain(reason)} (`retry-step` tries it again)"
        for key, reason in order.stuck_steps.items()
    ]
    parts += [
        f"**Needs attention:** {found.kind}, reported by {found.service}"
        f" (`resolve-discrepancy` closes {key})"
        for key, found in order.discrepancies.items()
    ]
    parts += [
        f"**Needs attention:** chargeback {key} of {format_amount(found.amount, order.currency)}"
        for key, found in order.chargebacks.items()
    ]
    parts += _waiting(order)
    if unpublished:
        parts.append(f"{unpublished} events not yet in the log")
    if order.lines:
        parts += ["Lines:", _lines(order)]  # Two lists in a row would be drawn as one.
    if order.shipping_charge:
        parts.append(f"Shipping: {format_amount(order.shipping_charge, order.currency)}")
    if order.discounts:
        parts.append(f"Discounts on the order: {format_amount(order.discounted, order.currency)}")
    if order.authorisations:
        parts.append(_ledger(order))
    parts += [_shipment(shipment) for shipment in order.shipments.values()]
    parts += [_return(back) for back in order.returns.values()]
    return "\n\n".join(parts)


def _waiting(order: Order) -> Iterable[str]:
    if order.status is Status.ON_HOLD:
        yield "**On hold:** results are applied, but no step begins until `release-order`"
    if order.awaiting:
        yield f"**Waits for the customer:** {_question(order)}"
    steps = [f"- {activity_options.summary(step, order.currency)}" for step in order.steps.values()]
    if steps:
        yield "Waits for other services:"
        yield "\n".join(steps)
    if (deadline := next_deadline(order)) is not None:
        yield f"Deadline: {deadline.name} at {deadline.at:%Y-%m-%d %H:%M} UTC"


def _question(order: Order) -> str:
    if order.awaiting == "payment":
        return "the payment was declined; `retry-payment` with another method, amend, or cancel"
    short = ", ".join(f"{n} × {_plain(order.lines[k].sku)}" for k, n in order.missing().items())
    return f"not in stock: {short}; `accept-shortfall`, amend, or cancel"


def _ledger(order: Order) -> str:
    amounts = {
        "authorised": ledger.authorised(order),
        "captured": ledger.captured(order),
        "refunded": ledger.refunded(order),
        "voided": ledger.voided(order),
        "due by now": ledger.due(order),
    }
    shown = ", ".join(
        f"{format_amount(n, order.currency)} {what}" for what, n in amounts.items() if n
    )
    return f"Payment {statuses.payment_status(order)}: {shown}"


def _shipment(shipment: Shipment) -> str:
    tracking = f", tracking {_plain(shipment.tracking)}" if shipment.tracking else ""
    state = f"{shipment.status}, {_pieces(shipment.lines)}{tracking}"
    return f"Shipment {shipment.shipment_id} from {shipment.location}: {state}"


def _return(back: Return) -> str:
    outstanding = sum(back.outstanding.values())
    rest = f", {outstanding} outstanding" if outstanding else ""
    return f"Return {back.return_id}: {back.status}, {_pieces(back.lines)}{rest}"


def _pieces(lines: Mapping[str, int]) -> str:
    count = sum(lines.values())
    return f"{count} piece{'s' * (count != 1)}"


def _lines(order: Order) -> str:
    # A list and not a table: the Web UI draws tables without any space between their columns.
    rows = [_line(line, order) for line in list(order.lines.values())[:LINES_SHOWN]]
    if len(order.lines) > LINES_SHOWN:
        rows.append(f"- and {len(order.lines) - LINES_SHOWN} more lines")
    return "\n".join(rows)


def _line(line: Line, order: Order) -> str:
    price, total = (format_amount(n, order.currency) for n in (line.unit_price, line.total))
    counters = {
        "reserved": line.reserved_quantity,
        "shipped": line.shipped,
        "delivered": line.delivered,
        "cancelled": statuses.cancelled_pieces(order, line.line_id),
        "returned": line.returned,
    }
    progress = "".join(f", {n} {what}" for what, n in counters.items() if n)
    what = f"{_plain(line.title)} ({_plain(line.sku)})"
    return f"- {line.quantity} × {what} at {price}: **{total}**{progress}"


def _plain(text: str) -> str:
    """Escapes text for Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
