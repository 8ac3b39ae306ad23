"""What an order waits for, each by a key, and since when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def settled_by_person(order: Order) -> Iterator[str]:
    """The keys of what a person has to settle: none if the order needs no attention."""
    yield from map(stuck, order.stuck_steps)
    if statuses.unpaid(order):
        yield UNPAID
    yield from map(chargeback, order.chargebacks)
    yield from map(discrepancy, order.discrepancies)


def since_after(
    since: Mapping[str, datetime], order: Order, occurred_at: datetime
) -> Mapping[str, datetime]:
    """Since when an order waits for each thing, after an event that led to this state."""
    return {key: since.get(key, occurred_at) for key in _keys(order)}


def _keys(order: Order) -> Iterator[str]:
    yield from map(step, order.steps)
    if order.status is Status.ON_HOLD:
        yield HELD
    if order.awaiting is not None:
        yield AWAITS
    yield from settled_by_person(order)
