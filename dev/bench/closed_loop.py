"""Closed-loop load of GET requests: each connection sends the next one after a response.

``python -m dev.bench.closed_loop URL CONNECTIONS SECONDS`` reads paths from standard input, one per
line, and requests them in turn. It prints JSON: ``{"requests", "seconds", "bytes", "p50", "p99"}``,
the percentiles in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import cycle
from time import perf_counter
from typing import cast
from urllib.parse import urlsplit

import uvloop

from dev.bench.report import percentiles_ms

TIMEOUT_S = 60.0


class ClosedLoopConnection(asyncio.Protocol):
    """One connection that sends requests until a point in time.

    Not an HttpConnection: without futures and tasks it takes least from the server beside it.
    """

    def __init__(self, requests: Iterator[bytes], until: float) -> None:
        self._requests = requests
        self._until = until
        self._missing = 0  # Bytes of the response still to come.
        self.latencies_s: list[float] = []
        self.bytes = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not a subclass.
        self._send()

    def _send(self) -> None:
        self._sent_at = perf_counter()
        if self._sent_at < self._until:
            self._transport.write(next(self._requests))
        else:
            self._transport.close()
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            head, separator, _ = data.partition(b"\r\n\r\n")
            if not separator or not head.startswith(b"HTTP/1.1 200"):
                self._fail(head.decode(errors="replace"))
                return
            _, _, length = head.lower().partition(b"content-length: ")
            self._missing = len(head) + 4 + int(length.split(b"\r\n", 1)[0])
        self._missing -= len(data)
        self.bytes += len(data)
        if not self._missing:
            self.latencies_s.append(perf_counter() - self._sent_at)
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection is lost: {error}")

    def _fail(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(RuntimeError(reason))


async def run_load(
    url: str, connections: int, seconds: float, paths: list[str]
) -> dict[str, float]:
    """Sends the requests; raises RuntimeError for a response other than 200."""
    address = urlsplit(url)
    assert address.hostname and address.port
    requests = cycle(
        [f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode() for path in paths]
    )
    began = perf_counter()
    all_connections = [ClosedLoopConnection(requests, began + seconds) for _ in range(connections)]
    loop = asyncio.get_running_loop()
    connecting = iter(all_connections)
    for _ in all_connections:
        await loop.create_connection(lambda: next(connecting), address.hostname, address.port)
    async with asyncio.timeout(seconds + TIMEOUT_S):
        await asyncio.gather(*(connection.ended for connection in all_connections))
    latencies = [s for connection in all_connections for s in connection.latencies_s]
    return {
        "requests": len(latencies),
        "seconds": perf_counter() - began,
        "bytes": sum(connection.bytes for connection in all_connections),
        **percentiles_ms(latencies),
    }


if __name__ == "__main__":
    url, connections, seconds = sys.argv[1:]
    load = run_load(url, int(connections), float(seconds), sys.stdin.read().split())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load)))
