"""TLS in front of a server that has none, as Postgres and Temporal speak it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

CHUNK_BYTES = 65_536
SSL_REQUEST_BYTES = 8
"""With these, a client asks Postgres for TLS; the answer S accepts."""


def server_context(authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """That of a server which demands a client's certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def tls_postgres(socket: Path, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Speaks Postgres with TLS on a free port of 127.0.0.1, for the server on a Unix socket."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(SSL_REQUEST_BYTES)
        writer.write(b"S")
        try:
            await writer.start_tls(context)
            back = await asyncio.open_unix_connection(socket)
        except OSError:  # ssl.SSLError is one: the client does not trust, or is not trusted.
            writer.close()
            return
        await _join((reader, writer), back)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def tls_temporal(host: str, port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Speaks gRPC with TLS on a free port of 127.0.0.1, for the server at host and port."""
    context.set_alpn_protocols(["h2"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join((reader, writer), await asyncio.open_connection(host, port))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(one: Streams, other: Streams) -> None:
    await asyncio.gather(_pass_on(one[0], other[1]), _pass_on(other[0], one[1]))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
