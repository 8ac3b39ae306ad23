"""What one command costs each component, and what rates of whole orders need: docs/scale.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TypeVar

import httpx
from rich.console import Console

from dev.bench import machine
from dev.bench.costs_page import PAGE, amount, label, replace_figures
from dev.bench.load_generator import COMMANDS_PER_ORDER, Stopwatch
from dev.bench.orderly_api import OrderlyClient, OrderlySystem, orderly_system
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.bench.usage import STATISTICS_S, Meter, Usage, add, at_rate
from dev.demo.baskets import PACKAGED_BASKETS, Basket, read_baskets
from dev.simulator_client import SimulatorClient
from dev.stack import Stack, StackOptions, run_stack

T = TypeVar("T")

POLL_S = 1.0  # Seldom, so that it takes nothing of Postgres.
RATES = (10, 200, 1_000, 10_000)  # 200 is one cell of docs/scale.md.
OPENED, ADDED, BASKET, DELIVERED = "opened", "item added", "basket booked", "delivered"
# A whole order: a draft that is filled by single commands, placed, booked and delivered.
WHOLE_ORDER = {ADDED: COMMANDS_PER_ORDER - 1, BASKET: 1, DELIVERED: 1}
METHOD = (
    "Per order, but “item added” per command. Item added: nine to each open order, in random order."
    " Basket booked: one of the demo's baskets, opened with its lines and placed in one request,"
    " until its stock is reserved, its payment authorised and its shipments are booked. Delivered:"
    " the carrier's callbacks for all shipments, and the captures. What the idle stack uses in the"
    " same time is subtracted. WAL includes full pages after checkpoints. A whole order is nine"
    " items added, one basket booked, one delivered. Rates are calculated from it, not measured."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=positive_integer, default=300, help="of each kind")
    parser.add_argument("--clients", type=positive_integer, default=20, help="concurrent")
    parser.add_argument("--write", action="store_true", help="the tables into docs/scale.md")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and measures one kind of work after the other."""
    async with AsyncExitStack() as held:
        data_dir = held.enter_context(tempfile.TemporaryDirectory(prefix="orderly-bench-"))
        console.print("starting the embedded stack …")
        load = os.getloadavg()[0]
        stack_options = StackOptions(Path(data_dir), 0, 0, 0, is_durable=True)
        stack = await held.enter_async_context(run_stack(stack_options))
        orderly = await held.enter_async_context(orderly_system(stack, options.clients))
        orderly.poll_s = POLL_S
        meter = await Meter.connect(stack, machine.cpu_reader(stack.pids), held)
        work = _Work(stack, orderly, options.orders)
        console.print("idle …")
        idle = await _idle_per_second(meter)
        costs: dict[str, Usage] = {}
        for kind, (run, count) in work.kinds().items():
            console.print(f"{kind} …")
            costs[kind] = await _measure_one(meter, run, count, idle)
        temporal = await machine.temporal(stack.temporal_address)
    order = add((times, costs[kind]) for kind, times in WHOLE_ORDER.items())
    result: Json = {
        "load_average": round(load, 1),
        "idle_per_second": idle,
        "costs": costs,
        "whole_order": order,
        "rates": {rate: at_rate(order, rate) for rate in RATES},
        "orders": options.orders,
        "machine": machine.description() | temporal,
    }
    if options.write:
        PAGE.write_text(replace_figures(PAGE.read_text(), result))
    return result


async def _idle_per_second(meter: Meter) -> Usage:
    before, began = await meter.machine(), perf_counter()
    await asyncio.sleep(STATISTICS_S)
    after, seconds = await meter.machine(), perf_counter() - began
    return add([(1 / seconds, after), (-1 / seconds, before)])


async def _measure_one(
    meter: Meter, run: Callable[[], Awaitable[None]], count: int, idle: Usage
) -> Usage:
    """What each of `count` used that `run` does."""
    stored_before = await meter.temporal()
    before, began = await meter.machine(), perf_counter()
    await run()
    await asyncio.sleep(STATISTICS_S)
    after, seconds = await meter.machine(), perf_counter() - began
    stored = add([(1 / count, await meter.temporal()), (-1 / count, stored_before)])
    used = add([(1 / count, after), (-1 / count, before), (-seconds / count, idle)])
    return {**used, **stored}


class _Work:
    """The kinds of work; each continues with the orders of the one before it."""

    def __init__(self, stack: Stack, orderly: OrderlySystem, orders: int) -> None:
        self._stack = stack
        self._orderly = orderly
        self._baskets = read_baskets(PACKAGED_BASKETS, orders)
        self._opened: list[str] = []

    def kinds(self) -> dict[str, tuple[Callable[[], Awaitable[None]], int]]:
        """What to do for each kind, and how many of it that is."""
        orders = len(self._baskets)
        return {
            OPENED: (self._open, orders),
            ADDED: (self._add, orders * (COMMANDS_PER_ORDER - 1)),
            BASKET: (self._place, orders),
            DELIVERED: (self._deliver, orders),
        }

    async def _open(self) -> None:
        async def open_one(client: OrderlyClient, _: object) -> None:
            self._opened.append(await client.open())

        await self._share(open_one, self._baskets)
        await self._orderly.catch_up(len(self._opened))

    async def _add(self) -> None:
        order_ids = self._opened * (COMMANDS_PER_ORDER - 1)
        Random(0).shuffle(order_ids)
        await self._share(OrderlyClient.add, order_ids)
        await self._orderly.catch_up(len(order_ids))

    async def _place(self) -> None:
        async def place(client: OrderlyClient, basket: Basket) -> None:
            await client.place(basket, Stopwatch())

        await self._share(place, self._baskets)
        await self._orderly.wait_until_confirmed(len(self._baskets))

    async def _deliver(self) -> None:
        shipments = await self._orderly.shipments()
        async with httpx.AsyncClient(base_url=self._stack.simulators_url, trust_env=False) as http:
            carrier = SimulatorClient(http)
            for action, status in (("leave", "shipped"), ("deliver", "delivered")):

                async def move(
                    _: OrderlyClient, key: tuple[str, str], action: str = action
                ) -> None:
                    await carrier.move_shipment(*key, action)

                await self._share(move, shipments)
                await self._orderly.wait_until_fulfilled(status, len(self._baskets))

    async def _share(
        self, work: Callable[[OrderlyClient, T], Awaitable[None]], jobs: Iterable[T]
    ) -> None:
        """Shares the jobs among the clients."""
        queue = iter(jobs)

        async def work_through(client: OrderlyClient) -> None:
            for job in queue:
                await work(client, job)

        await asyncio.gather(*map(work_through, self._orderly.clients))


def show(console: Console, result: Json) -> None:
    """Prints both tables."""
    costs = numeric_table("", *result["costs"], "whole order", "idle, per second")
    columns = [*result["costs"].values(), result["whole_order"], result["idle_per_second"]]
    for name in result["whole_order"]:
        costs.add_row(label(name), *(amount(column.get(name)) for column in columns))
    console.print(costs)
    rates = result["rates"]
    needs = numeric_table("orders per second", *(f"{int(rate):,}" for rate in rates))
    for name in next(iter(rates.values())):
        needs.add_row(name, *(amount(needed[name]) for needed in rates.values()))
    console.print(needs)
    versions = result["machine"]
    console.print(
        f"{describe_machine(versions)}, Temporal Server {versions['temporal_server']} with SQLite;"
        f" {result['orders']} orders.\n{METHOD}\n"
    )
