"""Orderly as it is measured: through REST, until the read model has everything."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from dev.bench.load_generator import ITEM, Stopwatch
from dev.demo.baskets import Basket
from dev.stack import Stack

POLL_S = 0.01
RETRY_S = 1.0

Json = dict[str, Any]


class Connection:
    """A kept-alive connection with as much of HTTP/1.1 as it takes to send JSON.

    The load generator shares the cores with what it measures; httpx would take far more of them.
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, document: Json) -> Json:
        """Sends a document under a key of its own; raises RuntimeError if it is refused."""
        body = json.dumps(document).encode()
        request = (
            f"POST {path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Idempotency-Key: {secrets.token_hex(16)}\r\n\r\n"
        ).encode() + body
        while (answer := await self._exchange(request))[0] == 503:
            await asyncio.sleep(RETRY_S)  # A machine this busy; the same key, so it counts once.
        status, content = answer
        if status not in (200, 201):
            raise RuntimeError(f"POST {path}: {status} {content.decode()}")
        accepted: Json = json.loads(content)
        return accepted

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        reader, writer = await self._connected()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        content = await reader.readexactly(int(length[1]) if length else 0)
        return int(head.split(None, 2)[1]), content

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The server closes what has been idle for some seconds, as between rounds."""
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(
                self._address.hostname, self._address.port
            )
        return self._streams

    def close(self) -> None:
        """Lets go of the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()


class Shop:
    """A shop front with one connection to the API."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def open(self) -> str:
        """Opens an order and returns its id."""
        return await self._order({"customer_id": "900", "currency": "USD"})

    async def add(self, order_id: str) -> None:
        """Adds ITEM to an order."""
        await self._connection.post(f"/v1/orders/{order_id}/commands/add-item-to-order", ITEM)

    async def place(self, basket: Basket, timed: Stopwatch) -> None:
        """Places a whole basket in one request, without the lines that nobody can order."""
        lines = [line.model_dump() for line in basket.lines if line.is_valid]
        whose = {"customer_id": basket.customer_id, "currency": basket.currency}
        await timed(self._order({**whose, "lines": lines, "place": True}))

    async def _order(self, document: Json) -> str:
        opened = await self._connection.post("/v1/orders", document)
        order_id: str = opened["order_id"]
        return order_id


@dataclass
class Orderly:
    """Our side: its clients, and how much has come out at the other end."""

    shops: list[Shop]
    events: int
    """How many were acknowledged so far: each command here causes one."""
    _postgres: asyncpg.Connection

    async def catch_up(self, commands: int) -> None:
        """Returns when the read model has the events of so many commands more."""
        self.events += commands
        while await self.projected() < self.events:
            await asyncio.sleep(POLL_S)

    async def confirm(self, orders: int) -> None:
        """Returns when so many orders have their stock, payment and shipments, as readers see."""
        query = (
            "SELECT count(*)::int FROM order_view.orders"
            " WHERE status = 'confirmed' AND json_array_length(document->'pending') = 0"
        )
        while await self._count(query) < orders:
            await asyncio.sleep(POLL_S)

    async def projected(self) -> int:
        """How many events the read model has taken in."""
        return await self._count("SELECT coalesce(sum(version), 0)::int FROM order_view.orders")

    async def published(self) -> int:
        """How many events the log holds."""
        return await self._count("SELECT count(*)::int FROM order_events")

    async def _count(self, query: str) -> int:
        count: int = await self._postgres.fetchval(query)
        return count


@asynccontextmanager
async def orderly(stack: Stack, clients: int) -> AsyncIterator[Orderly]:
    """That many clients of a running stack whose log is still empty."""
    connections = [Connection(stack.api_url) for _ in range(clients)]
    postgres = await asyncpg.connect(stack.postgres_dsn)
    try:
        yield Orderly([Shop(connection) for connection in connections], 0, postgres)
    finally:
        await postgres.close()
        for connection in connections:
            connection.close()
