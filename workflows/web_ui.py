"""An order in the Temporal Web UI: Markdown without personal data."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from orders import ledger, statuses
from orders.entities import Line, Return, Shipment
from orders.lifecycle import ENDED, Status
from orders.money import format_amount
from orders.order import Order
from orders.rules.deadlines import next_deadline
from workflows import activity_options
from workflows.continuation import EarlierRuns

SHOWN_MAX = 20  # Lines, steps, shipments and so on: of each kind, the first ones.

CANCELLATION_IGNORED = (
    "**A cancellation requested in Temporal does not cancel an order.** It was ignored, and the "
    "order continues. To cancel the order, send `cancel-order` instead."
)
T = TypeVar("T")
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
    origin: str = "",
) -> str:
    """The order as it is now, what needs attention, and what it waits for until when.

    `origin` says what came before this run.
    """
    if order.version == 0:
        return "This order has not been opened."
    parts = [
        f"### {order.status}, {format_amount(order.total, order.currency)}",
        f"Customer {order.customer_id}, version {order.version}",
    ]
    if cancellation_ignored and order.status not in _ENDING:
        parts.append(CANCELLATION_IGNORED)
    parts += [f"**Needs attention:** {alert}" for alert in alerts]
    parts += _first(
        order.stuck_steps.items(),
        lambda stuck: (
            f"**Needs attention:** step {stuck[0]} is stuck: {_plain(stuck[1])}"
            " (`retry-step` tries it again)"
        ),
        "**Needs attention:** {} more stuck steps",
    )
    parts += _first(
        order.discrepancies.values(),
        lambda found: (
            f"**Needs attention:** {found.kind}, reported by {found.service}"
            f" (`resolve-discrepancy` closes {found.discrepancy_id})"
        ),
        "**Needs attention:** {} more discrepancies",
    )
    parts += _first(
        order.chargebacks.values(),
        lambda found: (
            f"**Needs attention:** chargeback {found.chargeback_id} of"
            f" {format_amount(found.amount, order.currency)}"
        ),
        "**Needs attention:** {} more chargebacks",
    )
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
    parts += _first(order.shipments.values(), _shipment, "and {} more shipments")
    parts += _first(order.returns.values(), _return, "and {} more returns")
    if origin:
        parts.append(origin)
    return "\n\n".join(parts)


def origin(order: Order, earlier: EarlierRuns, namespace: str, order_id: str) -> str:
    """What `order` was when a run began, and the runs before it; empty for a new order."""
    if order.version == 0:
        return ""
    began = f"This run began at version {order.version}, {order.status}"
    if not earlier.count:
        return f"{began}, from the log."
    runs = f"{earlier.count} earlier run{'s' * (earlier.count != 1)}"
    return f"{began}, after {runs}:\n\n{earlier.links(namespace, order_id)}"


def _waiting(order: Order) -> Iterable[str]:
    if order.status is Status.ON_HOLD:
        yield "**On hold:** results are applied, but no step begins until `release-order`"
    if order.awaiting:
        yield f"**Waits for the customer:** {_question(order)}"
    if order.steps:
        yield "Waits for other services:"
        steps = order.steps.values()
        yield "\n".join(
            _first(
                steps,
                lambda step: f"- {activity_options.summary(step, order.currency)}",
                "- and {} more steps",
            )
        )
    if (deadline := next_deadline(order)) is not None:
        yield f"Deadline: {deadline.name} at {deadline.at:%Y-%m-%d %H:%M} UTC"


def _question(order: Order) -> str:
    if order.awaiting == "payment":
        return "the payment was declined; `retry-payment` with another method, amend, or cancel"
    short = ", ".join(
        _first(
            order.missing().items(),
            lambda missing: f"{missing[1]} × {_plain(order.lines[missing[0]].sku)}",
            "and {} more",
        )
    )
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
    return "\n".join(
        _first(order.lines.values(), lambda line: _line(line, order), "- and {} more lines")
    )


def _first(things: Collection[T], show: Callable[[T], str], rest: str) -> Iterator[str]:
    """The first things as text, and how many more there are."""
    yield from map(show, islice(things, SHOWN_MAX))
    if len(things) > SHOWN_MAX:
        yield rest.format(len(things) - SHOWN_MAX)


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
