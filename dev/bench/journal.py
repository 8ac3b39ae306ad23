"""What the intent journal costs: commands per second, and bytes of the log."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import asyncpg
from rich.console import Console

from dev.bench import machine
from dev.bench.commands import place_baskets
from dev.bench.load_generator import load_together, orders_of_a_round
from dev.bench.report import (
    Json,
    compare,
    describe_machine,
    numeric_table,
    positive_integer,
    summarize,
)
from dev.bench.two_stacks import two_stacks
from dev.stack import Stack

WITHOUT = Path(__file__).with_name("without_journal")
"""Its sitecustomize module makes orderly keep no intent."""
WARM_UP_ORDERS = 20
BYTES_MAX = 1.3
"""Times the log without a journal."""
METHOD = (
    "Two stacks on one machine, loaded at the same time: what else the machine does slows both down"
    " alike. Ratios are medians of the rounds. With --control both keep a journal."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commands", type=positive_integer, default=9_600, help="of each, in all")
    parser.add_argument("--rounds", type=positive_integer, default=24, help="of both at once")
    parser.add_argument("--clients", type=positive_integer, default=10, help="of each, concurrent")
    parser.add_argument("--baskets", type=positive_integer, default=200, help="of each, to weigh")
    parser.add_argument(
        "--control",
        action="store_true",
        help="let both keep a journal: how far equal stacks differ",
    )


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs two stacks, one of them without a journal, and loads both at the same time."""
    without = None if options.control else WITHOUT
    async with two_stacks(without, options.clients, console) as (kept, bare):
        stacks = {"journal": kept, "without": bare}
        for each in stacks.values():
            await each.fill(WARM_UP_ORDERS)
        orders = orders_of_a_round(options.commands, options.rounds)
        fills = {name: partial(each.fill, orders) for name, each in stacks.items()}
        rounds = await load_together(fills, options.rounds, console)
        commands = {name: await _bytes(each.stack) for name, each in stacks.items()}
        for each in stacks.values():
            await place_baskets(each.system, options.baskets, each.cpu)
        everything = {name: await _bytes(each.stack) for name, each in stacks.items()}
    ratio = everything["journal"] / everything["without"]
    is_large = ratio > BYTES_MAX
    return {
        **compare(rounds["journal"], rounds["without"]),
        "journal": summarize(rounds["journal"]),
        "without": summarize(rounds["without"]),
        "bytes_per_event": {"single commands": commands, "with whole baskets": everything},
        "bytes_ratio": round(ratio, 3),
        "bytes_ratio_commands": round(commands["journal"] / commands["without"], 3),
        "machine": machine.description(),
        "failures": [f"the log has {ratio:.2f} times the bytes"] if is_large else [],
    }


async def _bytes(stack: Stack) -> float:
    """Bytes of the log and its journal, with their indexes, for each event."""
    postgres = await asyncpg.connect(stack.postgres_dsn)
    try:
        size: float = await postgres.fetchval(
            "SELECT (pg_total_relation_size('order_events')"
            " + pg_total_relation_size('ineffective_intents'))::float8"
            " / (SELECT count(*) FROM order_events)"
        )
        return size
    finally:
        await postgres.close()


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("", "with the journal", "without", "ratio")
    one, other = result["journal"], result["without"]
    table.add_row(
        "commands per second", f"{one['per_second']:,}", f"{other['per_second']:,}",
        str(result["ratio"]),
    )  # fmt: skip
    table.add_row("the same, by processor time", "", "", str(result["ratio_by_cpu_time"]))
    table.add_row("standard errors of these", "", "", " ".join(map(str, result["ratio_errors"])))
    for what, ratio in (
        ("single commands", result["bytes_ratio_commands"]),
        ("with whole baskets", result["bytes_ratio"]),
    ):
        sizes = result["bytes_per_event"][what]
        table.add_row(
            f"bytes per event, {what}", f"{sizes['journal']:,.0f}", f"{sizes['without']:,.0f}",
            str(ratio),
        )  # fmt: skip
    console.print(table)
    console.print(f"{describe_machine(result['machine'])}.\n{METHOD}")
