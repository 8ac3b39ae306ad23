"""Whole baskets that all arrive at once, and commands in front of fulfilment."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from random import Random
from time import perf_counter

import httpx
from rich.console import Console
from temporalio.client import Client

from dev.bench import machine
from dev.bench.load_generator import ITEM, Round, fill_order, run_round
from dev.bench.open_loop import RequestResult
from dev.bench.orderly_api import OrderlySystem, orderly_system
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.servers import run_python
from dev.demo.baskets import PACKAGED_BASKETS, Basket, read_baskets
from dev.history_waits import LongestWaits, longest_waits_of
from dev.simulator_client import SimulatorClient
from dev.stack import Stack, StackOptions, run_stack

CLIENTS = 20
SHARE = 0.5
CAPACITY_ORDERS = 80
DRAFTS = 50
WAIT_S_MAX = 4.0  # A task in Temporal's backlog may be overtaken for five seconds.
PAUSE_S = 1.0
STRANDED_S = 10.0  # Until the last order that was placed is stuck.
METHOD = (
    "A burst: 20 clients place whole baskets of the demo, each in one request, one after the other."
    " The waits are those between Scheduled and Started in the histories of all orders."
    " Fulfilment: orders whose stock service is down are placed; when it recovers, all of them are"
    " paid and booked. Meanwhile commands to open drafts arrive at random moments, from a separate"
    " process, at half of the throughput of 20 clients. Before that, the same load came alone. Both"
    " alternate; percentiles are those of all rounds together."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baskets", type=positive_integer, default=200, help="of a burst")
    parser.add_argument(
        "--rounds", type=positive_integer, default=3, help="of bursts, and of fulfilment"
    )
    parser.add_argument("--behind", type=positive_integer, default=500, help="orders in fulfilment")
    parser.add_argument("--seconds", type=positive_integer, default=20, help="of each load")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and measures."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with (
            run_stack(StackOptions(Path(data_dir), 0, 0, 0)) as stack,
            orderly_system(stack, CLIENTS) as orderly,
        ):
            shop = Shop(stack, orderly)
            await shop.place(CLIENTS)  # To warm up.
            bursts = []
            for number in range(options.rounds):
                burst = _summarize(await shop.place(options.baskets))
                bursts.append(burst)
                console.print(f"burst {number + 1}: slowest {burst['slowest_to_p50']} × the median")
            client = await Client.connect(
                stack.temporal_address, namespace=stack.temporal_namespace
            )
            waits = (await longest_waits_of(client, stack.task_queue))._asdict()
            fulfilment = await _measure_fulfilment(shop, options, console)
            temporal = await machine.temporal(stack.temporal_address)
    return {
        "bursts": bursts,
        "longest_wait_s": {kind: round(seconds, 3) for kind, seconds in waits.items()},
        "fulfilment": fulfilment,
        "failures": [
            f"a {kind.replace('_', ' ')} waited {seconds:.1f} s for a worker"
            for kind, seconds in waits.items()
            if seconds > WAIT_S_MAX
        ],
        "machine": machine.description() | temporal,
    }


class Shop:
    """Places baskets and sends commands to a running stack whose log is still empty."""

    def __init__(self, stack: Stack, orderly: OrderlySystem) -> None:
        self._stack = stack
        self._orderly = orderly
        self._cpu = machine.cpu_reader(stack.pids)
        self._baskets = cycle(read_baskets(PACKAGED_BASKETS))
        self._placed = 0

    async def place(self, count: int) -> Round:
        """Places this many baskets at once; the round is done when they are paid and booked."""
        await asyncio.sleep(PAUSE_S)
        return await self._place(islice(self._baskets, count), count, self.wait_until_booked)

    async def place_stranded(self, count: int) -> None:
        """Places baskets whose stock service is down until it recovers."""
        await self._place(map(_stranded, islice(self._baskets, count)), count, _nothing)

    async def _place(
        self, baskets: Iterable[Basket], count: int, caught_up: Callable[[], Awaitable[None]]
    ) -> Round:
        self._placed += count
        places = [client.place for client in self._orderly.clients]
        return await run_round(places, baskets, caught_up, self._cpu)

    async def longest_waits(self) -> LongestWaits:
        """How long the tasks of all orders so far waited for a worker."""
        stack = self._stack
        client = await Client.connect(stack.temporal_address, namespace=stack.temporal_namespace)
        return await longest_waits_of(client, stack.task_queue)

    async def wait_until_booked(self) -> None:
        """Returns when all placed baskets are paid and booked."""
        await self._orderly.wait_until_confirmed(self._placed)

    async def recover(self) -> None:
        """Ends the outage of the stock service for the orders that have met it."""
        async with httpx.AsyncClient(base_url=self._stack.simulators_url) as http:
            simulators = SimulatorClient(http)
            for order_id in await self._orderly.placed():
                await simulators.recover("stock", order_id)

    async def measure_capacity(self) -> float:
        """Commands per second of clients that each fill one order after the other."""
        fills = [partial(fill_order, client) for client in self._orderly.clients]
        filled = await run_round(fills, range(CAPACITY_ORDERS), _nothing, self._cpu)
        return filled.acknowledged_per_second

    async def send(self, per_second: float, seconds: int) -> list[RequestResult]:
        """Sends commands to drafts at random moments, at this rate on average."""
        drafts = [await self._orderly.clients[0].open() for _ in range(DRAFTS)]
        dice = Random(1)
        lines = [
            f"POST /v1/orders/{dice.choice(drafts)}/commands/add-item-to-order {json.dumps(ITEM)}"
            for _ in range(round(per_second * seconds))
        ]
        run = await run_python(
            *("-m", "dev.bench.open_loop", self._stack.api_url, str(per_second)),
            stdin="\n".join(lines),
        )
        return [RequestResult(*one) for one in json.loads(run.output)]


async def _nothing() -> None:
    """Nothing to wait for."""


def _stranded(basket: Basket) -> Basket:
    lines = [line.model_copy(update={"sku": f"DOWNSTOCK-{line.sku}"}) for line in basket.lines]
    return basket.model_copy(update={"lines": lines})


async def _measure_fulfilment(shop: Shop, options: argparse.Namespace, console: Console) -> Json:
    """The latencies of commands alone, and while orders behind them are paid and booked."""
    await asyncio.sleep(PAUSE_S)
    capacity = await shop.measure_capacity()
    console.print(f"capacity {capacity:.1f} commands per second")
    alone: list[RequestResult] = []
    behind: list[RequestResult] = []
    booked_s: list[float] = []
    for number in range(options.rounds):
        alone += await shop.send(SHARE * capacity, options.seconds)
        await shop.place_stranded(options.behind)
        await asyncio.sleep(STRANDED_S)
        began = perf_counter()
        await shop.recover()
        behind += await shop.send(SHARE * capacity, options.seconds)
        await shop.wait_until_booked()
        booked_s.append(round(perf_counter() - began, 1))
        console.print(f"fulfilment {number + 1}: all are booked after {booked_s[-1]} s")
        await asyncio.sleep(PAUSE_S)
    one, other = _latencies(alone), _latencies(behind)
    return {
        "orders": options.behind,
        "capacity": round(capacity, 1),
        "alone": one,
        "with_fulfilment": other,
        "booked_s": booked_s,
        "ratio_p99": round(other["p99"] / one["p99"], 2),
    }


def _latencies(results: Sequence[RequestResult]) -> Json:
    accepted = [one.latency_s for one in results if one.status == 200]
    late = percentiles_ms(one.late_s for one in results)
    return {
        "requests": len(results),
        "rejected": len(results) - len(accepted),
        **percentiles_ms(accepted),
        "late_p99": late["p99"],
    }


def _summarize(burst: Round) -> Json:
    p50, slowest = percentiles_ms(burst.latencies_s, (50,))["p50"], 1000 * max(burst.latencies_s)
    return {
        "baskets": burst.requests,
        "p50": p50,
        "slowest": round(slowest, 3),
        "slowest_to_p50": round(slowest / p50, 2),
        "acknowledged_per_second": round(burst.acknowledged_per_second, 1),
        "done_per_second": round(burst.per_second, 1),
    }


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("", *(f"burst {number + 1}" for number in range(len(result["bursts"]))))
    for label, key in {
        "baskets": "baskets",
        "acknowledged after, p50 ms": "p50",
        "acknowledged after, slowest ms": "slowest",
        "slowest / p50": "slowest_to_p50",
        "acknowledged per second": "acknowledged_per_second",
        "paid and booked per second": "done_per_second",
    }.items():
        table.add_row(label, *(f"{burst[key]:,}" for burst in result["bursts"]))
    console.print(table)
    waits, fulfilment = result["longest_wait_s"], result["fulfilment"]
    console.print(
        f"Longest wait for a worker: {waits['workflow_task']} s of a workflow task,"
        f" {waits['activity']} s of an activity."
    )
    table = numeric_table("commands", "alone", f"{fulfilment['orders']} orders in fulfilment")
    loads = [fulfilment["alone"], fulfilment["with_fulfilment"]]
    for label, key in {
        "requests": "requests",
        "rejected": "rejected",
        "acknowledged after, p50 ms": "p50",
        "acknowledged after, p99 ms": "p99",
        "late, p99 ms": "late_p99",
    }.items():
        table.add_row(label, *(f"{load[key]:,}" for load in loads))
    console.print(table)
    console.print(
        f"All were booked after {', '.join(map(str, fulfilment['booked_s']))} s."
        f" {describe_machine(result['machine'])}; capacity {fulfilment['capacity']} commands per"
        f" second.\n{METHOD}\n\np99 with fulfilment, of that alone:"
        f" [bold]{fulfilment['ratio_p99']}[/bold]"
    )
