"""Thousands of baskets that are built at the same time, compared with the Temporal SDK alone."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter

from rich.console import Console
from rich.table import Table

from dev.bench import machine
from dev.bench.load_generator import (
    COMMANDS_PER_ORDER,
    OrderClient,
    ReadCpu,
    Round,
    Stopwatch,
    run_round,
)
from dev.bench.orderly_api import OrderlySystem, orderly_system
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.temporal_baseline import STEPS, TemporalBaseline, temporal_baseline
from dev.stack import Stack, StackOptions, run_stack

SHARES = (0.5, 0.8)
CLIENTS = 20  # They measure the capacity; shoppers need no client to be idle.
CAPACITY_BASKETS_MAX = 200
UNLOADED_BASKETS_MAX = 20
COMMANDS = COMMANDS_PER_ORDER + 1  # The last one places the order.
PAUSE_S = 1.0  # Work that goes on after a load must not count in the next one.
METHOD = (
    "Open-loop: each shopper sends ten commands to a basket of its own at random moments of the"
    " whole time, and then places it. All commands together arrive at a share of orderly's"
    " capacity, which is the throughput of 20 clients that each send one command after the other"
    " to random baskets. Unloaded: one such client. The baseline gets the same commands at the same"
    " rate from the same load generator, through the SDK alone: each command has one no-op activity"
    " as its consequence, and a placed order has three steps, each an activity with a consequence."
    " Latencies begin when a command was due; late is the p99 of the delay with which the load"
    " generator sent it, in ms. The time ends when all baskets are paid and booked."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--baskets",
        type=positive_integer,
        nargs="+",
        default=[1_000, 5_000],
        help="that are built at the same time",
    )


class Shoppers:
    """Sends commands to many baskets, each basket's in order, and records their latencies."""

    def __init__(self, clients: Sequence[OrderClient]) -> None:
        self._clients = clients
        self.latencies_s: list[float] = []
        self.late_s: list[float] = []

    async def build(self, baskets: int, per_second: float) -> None:
        """Builds the baskets at the same time; their commands arrive at this rate on average."""
        dice, began = Random(1), perf_counter()
        seconds = baskets * COMMANDS / per_second
        moments = [
            sorted(began + seconds * dice.random() for _ in range(COMMANDS)) for _ in range(baskets)
        ]
        await asyncio.gather(
            *(
                self._build_one(self._clients[number % len(self._clients)], due)
                for number, due in enumerate(moments)
            )
        )

    async def _build_one(self, client: OrderClient, moments: Sequence[float]) -> None:
        """Sends a basket's commands when they are due, or when the one before is acknowledged."""
        order_id, acknowledged_at = "", 0.0
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(moment - perf_counter(), 0))
            due = max(moment, acknowledged_at)
            self.late_s.append(perf_counter() - due)
            order_id = await _send(client, number, order_id)
            acknowledged_at = perf_counter()
            self.latencies_s.append(acknowledged_at - due)


async def _send(client: OrderClient, number: int, order_id: str) -> str:
    """Sends command `number` of a basket, counted from 0; returns the order's id."""
    if number == 0:
        return await client.open()
    if number < COMMANDS_PER_ORDER:
        await client.add(order_id)
    else:
        await client.place_order(order_id)
    return order_id


async def _fill_at_random(client: OrderClient, baskets: int, timed: Stopwatch) -> None:
    """Fills and places baskets in a closed loop: each command goes to a random one of them."""
    dice, left = Random(2), [("", 0)] * baskets
    while left:
        at = dice.randrange(len(left))
        order_id, number = left[at]
        left[at] = await timed(_send(client, number, order_id)), number + 1
        if number + 1 == COMMANDS:
            del left[at]


class Contestants:
    """Both systems on one stack."""

    def __init__(self, stack: Stack, baseline: TemporalBaseline, orderly: OrderlySystem) -> None:
        self._pids = stack.pids
        self._baseline = baseline
        self._orderly = orderly
        self._placed = 0

    def clients(self, name: str) -> Sequence[OrderClient]:
        return self._baseline.clients if name == "baseline" else self._orderly.clients

    def cpu(self, name: str) -> ReadCpu:
        """Reads the processor time of the processes that take part; of Temporal in both."""
        pids = self._pids
        if name == "baseline":
            pids = {"temporal": pids["temporal"], "worker": self._baseline.pid}
        return machine.cpu_reader(pids)

    async def catch_up(self, name: str, baskets: int) -> None:
        """Returns when this many further baskets are paid and booked."""
        if name == "baseline":
            await self._baseline.catch_up(baskets * (COMMANDS + 2 * STEPS))
        else:
            self._placed += baskets
            await self._orderly.wait_until_confirmed(self._placed)


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and measures."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with (
            run_stack(StackOptions(Path(data_dir), 0, 0, 0)) as stack,
            temporal_baseline(stack, CLIENTS) as baseline,
            orderly_system(stack, CLIENTS) as orderly,
        ):
            both = Contestants(stack, baseline, orderly)
            loads = [await _measure(both, count, console) for count in options.baskets]
            temporal = await machine.temporal(stack.temporal_address)
    return {"loads": loads, "machine": machine.description() | temporal}


async def _measure(both: Contestants, baskets: int, console: Console) -> Json:
    """The results with this many baskets at the same time."""
    few = min(baskets, CAPACITY_BASKETS_MAX)
    for name in ("baseline", "orderly"):  # To warm up.
        await _fill(both, name, min(few, UNLOADED_BASKETS_MAX), CLIENTS)
    capacity = (await _fill(both, "orderly", few, CLIENTS)).per_second
    unloaded = await _fill(both, "orderly", min(few, UNLOADED_BASKETS_MAX), 1)
    console.print(f"{baskets:,} baskets: capacity {capacity:.1f} commands per second")
    levels: list[Json] = []
    for share in SHARES:
        systems = {
            name: await _load(both, name, baskets, share * capacity)
            for name in ("baseline", "orderly")
        }
        ratio = _cpu_ms(systems["baseline"]) / _cpu_ms(systems["orderly"])
        levels.append({"share": share, **systems, "ratio_by_cpu_time": round(ratio, 3)})
        console.print(f"{baskets:,} baskets, {share} × capacity: {ratio:.2f} by processor time")
    unloaded_ms = percentiles_ms(unloaded.latencies_s)
    return {
        "baskets": baskets,
        "capacity": round(capacity, 1),
        "unloaded": unloaded_ms,
        "levels": levels,
        "p99_to_unloaded": round(levels[0]["orderly"]["p99"] / unloaded_ms["p50"], 2),
    }


async def _fill(both: Contestants, name: str, baskets: int, clients: int) -> Round:
    """Fills baskets in a closed loop, each client its share of them."""
    await asyncio.sleep(PAUSE_S)
    workers = [partial(_fill_at_random, client) for client in both.clients(name)[:clients]]
    shares = [len(range(first, baskets, clients)) for first in range(clients)]
    return await run_round(workers, shares, partial(both.catch_up, name, baskets), both.cpu(name))


async def _load(both: Contestants, name: str, baskets: int, per_second: float) -> Json:
    """The latencies, and the processor time of each command, of shoppers at a rate."""
    await asyncio.sleep(PAUSE_S)
    cpu, shoppers = both.cpu(name), Shoppers(both.clients(name))
    before = cpu()
    await shoppers.build(baskets, per_second)
    await both.catch_up(name, baskets)
    after = cpu()
    return {
        "per_second": round(per_second, 1),
        **percentiles_ms(shoppers.latencies_s, (50, 99, 99.9)),
        "late_p99": percentiles_ms(shoppers.late_s)["p99"],
        "cpu_ms": {
            process: round(1000 * (after[process] - before[process]) / (baskets * COMMANDS), 2)
            for process in after
            if process not in (machine.REST, machine.IDLE)
        },
    }


def _cpu_ms(load: Json) -> float:
    return float(sum(load["cpu_ms"].values()))


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    for load in result["loads"]:
        console.print(_table(load))
        console.print(
            f"Capacity {load['capacity']} commands per second; unloaded p50"
            f" {load['unloaded']['p50']} ms, so p99 at {SHARES[0]} × is"
            f" [bold]{load['p99_to_unloaded']}[/bold] times that.\n"
        )
    machine_line = describe_machine(result["machine"])
    console.print(f"{machine_line}.\n{METHOD}")


def _table(load: Json) -> Table:
    columns = [(level, name) for level in load["levels"] for name in ("baseline", "orderly")]
    titles = [f"{name} × {level['share']}" for level, name in columns]
    table = numeric_table(f"{load['baskets']:,} baskets", *titles)
    for label, key in {
        "commands per second": "per_second",
        "acknowledged after, p50 ms": "p50",
        "acknowledged after, p99 ms": "p99",
        "acknowledged after, p99.9 ms": "p99.9",
        "late, p99 ms": "late_p99",
    }.items():
        table.add_row(label, *(f"{level[name][key]:,.1f}" for level, name in columns))
    table.add_section()
    table.add_row("[italic]processor time, ms per command")
    for process in load["levels"][0]["orderly"]["cpu_ms"]:
        cells = (level[name]["cpu_ms"].get(process) for level, name in columns)
        table.add_row(f"  {process}", *("–" if cell is None else f"{cell:.2f}" for cell in cells))
    table.add_row("  all", *(f"{_cpu_ms(level[name]):.2f}" for level, name in columns))
    ratios = [[f"{level['ratio_by_cpu_time']:.2f}", ""] for level in load["levels"]]
    table.add_row("baseline / orderly", *(cell for pair in ratios for cell in reversed(pair)))
    return table
