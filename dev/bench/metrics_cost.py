"""What metrics cost: processor time and commands per second with them, and without any."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import httpx
from rich.console import Console

from admin.metrics import OPEN_METRICS
from background import in_background
from dev.bench import machine
from dev.bench.load_generator import Round, alternate, orders_of_a_round
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

WITHOUT = Path(__file__).with_name("without_metrics")
"""Its sitecustomize module makes orderly count nothing."""
WARM_UP_ORDERS = 40
SCRAPE_S = 15.0
ORDERLY = ("api", "worker", "projector", "deliverer")
METHOD = (
    "Two stacks on one machine, loaded in turn; in each round of the first, every process is"
    f" scraped at once and then every {SCRAPE_S:g} seconds. The other counts nothing, and neither"
    " does Temporal's SDK. Ratios are medians of the rounds. Metrics are counted and rendered in"
    " orderly's processes alone: what these use differs least from round to round."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commands", type=positive_integer, default=20_000, help="of each, in all")
    parser.add_argument("--rounds", type=positive_integer, default=10, help="of each, alternating")
    parser.add_argument("--clients", type=positive_integer, default=20, help="of each, concurrent")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs two stacks, one of them without metrics, and loads them in turn."""
    async with (
        two_stacks(WITHOUT, options.clients, console) as (counting, bare),
        httpx.AsyncClient(headers={"Accept": f"{OPEN_METRICS};version=1.0.0"}) as http,
    ):
        for each in (counting, bare):
            await each.fill(WARM_UP_ORDERS)
        orders = orders_of_a_round(options.commands, options.rounds)

        async def fill_scraped() -> Round:
            async with in_background(_scrape(http, counting.stack)):
                return await counting.fill(orders)

        async def fill_bare() -> Round:
            return await bare.fill(orders)

        fills = {"metrics": fill_scraped, "without": fill_bare}
        rounds = await alternate(fills, options.rounds, console)
    counted, uncounted = summarize(rounds["metrics"]), summarize(rounds["without"])
    return {
        **compare(rounds["metrics"], rounds["without"]),
        "metrics": counted,
        "without": uncounted,
        "cost": _cost(counted, uncounted),
        "machine": machine.description(),
    }


def _cost(counted: Json, uncounted: Json) -> float:
    """What metrics add to orderly's processes, as a share of what the stack takes for a command."""
    ms, without = counted["cpu_ms_per_request"], uncounted["cpu_ms_per_request"]
    added = sum(ms[name] - without[name] for name in ORDERLY)
    others = (machine.REST, machine.IDLE)
    busy = sum(value for name, value in without.items() if name not in others)
    return float(round(added / busy, 4))


async def _scrape(http: httpx.AsyncClient, stack: Stack) -> None:
    """Reads the metrics of every process of a stack again and again, as Prometheus does."""
    while True:
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
    table.add_section()
    for name in ORDERLY:
        cells = [each["cpu_ms_per_request"][name] for each in (one, other)]
        table.add_row(f"ms of {name} per command", *(f"{ms:.2f}" for ms in cells), "")
    console.print(table)
    console.print(
        f"What metrics add to these processes is {100 * result['cost']:.1f} % of the processor time"
        " that a command takes of the whole stack."
    )
    console.print(f"{describe_machine(result['machine'])}.\n{METHOD}")
