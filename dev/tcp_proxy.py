"""A TCP proxy that can do to connections what networks do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

CHUNK_BYTES = 65_536

Target = Path | tuple[str, int]
"""A Unix socket, or a host and its port."""


class TcpProxy:
    """Passes connections on to a target, until they are cut or go silent."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._open: dict[asyncio.Task[None], asyncio.Event] = {}
        self.port = 0
        self.delay_s = 0.0
        """How long each chunk of bytes is held back, in both directions."""
        self.is_refusing = False
        """Whether new connections end at once."""

    def silence(self) -> int:
        """From now on nothing passes through today's connections, and nothing ends them.

        New ones work. Returns how many were silenced.
        """
        for silenced in self._open.values():
            silenced.set()
        return len(self._open)

    def cut(self) -> None:
        """Ends all connections, also in the middle of a message; new ones work."""
        for task in self._open:
            task.cancel()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[TcpProxy]:
        """Listens on a free port of the loopback interface."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, silenced = asyncio.current_task(), asyncio.Event()
        assert task is not None
        if self.is_refusing:
            writer.close()
            return
        self._open[task] = silenced
        try:
            back_reader, back_writer = await _connect(self._target)
            ways = [
                asyncio.create_task(self._pass_on(reader, back_writer, silenced)),
                asyncio.create_task(self._pass_on(back_reader, writer, silenced)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                back_writer.close()
        except (asyncio.CancelledError, OSError):
            pass  # It was cut, or the target is down: the client's connection ends, too.
        finally:
            del self._open[task]
            writer.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silenced: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if silenced.is_set():
                    await asyncio.Event().wait()  # Until the proxy ends.
                writer.write(chunk)
                await writer.drain()
            if silenced.is_set():
                await asyncio.Event().wait()


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(target, Path):
        return await asyncio.open_unix_connection(target)
    return await asyncio.open_connection(*target)


def unix_socket(dsn: str) -> Path:
    """The Unix socket of a DSN with the directory of the socket as its host."""
    (folder,) = parse_qs(urlsplit(dsn).query)["host"]
    return Path(folder) / ".s.PGSQL.5432"


def through(proxy: TcpProxy, dsn: str) -> str:
    """The DSN of the same database, through the proxy."""
    parts = urlsplit(dsn)
    return f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"
