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
    PAUSE_S,
    ReadCpu,
    Round,
    System,
    alternate,
    fill_orders,
    orders_of_a_round,
    run_round,
)
from dev.bench.orderly_api import OrderlySystem, orderly_system
from dev.bench.report import Json, compare, positive_integer, summarize
from dev.bench.temporal_baseline import TemporalBaseline, temporal_baseline
from dev.demo.baskets import PACKAGED_BASKETS, read_baskets
from dev.stack import Stack, StackOptions, run_stack

BASKETS_MAX = 300
WARM_UP_ORDERS = 40


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
    orders = orders_of_a_round(options.commands, options.rounds)
    systems: dict[str, System] = {"baseline": baseline, "orderly": orderly}
    for system in systems.values():
        await fill_orders(system, min(orders, WARM_UP_ORDERS), cpu)
    fills = {name: partial(fill_orders, system, orders, cpu) for name, system in systems.items()}
    rounds = await alternate(fills, options.rounds, console)
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
        "counts": {**counts, "baseline_activities": baseline.events},
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
