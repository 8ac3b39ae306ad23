"""The rules of returns."""

from __future__ import annotations

from datetime import datetime

from orders import commands as c
from orders import events as e
from orders.entities import Return
from orders.events import OrderEvent, line_counts
from orders.order import Order
from orders.rules.checks import CommandRejected, check_pieces, fingerprint, require
from orders.rules.shipments import held_at, restock


def request(command: c.RequestReturn, order: Order, now: datetime) -> list[OrderEvent]:
    if order.return_window_closed or _is_late(order, now):
        raise CommandRejected("the time for returns is over", "return-window-closed")
    wanted = check_pieces(command.lines, order.lines, order.returnable(), "that can be returned")
    return [
        e.ReturnRequested(
            return_id=command.return_id,
            lines=line_counts(wanted),
            reason=command.reason,
            fingerprint=fingerprint(command),
        )
    ]


def _is_late(order: Order, now: datetime) -> bool:
    """Whether the return window is over: it ends after everything has arrived."""
    return order.has_arrived and order.return_by is not None and now >= order.return_by


def receivable(back: Return, order: Order) -> dict[str, int]:
    """The pieces of a return that may still come back, by line id."""
    return {
        key: min(n, order.lines[key].delivered - order.lines[key].returned)
        for key, n in back.outstanding.items()
    }


def approve(return_id: str, order: Order) -> list[OrderEvent]:
    back = require(return_id, order.returns, "return_id")
    if back.status != "requested":
        raise CommandRejected(f"the return is {back.status}", "return-decided", "return_id")
    return [e.ReturnApproved(return_id=return_id)]


def reject(command: c.RejectReturn, order: Order) -> list[OrderEvent]:
    back = require(command.return_id, order.returns, "return_id")
    if back.status == "received":
        raise CommandRejected("all of it came back", "return-received", "return_id")
    return [e.ReturnRejected(return_id=command.return_id, reason=command.reason)]


def receive(command: c.ReceiveReturn, order: Order) -> list[OrderEvent]:
    back = require(command.return_id, order.returns, "return_id")
    if back.status != "approved":
        raise CommandRejected(
            f"the return is {back.status}, not approved", "return-not-approved", "return_id"
        )
    most = receivable(back, order)
    wanted = check_pieces(command.lines, order.lines, most, "still to come back")
    received = e.ReturnReceived(
        receipt_id=command.receipt_id,
        return_id=command.return_id,
        lines=line_counts(wanted),
        condition=command.condition,
        fingerprint=fingerprint(command),
    )
    if command.condition == "damaged":
        return [received]
    held = [
        part
        for shipment, back in order.origins(wanted)
        for part in held_at(command.location or shipment.location, back, order)
    ]
    return [received, *restock(held, order)]
