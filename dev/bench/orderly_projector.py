"""Orderly's projector as a separate process that catches up with the log, timed.

``python -m dev.bench.orderly_projector catch_up DSN`` prints its seconds, without its start;
``rebuild`` likewise. Two processes with ``catch_up_half`` share the work: each prints its start and
end.
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

ANNOUNCED = announcements.CHANNEL  # The channel that announces each commit of a read model.


async def prepare(dsn: str) -> None:
    """Creates all tables."""
    await migrate.migrate(dsn, PROJECTIONS)


async def catch_up(dsn: str) -> None:
    """Projects the whole log."""
    async with generations.connected(dsn, ORDER_VIEW) as connection:
        while await project_batch(connection, ORDER_VIEW) is not BatchStatus.CAUGHT_UP:
            pass


async def catch_up_half(dsn: str) -> None:
    """Projects half of the slices, once a second process has the other half."""
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
    """Rebuilds the read model, compares it with the live one, and swaps them."""
    await rebuilding.rebuild(dsn, ORDER_VIEW)


async def main(name: str, dsn: str) -> None:
    """Runs one of the functions above, and prints the seconds it took."""
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
