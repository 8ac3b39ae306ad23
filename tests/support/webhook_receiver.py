"""A receiver of webhooks over real HTTP, which answers as a test wants, or misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from typing import Any

from dev.stack.ports import LOOPBACK

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def order_id(self) -> str:
        return self.event_id.partition("@")[0]


@dataclass(frozen=True)
class Reply:
    """An answer; `raw` replaces all of it."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    after: asyncio.Event | None = None
    """It is sent once this is set."""
    raw: bytes | None = None
    endless: bytes = b""
    """Sent again and again after the answer, until the client hangs up."""

    def encoded(self) -> bytes:
        if self.raw is not None:
            return self.raw
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        lines = [f"HTTP/1.1 {self.status} X", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + self.body


OK, ERROR = Reply(), Reply(500, body=b"out of order")
Respond = Callable[[Received], Reply]


@dataclass
class Receiver:
    """What was received, in order, and how it is answered."""

    url: str
    respond: Respond = lambda _: OK
    requests: list[Received] = field(default_factory=list)
    accepted: list[Received] = field(default_factory=list)
    connections: int = 0
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    def order_versions(self) -> dict[str, list[int]]:
        """The versions of each order in the order of their acceptance, each once."""
        found: dict[str, list[int]] = {}
        for request in self.accepted:
            versions = found.setdefault(request.order_id, [])
            version = int(request.event_id.partition("@")[2])
            if version not in versions:
                versions.append(version)
        return found

    async def until(self, condition: Callable[[], object | Awaitable[object]]) -> None:
        await until(condition)

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await _read(reader)
                self.requests.append(request)
                reply = self.respond(request)
                await asyncio.sleep(reply.delay_s)
                if reply.after is not None:
                    await reply.after.wait()
                if 200 <= reply.status < 300:
                    self.accepted.append(request)
                writer.write(reply.encoded())
                while reply.endless:
                    writer.write(reply.endless)
                    await writer.drain()
                    await asyncio.sleep(0.001)
                if reply.raw is not None:
                    break


async def until(condition: Callable[[], object | Awaitable[object]]) -> None:
    """Waits until a condition is met."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            met = condition()
            if await met if isinstance(met, Awaitable) else met:
                return
            await asyncio.sleep(0.01)


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
    headers = {name.lower(): value for name, _, value in lines}
    return Received(headers, await reader.readexactly(int(headers["content-length"])))


@asynccontextmanager
async def receiving(respond: Respond | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on a port of the loopback interface."""
    receiver = Receiver("")
    if respond is not None:
        receiver.respond = respond
    server = await asyncio.start_server(receiver._connect, LOOPBACK, port)
    receiver.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/webhooks"
    try:
        yield receiver
    finally:
        server.close()
        for task in receiver._serving:
            task.cancel()
        await asyncio.gather(*receiver._serving, return_exceptions=True)


def failing_first(times: int, failure: Reply = ERROR) -> Respond:
    """Fails the first attempts of each event."""
    seen: dict[str, int] = {}

    def respond(request: Received) -> Reply:
        seen[request.event_id] = seen.get(request.event_id, 0) + 1
        return failure if seen[request.event_id] <= times else OK

    return respond
