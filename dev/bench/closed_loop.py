"""A load of GET requests, from a process of its own that takes little from what it measures.

``python -m bench.getter URL CONNECTIONS SECONDS`` reads paths from standard input, one a line, and
asks for them in turn over so many connections, one request at a time on each. It prints JSON:
``{"requests", "seconds", "bytes", "p50", "p99"}``, the percentiles in milliseconds.
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

ANSWER_S_MAX = 60.0


class Getter(asyncio.Protocol):
    """One connection; knows as much of HTTP/1.1 as it takes to tell where an answer ends."""

    def __init__(self, requests: Iterator[bytes], until: float) -> None:
        self._requests = requests
        self._until = until
        self._awaited = 0  # Bytes of the answer that are still to come.
        self.latencies_s: list[float] = []
        self.bytes = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name.
        self._ask()

    def _ask(self) -> None:
        self._asked_at = perf_counter()
        if self._asked_at < self._until:
            self._transport.write(next(self._requests))
        else:
            self._transport.close()
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self._awaited:
            head, separator, _ = data.partition(b"\r\n\r\n")
            if not separator or not head.startswith(b"HTTP/1.1 200"):
                self._fail(head.decode(errors="replace"))
                return
            _, _, length = head.lower().partition(b"content-length: ")
            self._awaited = len(head) + 4 + int(length.split(b"\r\n", 1)[0])
        self._awaited -= len(data)
        self.bytes += len(data)
        if not self._awaited:
            self.latencies_s.append(perf_counter() - self._asked_at)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection is lost: {error}")

    def _fail(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(RuntimeError(why))


async def load(url: str, connections: int, seconds: float, paths: list[str]) -> dict[str, float]:
    """Asks, and says what came of it; raises RuntimeError for an answer other than 200."""
    address = urlsplit(url)
    assert address.hostname and address.port
    requests = cycle(
        [f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode() for path in paths]
    )
    began = perf_counter()
    getters = [Getter(requests, began + seconds) for _ in range(connections)]
    loop = asyncio.get_running_loop()
    connecting = iter(getters)
    for _ in getters:
        await loop.create_connection(lambda: next(connecting), address.hostname, address.port)
    async with asyncio.timeout(seconds + ANSWER_S_MAX):
        await asyncio.gather(*(getter.ended for getter in getters))
    latencies = [s for getter in getters for s in getter.latencies_s]
    return {
        "requests": len(latencies),
        "seconds": perf_counter() - began,
        "bytes": sum(getter.bytes for getter in getters),
        **percentiles_ms(latencies),
    }


if __name__ == "__main__":
    url, connections, seconds = sys.argv[1:]
    told = load(url, int(connections), float(seconds), sys.stdin.read().split())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(told)))
