"""Batches lookups of single orders that come at the same time (the DataLoader pattern)."""

from __future__ import annotations

import asyncio

import asyncpg

from readside.order_view import queries
from readside.order_view.row import OrderRow


class OrderLoader:
    """Loads orders by id; calls during a running query share the next one.

    An idle loader queries at once. Under load, one query for many orders costs hardly more than a
    query for one. Nothing is cached: each query sees what was committed before its `load` calls.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._pending: dict[str, asyncio.Future[OrderRow | None]] = {}
        self._dispatcher: asyncio.Task[None] | None = None

    async def load(self, order_id: str) -> OrderRow | None:
        """The order; None if the read model does not contain it."""
        future = self._pending.get(order_id)
        if future is None:
            future = self._pending[order_id] = asyncio.get_running_loop().create_future()
            if self._dispatcher is None:
                self._dispatcher = asyncio.create_task(self._dispatch())
        return await asyncio.shield(future)

    async def _dispatch(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, {}
                try:
                    found = await queries.find_many(self._pool, list(batch))
                except Exception as error:  # Each caller handles it in its own request.
                    for future in batch.values():
                        future.set_exception(error)
                else:
                    for order_id, future in batch.items():
                        future.set_result(found.get(order_id))
        finally:
            self._dispatcher = None
