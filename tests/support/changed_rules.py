"""A rule that differs from the current one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from orders.commands import AddItemToOrder
from orders.decider import Message, decide_all
from orders.events import OrderEvent
from orders.order import Order


def decide_dearer(
    messages: Sequence[Message], order: Order, now: datetime
) -> tuple[list[tuple[Message, OrderEvent]], Order]:
    """Another rule than today's: everything costs a cent more."""
    dearer = [
        m.model_copy(update={"unit_price": m.unit_price + 1})
        if isinstance(m, AddItemToOrder)
        else m
        for m in messages
    ]
    return decide_all(dearer, order, now)
