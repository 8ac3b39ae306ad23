"""An order with the times of its events, folded from its stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from orders.events import OrderEvent, OrderPlaced
from orders.evolve import evolve
from orders.order import Order
from orders.upcasting import UnreadableEvent
from readside.engine.projection import ProjectionError


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order, and the times that its events add to it."""

    order_id: str
    order: Order = field(default_factory=Order)
    opened_at: datetime | None = None
    placed_at: datetime | None = None
    updated_at: datetime | None = None


class StoredEvent(Protocol):
    """An event of an order in any of the forms in which the log is read."""

    @property
    def version(self) -> int: ...
    @property
    def occurred_at(self) -> datetime: ...
    def event(self) -> OrderEvent: ...


def fold_view(view: OrderView, stream: Iterable[StoredEvent]) -> OrderView:
    """The view after more events of its order; raises ProjectionError if one is unreadable."""
    order, opened_at, placed_at = view.order, view.opened_at, view.placed_at
    updated_at = view.updated_at
    for stored in stream:
        try:
            event = stored.event()
        except UnreadableEvent as error:
            raise ProjectionError(view.order_id, stored.version, str(error)) from error
        order, updated_at = evolve(order, event), stored.occurred_at
        opened_at = opened_at or updated_at
        placed_at = updated_at if isinstance(event, OrderPlaced) else placed_at
    return OrderView(view.order_id, order, opened_at, placed_at, updated_at)
