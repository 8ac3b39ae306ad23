"""A real NATS server with JetStream, which tests kill and start again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import nats
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from dev.stack.ports import LOOPBACK, free_ports
from outbound.relay.nats import STREAM

EXECUTABLE = Path(sys.executable).with_name("nats-server")
SECONDS_MAX = 30.0


@dataclass
class NatsServer:
    """One server; what it has stored survives that it is killed."""

    folder: Path
    options: Sequence[str | Path] = ()
    scheme: str = "nats"
    port: int = field(default_factory=lambda: free_ports({"nats": 0})[0])
    _process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Starts it; returns once it accepts connections."""
        self._process = await asyncio.create_subprocess_exec(
            *(EXECUTABLE, "-a", LOOPBACK, "-p", f"{self.port}", "-js", "-sd", self.folder),
            *self.options,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                try:
                    _, writer = await asyncio.open_connection(LOOPBACK, self.port)
                except OSError:
                    assert self._process.returncode is None, "the NATS server has ended"
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def kill(self) -> None:
        """Ends it without any notice."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def messages(self) -> list[RawStreamMsg]:
        """All that the stream has stored, in its order; nothing without a server or a stream."""
        try:
            client = await nats.connect(self.url, allow_reconnect=False, error_cb=_ignore)
        except (OSError, NatsError):
            return []
        try:
            stream = client.jetstream()
            last = (await stream.stream_info(STREAM)).state.last_seq
            return [await stream.get_msg(STREAM, number) for number in range(1, last + 1)]
        except (NotFoundError, NatsError):
            return []
        finally:
            await client.close()

    async def until(self, condition: Callable[[list[RawStreamMsg]], bool]) -> list[RawStreamMsg]:
        """Waits until what is stored meets a condition; returns it."""
        async with asyncio.timeout(SECONDS_MAX):
            while not condition(messages := await self.messages()):
                await asyncio.sleep(0.05)
        return messages


@asynccontextmanager
async def nats_server(
    folder: Path, *options: str | Path, scheme: str = "nats"
) -> AsyncIterator[NatsServer]:
    """A running server, which is killed in the end."""
    server = NatsServer(folder, options, scheme)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


async def _ignore(_: Exception) -> None:
    """A server that is killed ends a connection."""
