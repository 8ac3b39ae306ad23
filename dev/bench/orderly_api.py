"""Orderly under load: commands through the REST API, until the read model has their events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from dev.bench.http_connection import ConnectionPool, parse_response
from dev.bench.load_generator import ITEM, Stopwatch
from dev.demo.baskets import Basket
from dev.stack import Stack

POLL_S = 0.01
RETRY_S = 1.0


class OrderlyClient:
    """Sends commands, one at a time."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def open(self, **fields: Any) -> str:
        """Opens an order and returns its id."""
        return await self._open({"customer_id": "900", "currency": "USD", **fields})

    async def execute(self, order_id: str, command: str, **fields: Any) -> None:
        """Sends a command to an order."""
        await self._post(f"/v1/orders/{order_id}/commands/{command}", fields)

    async def add(self, order_id: str) -> None:
        """Adds ITEM to an order."""
        await self.execute(order_id, "add-item-to-order", **ITEM)

    async def place_order(self, order_id: str) -> None:
        """Places an order, whose steps follow."""
        await self._post(f"/v1/orders/{order_id}/commands/place-order", {})

    async def place(self, basket: Basket, timed: Stopwatch) -> None:
        """Places a whole basket in one request, without its invalid lines."""
        lines = [line.model_dump() for line in basket.lines if line.is_valid]
        order = {"customer_id": basket.customer_id, "currency": basket.currency}
        await timed(self._open({**order, "lines": lines, "place": True}))

    async def _open(self, body: dict[str, Any]) -> str:
        result = await self._post("/v1/orders", body)
        return str(result["order_id"])

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Sends a command; raises RuntimeError if it is rejected."""
        request = self._pool.encode("POST", path, json.dumps(body))
        while (response := parse_response(await self._pool.exchange(request))).status in (0, 503):
            # With the same idempotency key, so it counts once. A server may close an idle
            # connection at the moment at which a request is written to it.
            await asyncio.sleep(RETRY_S if response.status else POLL_S)
        if response.status not in (200, 201):
            raise RuntimeError(f"POST {path}: {response.status} {response.body.decode()}")
        return response.json()


@dataclass
class OrderlySystem:
    """Clients of a stack, and the number of their events in its log and read model."""

    clients: list[OrderlyClient]
    events: int
    """Acknowledged so far: each command of the clients causes one."""
    _postgres: asyncpg.Connection
    poll_s: float = POLL_S
    """The pause between two looks at the read model, which take processor time of Postgres."""

    async def catch_up(self, commands: int) -> None:
        """Returns when the read model has the events of this many further commands."""
        self.events += commands
        while await self.projected() < self.events:
            await asyncio.sleep(self.poll_s)

    async def wait_until_confirmed(self, orders: int) -> None:
        """Returns when the read model shows this many orders confirmed, with no step pending."""
        query = (
            "SELECT count(*)::int FROM order_view.orders"
            " WHERE status = 'confirmed' AND json_array_length(document->'pending') = 0"
        )
        while await self._count(query) < orders:
            await asyncio.sleep(self.poll_s)

    async def placed(self) -> list[str]:
        """The ids of the orders that the read model shows placed, and not yet confirmed."""
        rows = await self._postgres.fetch(
            "SELECT order_id FROM order_view.orders WHERE status = 'placed'"
        )
        return [str(order_id) for (order_id,) in rows]

    async def shipments(self) -> list[tuple[str, str]]:
        """The ids of all shipments, each after that of its order."""
        query = (
            "SELECT order_id, json_array_elements(document->'shipments')->>'shipment_id'"
            " FROM order_view.orders"
        )
        return [(str(order_id), name) for order_id, name in await self._postgres.fetch(query)]

    async def wait_until_fulfilled(self, status: str, orders: int) -> None:
        """Returns when the read model shows this many orders so, with no step pending."""
        query = (
            "SELECT count(*)::int FROM order_view.orders"
            f" WHERE document->>'fulfilment_status' = '{status}'"
            " AND json_array_length(document->'pending') = 0"
        )
        while await self._count(query) < orders:
            await asyncio.sleep(self.poll_s)

    async def projected(self) -> int:
        """The number of events in the read model."""
        return await self._count("SELECT coalesce(sum(version), 0)::int FROM order_view.orders")

    async def published(self) -> int:
        """The number of events in the log."""
        return await self._count("SELECT count(*)::int FROM order_events")

    async def _count(self, query: str) -> int:
        count: int = await self._postgres.fetchval(query)
        return count


@asynccontextmanager
async def orderly_system(stack: Stack, clients: int) -> AsyncIterator[OrderlySystem]:
    """This many clients of a running stack whose log is still empty."""
    pool = ConnectionPool(stack.api_url)
    postgres = await asyncpg.connect(stack.postgres_dsn)
    try:
        yield OrderlySystem([OrderlyClient(pool) for _ in range(clients)], 0, postgres)
    finally:
        await postgres.close()
        pool.close()
