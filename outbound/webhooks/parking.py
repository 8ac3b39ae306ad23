"""The parked orders of one cursor: their next event was rejected, and is tried again later."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from outbound.webhooks.cursors import ERROR_CHARACTERS_MAX, ParkedOrder


class Parking:
    """Parked orders by id, and which of them have changed since they were stored."""

    def __init__(self, orders: dict[str, ParkedOrder]) -> None:
        self._orders = orders
        self._changed: set[str] = set()
        self._skipped: set[str] = set()  # Of which further events were read.
        self._trying: set[str] = set()

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._orders

    def __len__(self) -> int:
        return len(self._orders)

    @property
    def has_changed(self) -> bool:
        return bool(self._changed)

    def park(
        self, order_id: str, version: int, error: str | None, now: datetime, next_try_at: datetime
    ) -> None:
        """Parks an order at the event that was rejected."""
        text = (error or "")[:ERROR_CHARACTERS_MAX]
        self._orders[order_id] = ParkedOrder(version, 1, text, now, next_try_at)
        self._skipped.add(order_id)
        self._changed.add(order_id)

    def skip(self, order_id: str) -> None:
        """Records that a further event of a parked order was read."""
        self._skipped.add(order_id)

    def due(self, now: datetime) -> str | None:
        """An order that is to be tried again."""
        for order_id, order in self._orders.items():
            if order.next_try_at <= now and order_id not in self._trying:
                return order_id
        return None

    def first_due(self) -> str | None:
        """The order that is tried next, whenever that is."""
        waiting = self._orders.keys() - self._trying
        return min(waiting, key=lambda id: self._orders[id].next_try_at) if waiting else None

    def next_try_at(self) -> datetime | None:
        """When the next order is to be tried again."""
        order_id = self.first_due()
        return self._orders[order_id].next_try_at if order_id is not None else None

    def begin(self, order_id: str) -> ParkedOrder:
        """Begins to try an order; `end` must follow."""
        self._trying.add(order_id)
        return self._orders[order_id]

    def end(self, order_id: str) -> None:
        self._trying.discard(order_id)
        self._changed.add(order_id)

    def begin_reading(self, order_id: str) -> None:
        """From now on `skip` means that what is being read is not all."""
        self._skipped.discard(order_id)

    def unpark(self, order_id: str) -> bool:
        """Ends the parking of an order, unless further events of it were read meanwhile."""
        if order_id in self._skipped:
            return False
        del self._orders[order_id]
        return True

    def try_all_now(self, now: datetime) -> None:
        """Makes all orders due, with the shortest pauses after it."""
        for order in self._orders.values():
            order.next_try_at, order.attempts = now, 0
        self._changed |= self._orders.keys()

    def take_changes(self) -> tuple[dict[str, ParkedOrder], list[str]]:
        """The orders to store, and those to delete, since the last time."""
        changed, self._changed = self._changed, set()
        parked = {order_id: self._orders[order_id] for order_id in changed & self._orders.keys()}
        return parked, sorted(changed - self._orders.keys())

    def put_back_changes(self, order_ids: Iterable[str]) -> None:
        """What was taken could not be stored."""
        self._changed |= set(order_ids)
