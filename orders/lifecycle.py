"""The statuses of an order, and the groups of them that rules speak of."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """How far an order has come. `new` is an order that has not been opened yet."""

    NEW = "new"
    DRAFT = "draft"
    PLACED = "placed"
    AWAITING_CUSTOMER = "awaiting_customer"
    CONFIRMED = "confirmed"
    ON_HOLD = "on_hold"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


Decision = Literal["payment", "shortfall"]
"""What a customer has to decide on while an order is `awaiting_customer`."""

DRAFT = frozenset({Status.DRAFT})
ACTIVE = frozenset({Status.PLACED, Status.AWAITING_CUSTOMER, Status.CONFIRMED})
"""Placed, neither held nor ending: the order continues by itself."""
UNFINISHED = ACTIVE | {Status.ON_HOLD}
"""Placed and not ending."""
DISPATCHING = UNFINISHED - {Status.PLACED}
"""Shipments may be on their way."""
ENDED = frozenset({Status.COMPLETED, Status.CANCELLED, Status.EXPIRED})
