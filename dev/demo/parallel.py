"""Many at once, and a bar that shows how far they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


async def each(
    items: Collection[T],
    do: Callable[[T], Awaitable[None]],
    at_once: int,
    done: Callable[[], None],
) -> None:
    """Does it for every item in turn, several at a time; the first that fails ends it all."""
    queue = iter(items)

    async def one_after_the_other() -> None:
        for item in queue:
            await do(item)
            done()

    try:
        async with asyncio.TaskGroup() as crowd:
            for _ in range(at_once):
                crowd.create_task(one_after_the_other())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


@contextmanager
def bar(
    console: Console, title: str, total: int, told: Callable[[float], str] = lambda _: ""
) -> Iterator[Callable[[int], None]]:
    """A bar; each call says that so many more are done. `told` gets the seconds since it began."""
    columns = (
        TextColumn(f"  {title:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, told="")
        began = time.perf_counter()

        def advance(more: int) -> None:
            progress.update(task, advance=more, told=told(time.perf_counter() - began))

        yield advance
