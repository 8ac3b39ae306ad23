"""Reports of the carrier: each is applied, is a repetition, or becomes a discrepancy."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from orders import events as e
from orders import steps as o
from orders.entities import Shipment
from orders.events import OrderEvent, line_counts
from orders.lifecycle import ENDED
from orders.order import Order
from orders.rules.discrepancies import SHIPPING, discrepancy
from orders.rules.shipments import delivered, dispatch, failed


def departed(report: o.ShipmentDeparted, order: Order) -> list[OrderEvent]:
    """The shipment left; pieces in it that had been cancelled meanwhile were not in time."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "left")
    if shipment.status in ("dispatched", "delivered", "failed"):
        return _tracked(shipment, report.tracking)
    if shipment.status == "stopped" or not shipment.confirmed_lines:
        summary = f"shipment {key} left, although it was called off or never booked"
        return discrepancy(order, SHIPPING, "left-although-stopped", key, summary)
    reported = _reported(report, shipment, order)
    lines = {line: min(n, reported[line]) for line, n in shipment.confirmed_lines.items()}
    if not any(lines.values()):
        summary = f"shipment {key} left with none of its lines"
        return discrepancy(order, SHIPPING, "unknown-lines", key, summary)
    overtaken = {
        line: pieces - order.lines[line].unshipped
        for line, pieces in lines.items()
        if pieces > order.lines[line].unshipped
    }
    first: list[OrderEvent] = (
        [e.LinesCancellationOvertaken(lines=line_counts(overtaken))] if overtaken else []
    )
    events = [*first, *dispatch(shipment, lines, report.tracking, order, after=len(first))]
    excess = (reported - Counter(lines)).total()
    if excess:
        summary = f"shipment {key} left with {excess} pieces that were not planned"
        events += discrepancy(order, SHIPPING, "more-than-planned", key, summary)
    return events


def _reported(report: o.ShipmentDeparted, shipment: Shipment, order: Order) -> Counter[str]:
    """The pieces by line id; where the carrier names none, those that it confirmed.

    Pieces of a line that have another SKU are not the line's: their key has the SKU, too.
    """
    if report.lines is None:
        return Counter(shipment.confirmed_lines)
    reported: Counter[str] = Counter()
    for piece in report.lines:
        line = order.lines.get(piece.line_id)
        is_of_line = line is not None and piece.sku in ("", line.sku)
        reported[piece.line_id if is_of_line else f"{piece.line_id}, {piece.sku}"] += piece.quantity
    return reported


def _tracked(shipment: Shipment, tracking: str | None) -> list[OrderEvent]:
    if tracking is None or tracking == shipment.tracking:
        return []
    return [e.TrackingChanged(shipment_id=shipment.shipment_id, tracking=tracking)]


def arrived(report: o.ShipmentArrived, order: Order, now: datetime) -> list[OrderEvent]:
    """The shipment was delivered; its departure may not have been reported yet."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "was delivered")
    if shipment.status == "delivered":
        return []
    left = _implied_departure(shipment, order)
    if left is None:
        summary = f"shipment {key} was delivered, although it was {shipment.status}"
        return discrepancy(order, SHIPPING, f"delivered-although-{shipment.status}", key, summary)
    return [*left, *delivered(key, order, now)]


def lost(report: o.ShipmentLost, order: Order) -> list[OrderEvent]:
    """The shipment will not be delivered; returned goods go back to where they came from."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "could not be delivered")
    if shipment.status == "failed":
        return []
    left = _implied_departure(shipment, order)
    if left is None:
        summary = f"shipment {key} could not be delivered, although it was {shipment.status}"
        return discrepancy(order, SHIPPING, f"failed-although-{shipment.status}", key, summary)
    lines = shipment.confirmed_lines if left else shipment.lines
    return [*left, *failed(report, shipment.location, lines, order, after=len(left))]


def denied(report: o.DeliveryDenied, order: Order) -> list[OrderEvent]:
    """The shipment was not delivered after all."""
    key, shipment = report.shipment_id, order.shipments.get(report.shipment_id)
    if shipment is None:
        return _unknown_shipment(order, key, "was not delivered")
    if shipment.status in ("dispatched", "failed"):
        return []
    if shipment.status == "delivered" and not shipment.returned and order.status not in ENDED:
        return [e.DeliveryRevoked(shipment_id=key, reason=report.reason)]
    summary = f"shipment {key} was not delivered, although it is {shipment.status} here"
    return discrepancy(order, SHIPPING, "delivery-denied", key, summary)


def _implied_departure(shipment: Shipment, order: Order) -> list[OrderEvent] | None:
    """The events by which a shipment is on its way: none if it is; None if it cannot be."""
    if shipment.status == "dispatched":
        return []
    if not shipment.can_depart or not shipment.confirmed_lines:
        return None
    return departed(o.ShipmentDeparted(shipment_id=shipment.shipment_id), order)


def _unknown_shipment(order: Order, key: str, what: str) -> list[OrderEvent]:
    summary = f"shipment {key} {what}, and the order has none of that id"
    return discrepancy(order, SHIPPING, "unknown-shipment", key, summary)
