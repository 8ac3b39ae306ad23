"""Work that goes on in the background of an `async with`, or that is given up after a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs `work` inside the `async with`, and cancels it at the end.

    If it has failed by then, its error is raised.
    """
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def within(seconds: float, check: Coroutine[Any, Any, T]) -> T:
    """The result of a check; raises TimeoutError after `seconds`.

    It does not wait for the check to end then: a cancelled query waits for its connection.
    """
    task = asyncio.create_task(check)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if done:
        return task.result()
    task.cancel()
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
    raise TimeoutError(f"no answer within {seconds:g} s")
