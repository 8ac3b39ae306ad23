"""Runs work for many items in parallel, with a progress bar."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


async def for_each(
    items: Collection[T],
    work: Callable[[T], Awaitable[None]],
    concurrency: int,
    done: Callable[[], None],
) -> None:
    """Awaits `work` for every item, in order, several at a time; raises the first error."""
    queue = iter(items)

    async def work_through_queue() -> None:
        for item in queue:
            await work(item)
            done()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work_through_queue())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


@contextmanager
def progress_bar(
    console: Console, title: str, total: int, status: Callable[[float], str] = lambda _: ""
) -> Iterator[Callable[[int], None]]:
    """Yields a function that advances the bar; `status` gets the elapsed seconds."""
    columns = (
        TextColumn(f"  {title:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, status="")
        began = time.perf_counter()

        def advance(count: int) -> None:
            progress.update(task, advance=count, status=status(time.perf_counter() - began))

        yield advance
