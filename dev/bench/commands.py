"""Commands a second, beside the bare SDK on one embedded server, by turns."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

from dev.bench import machine, report
from dev.bench.load_generator import COMMANDS_PER_ORDER, ReadCpu, Round, Side, fill_orders, run
from dev.bench.orderly_api import Orderly, orderly
from dev.bench.report import Json, comparison, counted, numbers
from dev.bench.temporal_baseline import Yardstick, yardstick
from dev.demo.baskets import PACKAGED_BASKETS, read_baskets
from dev.stack import Stack, StackOptions, running_stack

BASKETS_MAX = 300
WARM_UP_ORDERS = 40
PAUSE_S = 0.5  # What still happens after a round must not be the next one's.


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commands", type=counted, default=8_000, help="of each side, in all")
    parser.add_argument("--rounds", type=counted, default=5, help="so often the sides take turns")
    parser.add_argument("--clients", type=counted, default=20, help="of each side at the same time")


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and measures."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with (
            running_stack(StackOptions(Path(data_dir), 0, 0, 0)) as stack,
            yardstick(stack, options.clients) as theirs,
            orderly(stack, options.clients) as ours,
        ):
            return await _measured(stack, theirs, ours, options, console)


async def _measured(
    stack: Stack, theirs: Yardstick, ours: Orderly, options: argparse.Namespace, console: Console
) -> Json:
    """The whole result, in numbers."""
    cpu = machine.cpu_reader({**stack.pids, "yardstick's worker": theirs.pid})
    orders = max(options.commands // options.rounds // COMMANDS_PER_ORDER, 1)
    sides: dict[str, Side] = {"yardstick": theirs, "orderly": ours}
    for side in sides.values():
        await fill_orders(side, min(orders, WARM_UP_ORDERS), cpu)
    rounds: dict[str, list[Round]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name in sorted(sides, reverse=number % 2 == 0):  # Each goes first in every other.
            await asyncio.sleep(PAUSE_S)
            one = await fill_orders(sides[name], orders, cpu)
            rounds[name].append(one)
            console.print(f"round {number + 1}: {name:<9} {one.per_second:6.1f} commands a second")
    counts = {
        "acknowledged": ours.events,
        "published": await ours.published(),
        "projected": await ours.projected(),
    }
    baskets = await place_baskets(ours, min(BASKETS_MAX, options.rounds * orders), cpu)
    return {
        **comparison(rounds["orderly"], rounds["yardstick"]),
        "yardstick": numbers(rounds["yardstick"]),
        "orderly": numbers(rounds["orderly"]),
        "baskets": numbers([baskets]),
        "counts": {**counts, "yardstick_activities": theirs.activities},
        "clients": options.clients,
        "rounds": options.rounds,
        "machine": machine.description() | await machine.temporal(stack.temporal_address),
    }


async def place_baskets(ours: Orderly, count: int, cpu: ReadCpu) -> Round:
    """Whole baskets of the demo, one request each."""
    baskets = read_baskets(PACKAGED_BASKETS, count)
    caught_up = partial(ours.confirm, len(baskets))
    await asyncio.sleep(PAUSE_S)
    return await run([shop.place for shop in ours.shops], baskets, caught_up, cpu)


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    report.show(console, result)
