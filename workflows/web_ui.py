"""What the Temporal Web UI shows of an order: Markdown for people, without personal data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from orders import ledger
from orders import statuses as derived
from orders.entities import Line, Return, Shipment
from orders.lifecycle import Status
from orders.money import formatted
from orders.order import Order
from orders.rules.deadlines import next_deadline
from workflows import activity_options as steps

LINES_SHOWN = 20


def summary(order: Order) -> str:
    """One line for the list of workflows: whose order it is, and how much it comes to."""
    lines = f"{len(order.lines)} line{'s' * (len(order.lines) != 1)}"
    return f"customer {order.customer_id}, {lines}, {formatted(order.total, order.currency)}"


def details(order: Order, unpublished: int, troubles: Sequence[str]) -> str:
    """The order as it is now, and what it is waiting for until when."""
    if order.version == 0:
        return "Nobody has opened this order yet."
    parts = [
        f"### {order.status}, {formatted(order.total, order.currency)}",
        f"Customer {order.customer_id}, version {order.version}",
    ]
    parts += [f"**Needs attention:** {trouble}" for trouble in troubles]
    parts += [
        f"**Needs attention:** {key} does not get on: {_plain(reason)} (`retry-step` asks again)"
        for key, reason in order.stuck_steps.items()
    ]
    parts += _waiting(order)
    if unpublished:
        parts.append(f"{unpublished} events not yet in the log")
    if order.lines:
        parts += ["Its lines:", _lines(order)]  # Two lists in a row would be drawn as one.
    if order.shipping_charge:
        parts.append(f"Shipping: {formatted(order.shipping_charge, order.currency)}")
    if order.discounts:
        parts.append(f"Discounts on the order: {formatted(order.discounted, order.currency)}")
    if order.authorisations:
        parts.append(_ledger(order))
    parts += [_shipment(shipment) for shipment in order.shipments.values()]
    parts += [_return(back) for back in order.returns.values()]
    return "\n\n".join(parts)


def _waiting(order: Order) -> Iterable[str]:
    if order.status is Status.ON_HOLD:
        yield "**Is held:** it hears what happens, but does nothing new until `release-order`"
    if order.awaiting:
        yield f"**Waits for the customer:** {_question(order)}"
    owed = [f"- {steps.summary(step, order.currency)}" for step in order.steps.values()]
    if owed:
        yield "Waits for other services:"
        yield "\n".join(owed)
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
    told = ", ".join(f"{formatted(n, order.currency)} {what}" for what, n in amounts.items() if n)
    return f"Payment {derived.payment_status(order)}: {told}"


def _shipment(shipment: Shipment) -> str:
    by = f", tracking {_plain(shipment.tracking)}" if shipment.tracking else ""
    told = f"{shipment.status}, {_pieces(shipment.lines)}{by}"
    return f"Shipment {shipment.shipment_id} from {shipment.location}: {told}"


def _return(back: Return) -> str:
    waits = sum(back.outstanding.values())
    still = f", {waits} still to come back" if waits else ""
    return f"Return {back.return_id}: {back.status}, {_pieces(back.lines)}{still}"


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
    price, total = (formatted(n, order.currency) for n in (line.unit_price, line.total))
    counters = {
        "reserved": line.reserved_quantity,
        "shipped": line.shipped,
        "delivered": line.delivered,
        "cancelled": derived.cancelled_pieces(order, line.line_id),
        "returned": line.returned,
    }
    come = "".join(f", {n} {what}" for what, n in counters.items() if n)
    what = f"{_plain(line.title)} ({_plain(line.sku)})"
    return f"- {line.quantity} × {what} at {price}: **{total}**{come}"


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", text)
