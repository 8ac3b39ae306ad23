"""Our projector as the benchmarks call it: a process of its own that catches up, and is timed.

``python -m bench.ours catch_up DSN`` prints how many seconds it took, without those of its start;
``catch_up_half``, of which there must be two, when it began and when it ended.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter

import uvloop

from eventlog.log import SLICES
from readside.engine import announcements, generations, migrate
from readside.engine import rebuild as rebuilding
from readside.engine.batches import BatchStatus, project_batch
from readside.engine.slices import SliceLocks
from readside.order_view import projection as order_view
from readside.registry import PROJECTIONS

ORDER_VIEW = order_view.PROJECTION

ANNOUNCED = announcements.CHANNEL  # On which each commit of a read model is heard.


async def prepare(dsn: str) -> None:
    """Makes all tables."""
    await migrate.migrate(dsn, PROJECTIONS)


async def catch_up(dsn: str) -> None:
    """Projects all that the log has."""
    async with generations.connected(dsn, ORDER_VIEW) as connection:
        while await project_batch(connection, ORDER_VIEW) is not BatchStatus.CAUGHT_UP:
            pass


async def catch_up_half(dsn: str) -> None:
    """Projects the slices that are this process's share, once there is a second one like it."""
    async with generations.connected(dsn, ORDER_VIEW) as connection:
        slices = SliceLocks(connection, ORDER_VIEW.name)
        while len(slices.owned) != SLICES // 2:
            await slices.rebalance()
            await asyncio.sleep(0.02)
        print(perf_counter())
        while (
            await project_batch(connection, ORDER_VIEW, slices.owned) is not BatchStatus.CAUGHT_UP
        ):
            pass
        print(perf_counter())


async def rebuild(dsn: str) -> None:
    """Projects the whole log anew, compares the result with the live one, and swaps them."""
    await rebuilding.rebuild(dsn, ORDER_VIEW)


async def main(name: str, dsn: str) -> None:
    """Does one of the above, and prints the seconds it took."""
    if name == "catch_up_half":
        await catch_up_half(dsn)
        return
    work = {"catch_up": catch_up, "rebuild": rebuild}[name]
    began = perf_counter()
    await work(dsn)
    print(perf_counter() - began)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
