"""What it costs that acknowledged commands survive a power cut: an fsync at each commit."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from rich.console import Console

from dev.bench import machine
from dev.bench.load_generator import COMMANDS_PER_ORDER, Round, fill_orders
from dev.bench.orderly_api import OrderlySystem, orderly_system
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer, summarize
from dev.stack import StackOptions, run_stack

WARM_UP_ORDERS = 20
ORDERS_OF_ONE_CLIENT = 10
PAUSE_S = 0.5  # Work that goes on after a round must not count in the next one.
MODES = {"durable": True, "not durable": False}
METHOD = (
    "Two stacks run, and their rounds alternate. Durable: Temporal's SQLite with synchronous=FULL,"
    " as in `orderly up`. Not durable: synchronous=NORMAL, as in `orderly up --not-durable`."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commands", type=positive_integer, default=4_000, help="of each, in all")
    parser.add_argument("--rounds", type=positive_integer, default=5, help="of each, alternating")
    parser.add_argument("--clients", type=positive_integer, default=20, help="concurrent")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Alternates rounds of many clients and of one, on both stacks."""
    many: dict[str, list[Round]] = {name: [] for name in MODES}
    one: dict[str, list[Round]] = {name: [] for name in MODES}
    orders = max(options.commands // options.rounds // COMMANDS_PER_ORDER, 1)
    console.print("starting two embedded stacks …")
    async with _system(True, options.clients) as first, _system(False, options.clients) as second:
        systems = dict(zip(MODES, (first, second), strict=True))
        for system in systems.values():
            await _fill(system, options.clients, min(orders, WARM_UP_ORDERS))
        for number in range(options.rounds):
            for name in sorted(systems, reverse=number % 2 == 0):  # They alternate in going first.
                many[name].append(await _fill(systems[name], options.clients, orders))
                one[name].append(await _fill(systems[name], 1, min(orders, ORDERS_OF_ONE_CLIENT)))
                per_second = many[name][-1].acknowledged_per_second
                console.print(
                    f"round {number + 1}: {name:<11} {per_second:6.1f} commands per second"
                )
    ratios = [
        durable.acknowledged_per_second / other.acknowledged_per_second
        for durable, other in zip(*many.values(), strict=True)
    ]
    return {
        "ratio": round(median(ratios), 3),
        "ratio_rounds": [round(ratio, 3) for ratio in ratios],
        "many_clients": {name: summarize(rounds) for name, rounds in many.items()},
        "one_client": {name: summarize(rounds) for name, rounds in one.items()},
        "clients": options.clients,
        "machine": machine.description(),
    }


@asynccontextmanager
async def _system(is_durable: bool, clients: int) -> AsyncIterator[OrderlySystem]:
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        options = StackOptions(Path(data_dir), 0, 0, 0, is_durable=is_durable)
        async with run_stack(options) as stack, orderly_system(stack, clients) as system:
            yield system


async def _fill(system: OrderlySystem, clients: int, orders: int) -> Round:
    await asyncio.sleep(PAUSE_S)
    some = replace(system, clients=system.clients[:clients])
    filled = await fill_orders(some, orders, machine.cpu_reader({}))
    system.events = some.events
    return filled


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("", *MODES)
    many, one = result["many_clients"], result["one_client"]
    rows = {
        f"commands per second, {result['clients']} clients": [
            f"{many[name]['acknowledged_per_second']:,}" for name in MODES
        ],
        **{
            f"acknowledged after, {clients}, {percentile} ms": [
                f"{part[name]['latency_ms'][percentile]}" for name in MODES
            ]
            for clients, part in ((f"{result['clients']} clients", many), ("one client", one))
            for percentile in ("p50", "p99")
        },
    }
    for label, values in rows.items():
        table.add_row(label, *values)
    console.print(table)
    rounds = ", ".join(map(str, result["ratio_rounds"]))
    console.print(
        f"{describe_machine(result['machine'])}.\n{METHOD}\n\n"
        f"Ratio of durable to not durable: [bold]{result['ratio']}[/bold] (by round: {rounds})"
    )
