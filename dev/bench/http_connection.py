"""Connections with as much of HTTP/1.1 as a load generator needs.

The load generator shares the processors with what it measures, and httpx takes some twenty times
the processor time of this per request.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

_HEAD = re.compile(rb"(?is)HTTP/.*?\r\ncontent-length: *(\d+)(?:\r\n.*?)?\r\n\r\n")
_RETRY_AFTER = re.compile(rb"(?i)\r\nretry-after: *(\d+)")


class Response(NamedTuple):
    """A response; status 0 if the connection was lost before it was complete."""

    status: int
    head: bytes
    body: bytes

    @property
    def retry_after(self) -> str | None:
        match = _RETRY_AFTER.search(self.head)
        return match[1].decode() if match else None

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body or b"{}")
        return document


class HttpConnection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._missing = 0  # Bytes of the response still to come, once its head is complete.
        self._response: asyncio.Future[bytes] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not a subclass.
        self.is_open = True

    async def send(self, request: bytes) -> bytes:
        """Sends a request; returns the whole response, or b"" if the connection is lost."""
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._response

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if not self._missing:
            data = b"".join(self._parts)
            head = _HEAD.match(data)
            if head is None:
                return
            self._parts, self._missing = [data], head.end() + int(head[1])
        self._missing -= len(data)
        if not self._missing:
            self._finish(b"".join(self._parts))

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        self._finish(b"")

    def close(self) -> None:
        self._transport.close()

    def _finish(self, response: bytes) -> None:
        self._parts = []
        if self._response is not None and not self._response.done():
            self._response.set_result(response)


class ConnectionPool:
    """As many connections as there are requests under way; idle ones are used again."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname and address.port
        self._host, self._port = address.hostname, address.port
        self._idle: list[HttpConnection] = []

    def encode(self, method: str, path: str, body: str | None = None) -> bytes:
        """The bytes of a request; one with a body has an idempotency key of its own."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        if body is not None:
            head += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
            head += [f"Idempotency-Key: {secrets.token_hex(16)}"]
        return "\r\n".join([*head, "", body or ""]).encode()

    async def exchange(self, request: bytes) -> bytes:
        """The whole response; b"" if there is no connection, or if it is lost."""
        try:
            connection = await self._connection()
        except OSError:
            return b""
        response = await connection.send(request)
        if connection.is_open:
            self._idle.append(connection)
        return response

    async def _connection(self) -> HttpConnection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(HttpConnection, self._host, self._port))[1]

    def close(self) -> None:
        """Closes the idle connections."""
        for connection in self._idle:
            connection.close()


def parse_response(response: bytes) -> Response:
    """Splits the bytes that `exchange` returns."""
    if not response:
        return Response(0, b"", b"")
    head, _, body = response.partition(b"\r\n\r\n")
    return Response(int(head.split(None, 2)[1]), head, body)
