"""What an order waits for, each by a key, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from orders import statuses
from orders.lifecycle import Status
from orders.order import Order

HELD = "held"
UNPAID = "unpaid"
AWAITS = "awaits"


def step(step_id: str) -> str:
    """The key of a step that has no result yet."""
    return f"step:{step_id}"


def stuck(step_id: str) -> str:
    return f"stuck:{step_id}"


def chargeback(chargeback_id: str) -> str:
    return f"chargeback:{chargeback_id}"


def discrepancy(discrepancy_id: str) -> str:
    return f"discrepancy:{discrepancy_id}"


def settled_by_person(order: Order) -> list[str]:
    """The keys of what a person has to settle: none if the order needs no attention."""
    keys = [*map(stuck, order.stuck_steps)] if order.stuck_steps else []
    if order.shipments and statuses.unpaid(order):  # Without one, nothing has left.
        keys.append(UNPAID)
    if order.chargebacks:
        keys += map(chargeback, order.chargebacks)
    if order.discrepancies:
        keys += map(discrepancy, order.discrepancies)
    return keys


def since_after(
    since: Mapping[str, datetime], order: Order, occurred_at: datetime
) -> Mapping[str, datetime]:
    """Since when an order waits for each thing, after an event that led to this state."""
    keys = settled_by_person(order)
    if order.steps:
        keys += map(step, order.steps)
    if order.status is Status.ON_HOLD:
        keys.append(HELD)
    if order.awaiting is not None:
        keys.append(AWAITS)
    return {key: since.get(key, occurred_at) for key in keys} if keys else {}
