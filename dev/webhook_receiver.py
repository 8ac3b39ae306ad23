"""A receiver of webhooks that costs little, for the demo and the benchmark of deliveries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from dev.stack.ports import LOOPBACK

_OK = b"HTTP/1.1 204 No Content\r\n\r\n"
_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


class Arrival(NamedTuple):
    """One request: when it had arrived, and whether it was accepted."""

    event_id: str
    at: float
    accepted: bool
    body: bytes


@dataclass
class Receiver:
    """All requests by path, in the order of their arrival."""

    accepts: Callable[[str, Mapping[str, str], bytes], bool] = lambda *_: True
    """Whether a request, by path, headers and body, is answered 204 and not 500."""
    delay_s: Callable[[str], float] = lambda _: 0.0
    keeps_bodies: bool = False
    arrivals: dict[str, list[Arrival]] = field(default_factory=dict)
    accepted: int = 0

    def receive(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[bytes, float]:
        """The answer to a request, and the seconds until it is sent."""
        is_accepted = self.accepts(path, headers, body)
        arrival = Arrival(
            headers.get("webhook-id", ""),
            time.time(),
            is_accepted,
            body if self.keeps_bodies else b"",
        )
        self.arrivals.setdefault(path, []).append(arrival)
        self.accepted += is_accepted
        return _OK if is_accepted else _ERROR, self.delay_s(path)

    def accepted_ids(self, path: str) -> list[str]:
        """The ids of the events that a path has accepted, each once, in that order."""
        accepted = (one.event_id for one in self.arrivals.get(path, []) if one.accepted)
        return list(dict.fromkeys(accepted))


class _Connection(asyncio.Protocol):
    """One connection: one request at a time, each with a Content-Length."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's class is not a subclass of asyncio's.
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, rest = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        if len(rest) < (length := int(headers["content-length"])):
            return
        self._data = rest[length:]
        answer, delay_s = self._receiver.receive(first.split(" ")[1], headers, rest[:length])
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._write, answer)
        else:
            self._transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


@asynccontextmanager
async def serving(receiver: Receiver, port: int = 0) -> AsyncIterator[str]:
    """Serves a receiver; yields the URL to which paths are appended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(receiver), LOOPBACK, port)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
