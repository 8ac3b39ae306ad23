"""One order by its id, for many who ask at the same time: they share a query."""

from __future__ import annotations

import asyncio

import asyncpg

from readside.order_view import queries as order_lists
from readside.order_view.queries import Row


class OrderLoader:
    """Finds orders; those that are asked for while a query is under way come with the next one.

    Nobody waits for others to ask: with nothing under way, a query begins at once. Under load one
    query finds many, for hardly more than the price of one.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._asked: dict[str, asyncio.Future[Row | None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def find(self, order_id: str) -> Row | None:
        """One order as the projection last saw it, with all that was committed before the call."""
        answer = self._asked.get(order_id)
        if answer is None:
            answer = self._asked[order_id] = asyncio.get_running_loop().create_future()
            if self._looking is None:
                self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(answer)

    async def _look(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                try:
                    found = await order_lists.find_all(self._pool, list(asked))
                except Exception as error:  # Theirs to handle, each in its own request.
                    for answer in asked.values():
                        answer.set_exception(error)
                else:
                    for order_id, answer in asked.items():
                        answer.set_result(found.get(order_id))
        finally:
            self._looking = None
