"""The format of server-sent events, as far as orderly uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import NamedTuple


class Message(NamedTuple):
    """What one block of lines says; None: it has no such field."""

    id: str | None
    data: str | None


async def messages(chunks: AsyncIterable[bytes]) -> AsyncGenerator[Message]:
    """The messages in a stream, however it is cut into chunks; without an incomplete last one.

    Lines end only at a line feed: JSON may contain other line breaks of Unicode.
    """
    text = b""
    async for chunk in chunks:
        *blocks, text = (text + chunk).split(b"\n\n")
        for block in blocks:
            yield _message(block.decode())


def _message(block: str) -> Message:
    found: dict[str, list[str]] = {}
    for line in block.split("\n"):
        field, _, value = line.partition(":")
        found.setdefault(field, []).append(value.removeprefix(" "))
    data = "\n".join(found["data"]) if "data" in found else None
    return Message(found["id"][-1] if "id" in found else None, data)
