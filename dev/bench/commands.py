"""Commands per second, compared with the Temporal SDK alone on the same embedded server."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

from dev.bench import machine, report
from dev.bench.load_generator import (
    COMMANDS_PER_ORDER,
    ReadCpu,
    Round,
    System,
    fill_orders,
    run_round,
)
from dev.bench.orderly_api import OrderlySystem, orderly_system
from dev.bench.report import Json, compare, positive_integer, summarize
from dev.bench.temporal_baseline import TemporalBaseline, temporal_baseline
from dev.demo.baskets import PACKAGED_BASKETS, read_baskets
from dev.stack import Stack, StackOptions, run_stack

BASKETS_MAX = 300
WARM_UP_ORDERS = 40
PAUSE_S = 0.5  # Work that goes on after a round must not count in the next one.


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--commands", type=positive_integer, default=8_000, help="of each system, in all"
    )
    parser.add_argument(
        "--rounds", type=positive_integer, default=5, help="of each system, alternating"
    )
    parser.add_argument(
        "--clients", type=positive_integer, default=20, help="of each system, concurrent"
    )


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and measures."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with (
            run_stack(StackOptions(Path(data_dir), 0, 0, 0)) as stack,
            temporal_baseline(stack, options.clients) as baseline,
            orderly_system(stack, options.clients) as orderly,
        ):
            return await _measure(stack, baseline, orderly, options, console)


async def _measure(
    stack: Stack,
    baseline: TemporalBaseline,
    orderly: OrderlySystem,
    options: argparse.Namespace,
    console: Console,
) -> Json:
    """Warms up, alternates the systems, and compares them."""
    cpu = machine.cpu_reader({**stack.pids, "baseline's worker": baseline.pid})
    orders = max(options.commands // options.rounds // COMMANDS_PER_ORDER, 1)
    systems: dict[str, System] = {"baseline": baseline, "orderly": orderly}
    for system in systems.values():
        await fill_orders(system, min(orders, WARM_UP_ORDERS), cpu)
    rounds: dict[str, list[Round]] = {name: [] for name in systems}
    for number in range(options.rounds):
        for name in sorted(systems, reverse=number % 2 == 0):  # They alternate in going first.
            await asyncio.sleep(PAUSE_S)
            one = await fill_orders(systems[name], orders, cpu)
            rounds[name].append(one)
            console.print(
                f"round {number + 1}: {name:<9} {one.per_second:6.1f} commands per second"
            )
    counts = {
        "acknowledged": orderly.events,
        "published": await orderly.published(),
        "projected": await orderly.projected(),
    }
    baskets = await place_baskets(orderly, min(BASKETS_MAX, options.rounds * orders), cpu)
    return {
        **compare(rounds["orderly"], rounds["baseline"]),
        "baseline": summarize(rounds["baseline"]),
        "orderly": summarize(rounds["orderly"]),
        "baskets": summarize([baskets]),
        "counts": {**counts, "baseline_activities": baseline.activities},
        "clients": options.clients,
        "rounds": options.rounds,
        "machine": machine.description() | await machine.temporal(stack.temporal_address),
    }


async def place_baskets(orderly: OrderlySystem, count: int, cpu: ReadCpu) -> Round:
    """Places whole baskets of the demo, in one request each."""
    baskets = read_baskets(PACKAGED_BASKETS, count)
    caught_up = partial(orderly.wait_until_confirmed, len(baskets))
    await asyncio.sleep(PAUSE_S)
    return await run_round([client.place for client in orderly.clients], baskets, caught_up, cpu)


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    report.show(console, result)
