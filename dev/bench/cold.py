"""Commands to orders that no worker has in its cache, and to orders that continue as new."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import TypeVar

from rich.console import Console
from temporalio.client import Client

from dev.bench import machine
from dev.bench.load_generator import ITEM, ReadCpu, Round, Stopwatch, run_round
from dev.bench.orderly_api import OrderlyClient, OrderlySystem, orderly_system
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.temporal_baseline import BaselineClient, temporal_baseline
from dev.demo.baskets import PACKAGED_BASKETS, Basket, read_baskets
from dev.stack import Stack, StackOptions, run_stack
from workflows.messages import WORKFLOW_TYPE

T = TypeVar("T")

POLL_S = 0.01
CLIENTS = 20
ORDERS = {10: 10, 100: 6, 1_000: 3, 3_000: 2}
"""How many orders are measured, by the commands that they have had."""
CACHED_ORDERS = 100
OTHER_ORDERS = CACHED_ORDERS + CLIENTS  # The worker keeps none that had a command before them.
WARM = "warm"
WARM_COMMANDS = 100
SHORT_ORDER, LONG_ORDER = 20, 200  # Commands: the first need not continue as new.
NOTES = 10
PROCESSES = ("worker", "temporal")
SDK_COMMANDS = 4  # They make a history about as long as that of a usual order.
METHOD = (
    f"Cold: one client sends a command to each order, once {OTHER_ORDERS} other orders have had"
    f" one, of which the worker keeps {CACHED_ORDERS}. Warm: in a row to one order. A usual"
    f" order is a basket of the demo, placed, paid and booked; {CLIENTS} clients add notes, one to"
    f" each order (cold) or {NOTES} in a row (warm). Under load, {CLIENTS} clients send commands in"
    f" a row to orders that have {SHORT_ORDER} commands, and to others that have {LONG_ORDER} and"
    " therefore continue as new. The SDK alone: the same for workflows with about as many events,"
    " each command of which is an update with one no-op activity."
)


@dataclass
class Draft:
    """An order with one line, whose quantity each command changes."""

    order_id: str
    quantity: int = 1

    async def change(self, client: OrderlyClient) -> None:
        """Sends a command that causes one event."""
        self.quantity = 3 - self.quantity
        await client.execute(
            self.order_id, "change-item-quantity", line_id="line", quantity=self.quantity
        )


async def opened(client: OrderlyClient) -> Draft:
    """A new order; two events."""
    line = {**ITEM, "line_id": "line", "quantity": 1}
    return Draft(await client.open(lines=[line]))


@dataclass(frozen=True)
class Bench:
    """A running stack, and what it is measured with."""

    system: OrderlySystem
    temporal: Client
    cpu: ReadCpu

    async def run(
        self,
        work: Callable[[OrderlyClient, T, Stopwatch], Awaitable[None]],
        jobs: Iterable[T],
        events: int,
        clients: int = CLIENTS,
    ) -> Round:
        """Shares the jobs among clients, and waits for their events in the read model."""
        workers = [partial(work, client) for client in self.system.clients[:clients]]
        return await run_round(workers, jobs, partial(self.system.catch_up, events), self.cpu)

    async def open_orders(self, count: int) -> list[Draft]:
        """Opens orders, of which the worker then keeps the last ones."""
        drafts: list[Draft] = []

        async def open_(client: OrderlyClient, _: int, timed: Stopwatch) -> None:
            drafts.append(await timed(opened(client)))

        await self.run(open_, range(count), 2 * count)
        return drafts

    async def send_in_a_row(
        self, jobs: Sequence[tuple[Draft, int]], clients: int = CLIENTS
    ) -> Round:
        """Sends each order a number of commands, one after the other."""

        async def send(client: OrderlyClient, job: tuple[Draft, int], timed: Stopwatch) -> None:
            draft, count = job
            for _ in range(count):
                await timed(draft.change(client))

        return await self.run(send, jobs, sum(count for _, count in jobs), clients)

    async def runs_continued(self) -> int:
        """How many runs of orders have continued as new."""
        query = f"WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus = 'ContinuedAsNew'"
        return (await self.temporal.count_workflows(query)).count

    async def history_events(self, order_id: str) -> int:
        """The number of events in the history of an order's last run."""
        described = await self.temporal.get_workflow_handle(order_id).describe()
        return int(described.history_length)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=positive_integer, default=10, help="of cold commands")
    parser.add_argument(
        "--most", type=positive_integer, default=3_000, help="commands of the longest orders"
    )
    parser.add_argument("--baskets", type=positive_integer, default=300, help="usual orders")
    parser.add_argument(
        "--load", type=positive_integer, default=4_000, help="commands under load, of each kind"
    )


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and measures."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        os.environ["ORDERLY_CACHED_ORDERS"] = str(CACHED_ORDERS)  # Of its worker.
        async with (
            run_stack(StackOptions(Path(data_dir), 0, 0, 0)) as stack,
            orderly_system(stack, CLIENTS) as system,
        ):
            return await _measure(stack, system, options, console)


async def _measure(
    stack: Stack, system: OrderlySystem, options: argparse.Namespace, console: Console
) -> Json:
    temporal = await Client.connect(stack.temporal_address, namespace=stack.temporal_namespace)
    bench = Bench(system, temporal, machine.cpu_reader(stack.pids))
    console.print("filling orders …")
    counts = [count for count in ORDERS if count <= options.most]
    by_commands = await _by_commands(bench, counts, options.rounds)
    console.print("under load …")
    load = await _under_load(bench, options.load)
    acknowledged, published = system.events, await system.published()
    console.print("usual orders …")
    usual = await _usual_orders(bench, read_baskets(PACKAGED_BASKETS, options.baskets))
    console.print("the SDK alone …")
    sdk = await _sdk_alone(stack, temporal, options.baskets)
    p50 = {name: latency["p50"] for name, latency in by_commands.items()}
    return {
        "latency_ms": by_commands,
        "ratio_of_longest_to_shortest": round(p50[str(counts[-1])] / p50[str(counts[0])], 2),
        "ratio_of_slowest_to_warm": round(max(p50.values()) / p50[WARM], 2),
        "usual_orders": usual,
        "sdk_alone": sdk,
        "under_load": load,
        "counts": {"acknowledged": acknowledged, "published": published},
        "machine": machine.description() | await machine.temporal(stack.temporal_address),
        "failures": []
        if acknowledged == published
        else [f"{acknowledged} events were acknowledged, and the log has {published}"],
    }


async def _by_commands(bench: Bench, counts: Sequence[int], rounds: int) -> Json:
    """Latencies of cold commands by how many the order has had, and of warm ones."""
    drafts = await bench.open_orders(sum(ORDERS[count] for count in counts))
    unassigned = iter(drafts)
    orders = {count: [next(unassigned) for _ in range(ORDERS[count])] for count in counts}
    fill = [(draft, count - 1) for count in counts for draft in orders[count]]
    await bench.send_in_a_row(sorted(fill, key=lambda job: -job[1]))
    latencies: dict[int, list[float]] = {count: [] for count in counts}
    dice = Random(14)
    for _ in range(rounds):
        await bench.open_orders(OTHER_ORDERS)
        measured = [(count, draft) for count in counts for draft in orders[count]]
        for count, draft in dice.sample(measured, len(measured)):
            latencies[count] += (await bench.send_in_a_row([(draft, 1)], 1)).latencies_s
    await bench.send_in_a_row([(draft, 1)], 1)
    warm = await bench.send_in_a_row([(draft, WARM_COMMANDS)], 1)
    cold = {str(count): percentiles_ms(latencies[count]) for count in counts}
    return {**cold, WARM: percentiles_ms(warm.latencies_s)}


async def _under_load(bench: Bench, commands: int) -> Json:
    """Latencies of commands in a row to orders that continue as new, and to others."""
    result: Json = {}
    for name, each in {"short orders": SHORT_ORDER, "long orders": LONG_ORDER}.items():
        drafts = await bench.open_orders(max(commands // each, 1))
        before = await bench.runs_continued()
        sent = await bench.send_in_a_row([(draft, each) for draft in drafts])
        result[name] = {
            "commands": sent.requests,
            "per_second": round(sent.acknowledged_per_second, 1),
            "runs_continued": await bench.runs_continued() - before,
            **percentiles_ms(sent.latencies_s),
            "slowest": round(1000 * max(sent.latencies_s), 1),
        }
    return result


async def _usual_orders(bench: Bench, baskets: Sequence[Basket]) -> Json:
    """Processor time and latency of a command to an order of the demo, cold and warm."""
    order_ids: list[str] = []

    async def place(client: OrderlyClient, basket: Basket, timed: Stopwatch) -> None:
        lines = [line.model_dump() for line in basket.lines if line.is_valid]
        order = {"customer_id": basket.customer_id, "currency": basket.currency}
        order_ids.append(await timed(client.open(**order, lines=lines, place=True)))

    async def note(client: OrderlyClient, order_id: str, timed: Stopwatch) -> None:
        await timed(client.execute(order_id, "add-note", text="Ring twice."))

    async def published() -> None:
        while await bench.system.projected() < await bench.system.published():
            await asyncio.sleep(POLL_S)

    clients = bench.system.clients
    confirmed = partial(bench.system.wait_until_confirmed, len(baskets))
    await run_round([partial(place, client) for client in clients], baskets, confirmed, bench.cpu)
    events = median([await bench.history_events(order_id) for order_id in order_ids])
    noting = [partial(note, client) for client in clients]
    await bench.open_orders(OTHER_ORDERS)
    await published()
    cold = await run_round(noting, order_ids, published, bench.cpu)
    some = order_ids[-CLIENTS:]
    await run_round(noting, some, published, bench.cpu)
    warm = await run_round(noting, some * NOTES, published, bench.cpu)
    return {"history_events": events, **_compare(cold, warm)}


async def _sdk_alone(stack: Stack, temporal: Client, count: int) -> Json:
    """The same as of usual orders, of a workflow that does nothing, and the SDK's own worker."""
    workflow_ids: list[str] = []

    async def fill(client: BaselineClient, _: int, timed: Stopwatch) -> None:
        workflow_id = await timed(client.open())
        for _ in range(SDK_COMMANDS - 1):
            await timed(client.add(workflow_id))
        workflow_ids.append(workflow_id)

    async def open_(client: BaselineClient, _: int, timed: Stopwatch) -> None:
        await timed(client.open())

    async def add(client: BaselineClient, workflow_id: str, timed: Stopwatch) -> None:
        await timed(client.add(workflow_id))

    async with temporal_baseline(stack, CLIENTS, CACHED_ORDERS) as sdk:
        cpu = machine.cpu_reader({"worker": sdk.pid, "temporal": stack.pids["temporal"]})

        async def run(
            work: Callable[[BaselineClient, T, Stopwatch], Awaitable[None]],
            jobs: Sequence[T],
            commands: int,
        ) -> Round:
            workers = [partial(work, client) for client in sdk.clients]
            return await run_round(workers, jobs, partial(sdk.catch_up, commands), cpu)

        await run(fill, range(count), count * SDK_COMMANDS)
        some = workflow_ids[-CLIENTS:]
        described = [await temporal.get_workflow_handle(each).describe() for each in some]
        await run(open_, range(OTHER_ORDERS), OTHER_ORDERS)
        cold = await run(add, workflow_ids, count)
        await run(add, some, len(some))
        warm = await run(add, some * NOTES, len(some) * NOTES)
    events = median(each.history_length for each in described)
    return {"history_events": events, **_compare(cold, warm)}


def _compare(cold: Round, warm: Round) -> Json:
    """Latencies, processor time, and its ratio of cold commands to warm ones."""
    sent = {"cold": cold, "warm": warm}
    cpu = {name: _cpu_ms(one) for name, one in sent.items()}
    sums = {name: sum(ms.values()) for name, ms in cpu.items()}
    return {
        "latency_ms": {name: percentiles_ms(one.latencies_s) for name, one in sent.items()},
        "cpu_ms_per_command": cpu,
        "ratio_by_cpu_time": round(sums["cold"] / sums["warm"], 2),
    }


def _cpu_ms(sent: Round) -> dict[str, float]:
    return {name: round(1000 * sent.cpu_s[name] / sent.requests, 2) for name in PROCESSES}


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("one command to an order that has had", "p50 ms", "p99 ms")
    for commands, latency in result["latency_ms"].items():
        label = "any (warm)" if commands == WARM else f"{int(commands):,} commands (cold)"
        table.add_row(label, f"{latency['p50']:.1f}", f"{latency['p99']:.1f}")
    usual, sdk = result["usual_orders"], result["sdk_alone"]
    table.add_section()
    for name, latency in usual["latency_ms"].items():
        label = f"a usual life, {CLIENTS} clients ({name})"
        table.add_row(label, f"{latency['p50']:.1f}", f"{latency['p99']:.1f}")
    table.add_section()
    for name, load in result["under_load"].items():
        label = f"{name} under load, {load['runs_continued']} runs continued"
        table.add_row(label, f"{load['p50']:.1f}", f"{load['p99']:.1f}")
    console.print(table)
    machine_ = result["machine"]
    console.print(
        f"{describe_machine(machine_)}, temporalio {machine_['temporalio']}, Temporal Server"
        f" {machine_['temporal_server']}.\n{METHOD}\n\nRatios of p50: longest to shortest"
        f" [bold]{result['ratio_of_longest_to_shortest']}[/bold], slowest to warm"
        f" [bold]{result['ratio_of_slowest_to_warm']}[/bold]. Usual order"
        f" ({usual['history_events']:.0f} events in its history): processor time of a cold"
        f" command to a warm one [bold]{usual['ratio_by_cpu_time']}[/bold] ({_by_process(usual)})."
        f" The SDK alone ({sdk['history_events']:.0f} events):"
        f" [bold]{sdk['ratio_by_cpu_time']}[/bold] ({_by_process(sdk)})."
    )


def _by_process(usual: Json) -> str:
    parts = (
        f"{name} {' + '.join(f'{ms[process]} ms ({process})' for process in PROCESSES)}"
        for name, ms in usual["cpu_ms_per_command"].items()
    )
    return ", ".join(parts)
