"""Work in the background of an `async with`, shared work, and what is given up after a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Generic, TypeVar

T = TypeVar("T")

WAITING_MAX = 1_000
WRITTEN_AT_ONCE = 100
# A process may take half a minute to end, of which ten seconds are for requests.
END_SECONDS_MAX = 5.0


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


class BatchWriter(Generic[T]):
    """Entries that wait in memory, and are written in batches behind the requests that left them.

    What `write` cannot write is its own affair. `drop` is called with how many were not written in
    time at the end, and why, and with those of a batch on which `write` raised all the same.
    """

    def __init__(
        self, write: Callable[[list[T]], Awaitable[None]], drop: Callable[[int, str], None]
    ) -> None:
        self._write = write
        self._drop = drop
        self._waiting = asyncio.Queue[T](WAITING_MAX)
        self._unwritten = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another entry."""
        return self._waiting.full()

    def add(self, entry: T) -> None:
        """Leaves an entry to be written; raises asyncio.QueueFull if there is no room."""
        self._waiting.put_nowait(entry)
        self._unwritten += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Writes entries in the background; at the end, those that still wait.

        Drops those that are not written END_SECONDS_MAX later.
        """
        writing = asyncio.create_task(self._write_all())
        try:
            yield
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS_MAX):
                    await self._waiting.join()
            writing.cancel()  # And not awaited: a cancelled query waits for its connection.
            if self._unwritten:
                self._drop(self._unwritten, "the process ends")

    async def _write_all(self) -> None:
        while True:
            batch = [await self._waiting.get(), *self._next()]
            try:
                await self._write(batch)
            except Exception as error:  # A fault of ours, which must not keep others from it.
                self._drop(len(batch), type(error).__name__)
            self._unwritten -= len(batch)
            for _ in batch:
                self._waiting.task_done()

    def _next(self) -> list[T]:
        count = min(self._waiting.qsize(), WRITTEN_AT_ONCE)
        return [self._waiting.get_nowait() for _ in range(count)]


async def wait_at_most(seconds: float, event: asyncio.Event) -> None:
    """Waits until an event is set, or for `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class SharedRead(Generic[T]):
    """Reads for many callers at the price of one: one at a time, at most every `seconds`.

    A caller joins the read that is under way, or gets a result that is not older than `seconds`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun_at = 0.0
        self._reading: asyncio.Task[T] | None = None

    async def get(self, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `read` returns or raises."""
        reading, now = self._reading, monotonic()
        if reading is None or (reading.done() and now - self._begun_at >= self._seconds):
            reading = self._reading = asyncio.create_task(read())
            self._begun_at = now
        return await asyncio.shield(reading)  # A caller that leaves takes it from no other.


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
