"""Child processes that do not outlive who waits for them."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from contextlib import suppress


async def communicate(process: Process, given: bytes | None = None) -> tuple[bytes, bytes]:
    """What a process writes until it ends, as far as that is piped; kills it when cancelled."""
    try:
        return await process.communicate(given)
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
