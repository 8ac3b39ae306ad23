"""Rehearsal: decisions per second of one core, and memory over very many orders."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import cycle, islice

import psutil  # type: ignore[import-untyped]
from rich.console import Console

from dev.bench import machine
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.demo.recorded_orders import demo_orders
from dev.stack.programs import ROOT
from rehearsal.process import Rules
from rehearsal.recorded import RecordedOrder
from rehearsal.report import Report

RATE_MIN = 5_000
QUARTERS = (25, 50, 75, 100)
MB = 2**20
METHOD = (
    "The demo's baskets, again and again, are decided by the rules of this checkout in a process of"
    " their own, as `orderly rehearse` does; nothing is read from a database. The rate is that of"
    " the processor time of that process. Its memory, and that of the process that reports, are"
    " read after each quarter of the orders."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=positive_integer, default=100_000)
    parser.add_argument("--baskets", type=positive_integer, default=1_000, help="different ones")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Rehearses all orders once."""
    console.print("recording the orders …")
    recorded = demo_orders(min(options.baskets, options.orders))
    quarters = {max(options.orders * each // 100, 1): each for each in QUARTERS}
    report, memory, began = Report(), list[Json](), time.monotonic()
    rules = await Rules.start(ROOT)
    processes = {"reports": psutil.Process(), "decides": psutil.Process(rules.pid)}

    async def sent() -> AsyncIterator[RecordedOrder]:
        """All orders. With the last one not yet sent, both processes still run."""
        for number, order in enumerate(islice(cycle(recorded), options.orders), start=1):
            if number in quarters:
                megabytes = {name: p.memory_info().rss / MB for name, p in processes.items()}
                memory.append({name: round(mb, 1) for name, mb in megabytes.items()})
                console.print(f"{quarters[number]} %: {memory[-1]} MB")
            yield order

    async for order, outcome in rules.rehearse(sent(), datetime.now(UTC)):
        report.add(order, outcome)
    per_core = round(report.decisions / rules.cpu_seconds)
    failures = {
        f"{report.differing} orders differ by the same rules": report.differing > 0,
        f"{per_core:,} decisions per second: fewer than {RATE_MIN:,}": per_core < RATE_MIN,
    }
    return {
        "orders": report.orders,
        "decisions": report.decisions,
        "decisions_per_second_per_core": per_core,
        "seconds": round(time.monotonic() - began, 1),
        "resident_mb": memory,
        "failures": [message for message, failed in failures.items() if failed],
        "machine": machine.description(),
    }


def show(console: Console, result: Json) -> None:
    """Prints the rate, and memory after each quarter."""
    table = numeric_table("MB after", *(f"{each} %" for each in QUARTERS))
    for name in ("decides", "reports"):
        table.add_row(
            f"the process that {name}", *(str(each[name]) for each in result["resident_mb"])
        )
    console.print(table)
    console.print(
        f"{result['orders']:,} orders, {result['decisions']:,} decisions in {result['seconds']} s:"
        f" {result['decisions_per_second_per_core']:,} decisions per second of one core.\n"
        f"{describe_machine(result['machine'])}.\n{METHOD}\n"
    )
