"""The rules of shipments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from orders import commands as c
from orders import events as e
from orders import ledger
from orders.entities import Shipment
from orders.events import OrderEvent, line_counts
from orders.order import Order
from orders.rules.checks import (
    CommandRejected,
    check_capacity,
    check_pieces,
    fingerprint,
    policy_of,
    require,
)
from orders.steps import Held, ShipmentLost

SHIPMENTS_MAX = 500
"""In all; beyond that, an order still plans the rest of its pieces by itself."""


def shippable(order: Order) -> dict[str, int]:
    """The pieces that a new shipment can have, by line id; none before they are paid."""
    if ledger.to_authorise(order) or len(order.shipments) >= SHIPMENTS_MAX:
        return {}
    most = {key: min(line.reserved_quantity, line.unshipped) for key, line in order.lines.items()}
    return {key: n for key, n in most.items() if n > 0}


def is_ready(shipment: Shipment) -> bool:
    """Whether a shipment can be dispatched as it is."""
    return shipment.status == "planned" and _is_confirmed(shipment)


def _is_confirmed(shipment: Shipment) -> bool:
    """Whether the carrier confirmed these pieces and may take no others."""
    return bool(shipment.confirmed_lines) and not shipment.may_ship_excess


def create(command: c.CreateShipment, order: Order) -> list[OrderEvent]:
    if ledger.to_authorise(order):
        raise CommandRejected("the order waits for its payment", "payment-pending")
    check_capacity(order.shipments, SHIPMENTS_MAX, "too-many-shipments")
    wanted = check_pieces(command.lines, order.lines, shippable(order), "in stock for it")
    location = next(
        (
            location
            for location in order.stock_locations()
            if all(order.lines[key].reserved.get(location, 0) >= n for key, n in wanted.items())
        ),
        None,
    )
    if location is None:
        raise CommandRejected(
            "the pieces are at several stock locations; each needs a shipment of its own",
            "multiple-locations",
            "lines",
        )
    # Follow-ups take the pieces out of older shipments, and only then book this one.
    return [
        e.ShipmentCreated(
            shipment_id=command.shipment_id,
            location=location,
            lines=line_counts(wanted),
            fingerprint=fingerprint(command),
        )
    ]


def decide_dispatch(command: c.DispatchShipment, order: Order) -> list[OrderEvent]:
    shipment = require(command.shipment_id, order.shipments, "shipment_id")
    if shipment.status != "planned":
        raise CommandRejected(
            f"shipment {shipment.shipment_id} is {shipment.status}",
            "shipment-stopped",
            "shipment_id",
        )
    if not _is_confirmed(shipment):
        raise CommandRejected(
            f"shipment {shipment.shipment_id} is being changed; try again in a moment",
            "shipment-changing",
            "shipment_id",
        )
    return dispatch(shipment, shipment.lines, command.tracking, order)


def dispatch(
    shipment: Shipment,
    lines: Mapping[str, int],
    tracking: str | None,
    order: Order,
    after: int = 0,
) -> list[OrderEvent]:
    """A shipment has left with these pieces; their stock is withdrawn.

    `after` is the number of events that come before these.
    """
    dispatched = e.ShipmentDispatched(
        shipment_id=shipment.shipment_id, lines=line_counts(lines), tracking=tracking
    )
    reserved = {
        key: min(n, order.lines[key].reserved.get(shipment.location, 0)) for key, n in lines.items()
    }
    held = held_at(shipment.location, reserved, order)
    if not held:
        return [dispatched]
    withdrawal = order.next_step_id("withdraw", after + 1)
    return [dispatched, e.StockWithdrawalRequested(step_id=withdrawal, held=held)]


def confirm_delivery(shipment_id: str, order: Order, now: datetime) -> list[OrderEvent]:
    _check_dispatched(require(shipment_id, order.shipments, "shipment_id"))
    return delivered(shipment_id, order, now)


def delivered(shipment_id: str, order: Order, now: datetime) -> list[OrderEvent]:
    """A shipment has arrived: the return window opens."""
    return_by = now + timedelta(seconds=policy_of(order).return_window)
    return [e.ShipmentDelivered(shipment_id=shipment_id, return_by=return_by)]


def fail_delivery(command: c.ReportDeliveryFailure, order: Order) -> list[OrderEvent]:
    shipment = require(command.shipment_id, order.shipments, "shipment_id")
    _check_dispatched(shipment)
    return failed(command, shipment.location, shipment.lines, order)


def failed(
    report: c.ReportDeliveryFailure | ShipmentLost,
    location: str,
    lines: Mapping[str, int],
    order: Order,
    after: int = 0,
) -> list[OrderEvent]:
    """A shipment of these pieces will not arrive; returned goods go back to where they came from.

    `after` is the number of events that come before these.
    """
    failure = e.DeliveryFailed(
        shipment_id=report.shipment_id, goods=report.goods, reason=report.reason
    )
    if report.goods == "lost":
        return [failure]
    return [failure, *restock(held_at(location, lines, order), order, after + 1)]


def restock(held: list[Held], order: Order, after: int = 1) -> list[OrderEvent]:
    """Puts pieces back into stock; `after` is the number of events that come before this one."""
    if not held:
        return []
    return [e.RestockRequested(step_id=order.next_step_id("restock", after), held=held)]


def held_at(location: str, pieces: Mapping[str, int], order: Order) -> list[Held]:
    return [
        Held(line_id=key, sku=order.lines[key].sku, location=location, quantity=n)
        for key, n in pieces.items()
        if n
    ]


def _check_dispatched(shipment: Shipment) -> None:
    if shipment.status != "dispatched":
        raise CommandRejected(
            f"shipment {shipment.shipment_id} is {shipment.status}, not on its way",
            "shipment-not-dispatched",
            "shipment_id",
        )
