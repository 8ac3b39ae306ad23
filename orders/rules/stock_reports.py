"""Reports of the stock service about reserved pieces."""

from __future__ import annotations

from orders import events as e
from orders import steps as o
from orders.events import OrderEvent, client_key
from orders.order import Order
from orders.rules.discrepancies import STOCK, discrepancy


def stock_lost(report: o.StockLost, order: Order) -> list[OrderEvent]:
    """Reserved pieces are missing; more than are reserved there is a discrepancy."""
    if client_key("loss_id", report.loss_id) in order.client_ids:
        return []
    line = order.lines.get(report.line_id)
    there = line.reserved.get(report.location, 0) if line else 0
    pieces = min(there, report.quantity)
    events: list[OrderEvent] = []
    if pieces > 0:
        events.append(
            e.HeldStockLost(
                loss_id=report.loss_id,
                line_id=report.line_id,
                location=report.location,
                quantity=pieces,
                fingerprint="",
            )
        )
    if pieces < report.quantity:
        summary = (
            f"{report.quantity} pieces of line {report.line_id} are missing at {report.location}, "
            f"and {there} are reserved there"
        )
        events += discrepancy(order, STOCK, "more-lost-than-reserved", report.loss_id, summary)
    return events
