"""What metrics cost: processor time and commands per second with them, and without any."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from unittest.mock import patch

import httpx
from rich.console import Console

from admin.metrics import OPEN_METRICS
from background import in_background
from dev.bench import machine
from dev.bench.load_generator import COMMANDS_PER_ORDER, Round, fill_orders
from dev.bench.orderly_api import orderly_system
from dev.bench.report import (
    Json,
    compare,
    describe_machine,
    numeric_table,
    positive_integer,
    summarize,
)
from dev.stack import Stack, StackOptions, programs, run_stack

WITHOUT = Path(__file__).with_name("without_metrics")
"""Its sitecustomize module makes orderly count nothing."""
WARM_UP_ORDERS = 40
PAUSE_S = 0.5  # Work that goes on after a round must not count in the next one.
SCRAPE_S = 15.0
ORDERLY = ("api", "worker", "projector", "deliverer")
METHOD = (
    "Two stacks on one machine, loaded in turn; in each round of the first, every process is"
    f" scraped at once and then every {SCRAPE_S:g} seconds. The other counts nothing, and neither"
    " does Temporal's SDK. Ratios are medians of the rounds; by processor time, other load on the"
    " machine changes them least."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commands", type=positive_integer, default=20_000, help="of each, in all")
    parser.add_argument("--rounds", type=positive_integer, default=10, help="of each, alternating")
    parser.add_argument("--clients", type=positive_integer, default=20, help="of each, concurrent")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs two stacks, one of them without metrics, and loads them in turn."""
    console.print("starting two embedded stacks …")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        async with run_stack(StackOptions(Path(one), 0, 0, 0)) as counting:
            with patch.object(programs, "ROOT", f"{WITHOUT}:{programs.ROOT}"):
                without = run_stack(StackOptions(Path(other), 0, 0, 0))
                async with without as bare:
                    return await _measure(counting, bare, options, console)


async def _measure(
    counting: Stack, bare: Stack, options: argparse.Namespace, console: Console
) -> Json:
    orders = max(options.commands // options.rounds // COMMANDS_PER_ORDER, 1)
    async with (
        orderly_system(counting, options.clients) as one,
        orderly_system(bare, options.clients) as other,
        httpx.AsyncClient(headers={"Accept": f"{OPEN_METRICS};version=1.0.0"}) as http,
    ):
        systems = {"metrics": (one, counting), "without": (other, bare)}
        cpu = {name: machine.cpu_reader(stack.pids) for name, (_, stack) in systems.items()}
        rounds: dict[str, list[Round]] = {name: [] for name in systems}
        for name, (system, _) in systems.items():
            await fill_orders(system, WARM_UP_ORDERS, cpu[name])
        for number in range(options.rounds):
            for name in sorted(systems, reverse=number % 2 == 0):
                await asyncio.sleep(PAUSE_S)
                system, stack = systems[name]
                scraped = stack if name == "metrics" else None
                async with in_background(_scrape(http, scraped)):
                    done = await fill_orders(system, orders, cpu[name])
                rounds[name].append(done)
                console.print(f"round {number + 1}: {name:<8} {done.per_second:6.1f} per second")
    return {
        **compare(rounds["metrics"], rounds["without"]),
        "metrics": summarize(rounds["metrics"]),
        "without": summarize(rounds["without"]),
        "machine": machine.description(),
    }


async def _scrape(http: httpx.AsyncClient, stack: Stack | None) -> None:
    """Reads the metrics of every process of a stack again and again, as Prometheus does."""
    while stack is not None:
        for url in stack.admin_urls.values():
            (await http.get(f"{url}/metrics", timeout=SCRAPE_S)).raise_for_status()
        await asyncio.sleep(SCRAPE_S)


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("", "with metrics", "without", "ratio")
    one, other = result["metrics"], result["without"]
    table.add_row(
        "commands per second", f"{one['per_second']:,}", f"{other['per_second']:,}",
        f"{result['ratio']:.3f}",
    )  # fmt: skip
    table.add_row("the same, by processor time", "", "", f"{result['ratio_by_cpu_time']:.3f}")
    for name in ORDERLY:
        cells = [each["cpu_ms_per_request"][name] for each in (one, other)]
        table.add_row(f"ms of {name} per command", *(f"{ms:.2f}" for ms in cells), "")
    console.print(table)
    console.print(f"{describe_machine(result['machine'])}.\n{METHOD}")
