"""Requests that arrive as strangers' do: at their own rate, whether or not the last was answered.

``python -m bench.arrivals URL RATE`` reads requests from standard input, one a line (a method, a
path and, for a POST, a body), and sends RATE of them a second on average, at random moments. It
prints a JSON list with one ``Outcome`` for each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import secrets
import sys
from contextlib import suppress
from random import Random
from time import perf_counter
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import uvloop

ANSWER_S_MAX = 30.0
_HEAD = re.compile(rb"(?is)HTTP/.*?\r\ncontent-length: *(\d+)(?:\r\n.*?)?\r\n\r\n")


class Outcome(NamedTuple):
    """What became of one request."""

    at_s: float
    """When it arrived, by this machine's clock."""
    latency_s: float
    """From its arrival to the end of its answer."""
    late_s: float
    """How much later it was sent than it should have been: the sender was too busy."""
    status: int
    """0: there was no answer."""
    retry_after: str | None
    said: str | None
    """The order's id, or the code of the problem."""


class Client(asyncio.Protocol):
    """One connection, with one request at a time on it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._awaited = 0  # Bytes that are still to come, once the head is there.
        self._answer: asyncio.Future[bytes] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name.
        self.is_open = True

    async def ask(self, request: bytes) -> bytes:
        """Sends a request; returns the whole answer, or nothing if the connection is lost."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if not self._awaited:
            data = b"".join(self._parts)
            head = _HEAD.match(data)
            if head is None:
                return
            self._parts, self._awaited = [data], head.end() + int(head[1])
        self._awaited -= len(data)
        if not self._awaited:
            self._end(b"".join(self._parts))

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        self._end(b"")

    def _end(self, answer: bytes) -> None:
        self._parts = []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)


class Front:
    """As many connections as it takes: each arrival has one to itself until it is answered."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname and address.port
        self._host, self._port = address.hostname, address.port
        self._idle: list[Client] = []

    async def ask(self, line: str) -> Outcome:
        """Sends one request now, and says what became of it."""
        return _outcome(*await self.timed(line, perf_counter()))

    async def timed(self, line: str, due: float) -> tuple[float, float, float, bytes]:
        """When a request that was due then began, how long it took and was late, and its answer."""
        began = perf_counter()
        answer = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await self._answer(line)
        return began, perf_counter() - began, began - due, answer

    async def _answer(self, line: str) -> bytes:
        try:
            client = await self._client()
        except OSError:
            return b""
        answer = await client.ask(self._request(line))
        if client.is_open:
            self._idle.append(client)
        return answer

    async def _client(self) -> Client:
        while self._idle:
            if (client := self._idle.pop()).is_open:
                return client
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Client, self._host, self._port))[1]

    def _request(self, line: str) -> bytes:
        method, path, *body = line.split(" ", 2)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body[0])}"]
            lines += [f"Idempotency-Key: {secrets.token_hex(16)}"]
        return "\r\n".join([*lines, "", *(body or [""])]).encode()


async def arrive(url: str, rate: float, lines: list[str]) -> list[Outcome]:
    """Sends the requests, and says what became of each."""
    front, dice, asking = Front(url), Random(1), []
    due = perf_counter()
    for line in lines:
        due += dice.expovariate(rate)
        await asyncio.sleep(max(due - perf_counter(), 0))
        asking.append(asyncio.create_task(front.timed(line, due)))
    # Not earlier: what reads answers cannot send in time.
    return [_outcome(*one) for one in await asyncio.gather(*asking)]


def _outcome(at_s: float, latency_s: float, late_s: float, answer: bytes) -> Outcome:
    if not answer:
        return Outcome(at_s, latency_s, late_s, 0, None, None)
    head, _, body = answer.partition(b"\r\n\r\n")
    retry_after = re.search(rb"(?i)\r\nretry-after: *(\d+)", head)
    told = json.loads(body)
    return Outcome(
        at_s,
        latency_s,
        late_s,
        int(head.split(None, 2)[1]),
        retry_after[1].decode() if retry_after else None,
        told.get("code") or told.get("order_id"),
    )


if __name__ == "__main__":
    url, rate = sys.argv[1:]
    gc.disable()  # Its pauses would be taken for those of who is measured.
    arriving = arrive(url, float(rate), sys.stdin.read().splitlines())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(arriving)))
