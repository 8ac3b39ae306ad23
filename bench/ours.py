"""Our projector as the benchmarks call it: a process of its own that catches up, and is timed.

``python -m bench.ours catch_up DSN`` prints how many seconds it took, without those of its start.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import Any

import uvloop

from eventlog.postgres import Connection
from readside import checkpoints, order_lists, order_view, projector
from readside import rebuild as rebuilding
from readside.projector import Step

ORDER_VIEW = order_view.PROJECTION

ANNOUNCED = checkpoints.CHANNEL  # On which each commit of a read model is heard.
PAGE = 25  # What the API answers if nobody asks for more.


async def prepare(dsn: str) -> None:
    """Makes all tables."""
    await projector.prepare(dsn)


async def catch_up(dsn: str) -> None:
    """Projects all that the log has."""
    async with checkpoints.connected(dsn, ORDER_VIEW) as connection:
        while await projector.step(connection, ORDER_VIEW) is not Step.CAUGHT_UP:
            pass


async def rebuild(dsn: str) -> None:
    """Projects the whole log anew, compares the result with the live one, and swaps them."""
    await rebuilding.rebuild(dsn, ORDER_VIEW)


async def page(
    connection: Connection, wanted: dict[str, Any], sort: str, after: tuple[Any, str] | None
) -> int:
    """Asks for a page as the API does; returns how many orders are on it."""
    column, descending = sort.removeprefix("-"), sort.startswith("-")
    filter = order_lists.Filter(**wanted)
    rows = await order_lists.page(connection, filter, column, descending, after, PAGE + 1)
    return len(rows)


async def timed(name: str, dsn: str) -> float:
    """The seconds that one of the above takes."""
    work = {"catch_up": catch_up, "rebuild": rebuild}[name]
    began = perf_counter()
    await work(dsn)
    return perf_counter() - began


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(timed(*sys.argv[1:])))
