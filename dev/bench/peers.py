"""Commands per second beside DBOS, which does the same job over FastAPI on the same Postgres.

Temporal's SDK alone runs beside both: orderly is built on it, and cannot be faster.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple, TypeVar

from rich.console import Console

from dev.bench import machine
from dev.bench.dbos_system import DbosServers, DbosSystem, dbos_servers
from dev.bench.load_generator import (
    COMMANDS_PER_ORDER,
    OrderClient,
    ReadCpu,
    Round,
    Stopwatch,
    fill_order,
    run_round,
)
from dev.bench.orderly_api import OrderlySystem, orderly_system
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer, summarize
from dev.bench.temporal_baseline import TemporalBaseline, temporal_baseline
from dev.stack import StackOptions, run_stack

T = TypeVar("T")

ORDERLY = "orderly"
SDK = "Temporal's SDK alone"
SDK_WORKER = "SDK's worker"
PROCESSES = ("api", "worker", "projector", "temporal", "postgres")
PAUSE_S = 0.5  # Work that goes on after a round must not count in the next one.
ONE_CLIENT_SHARE = 4  # A client alone sends a quarter as many commands: it takes as long.
METHOD = (
    "One Postgres server, and the same HTTP client for all; a power cut loses nothing acknowledged"
    " (fsync and synchronous_commit on, Temporal's SQLite with synchronous=FULL), and a key that is"
    " sent again gets the first response. Warm: ten commands in a row to each order. Shoppers: many"
    " orders are open, and each command goes to one at random. DBOS: a durable workflow for each"
    " command, named by its key; one step decides and writes event and row in one transaction, one"
    " publishes nothing; all is done when it responds. Orderly's time ends when the read model has"
    " the last event. The SDK alone executes an update and a no-op activity for each command, on"
    " the same Temporal, for clients in the load generator: nothing that does as much there can be"
    " faster. Ratios are orderly's, above 1 if it is better. Processor time is that of the system's"
    " processes and of Postgres, without the load generator."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--commands", type=positive_integer, default=1_000, help="of each system, in each round"
    )
    parser.add_argument(
        "--rounds", type=positive_integer, default=3, help="of each system, alternating"
    )
    parser.add_argument("--clients", type=positive_integer, default=20, help="concurrent")
    parser.add_argument("--orders", type=positive_integer, default=1_000, help="open for shoppers")
    parser.add_argument(
        "--processes", type=positive_integer, default=os.cpu_count() or 1, help="of DBOS, at most"
    )


class Pattern(NamedTuple):
    """How the commands of a round are sent."""

    is_shoppers: bool
    clients: int

    def __str__(self) -> str:
        clients = f"{self.clients} clients" if self.clients > 1 else "one client"
        return f"{'shoppers' if self.is_shoppers else 'warm'}, {clients}"


Peer = OrderlySystem | DbosSystem | TemporalBaseline
Rounds = Mapping[str, list[Round]]
"""By the name of a system."""


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack with DBOS beside it, and measures."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack, and DBOS …")
        async with (
            run_stack(StackOptions(Path(data_dir), 0, 0, 0, is_durable=True)) as stack,
            orderly_system(stack, options.clients) as orderly,
            dbos_servers(stack, options.processes) as servers,
            temporal_baseline(stack, options.clients) as sdk,
        ):
            dbos = {
                _dbos(number): servers.system(number, options.clients)
                for number in sorted({1, options.processes})
            }
            systems: dict[str, Peer] = {ORDERLY: orderly, **dbos, SDK: sdk}
            cpu = machine.cpu_reader({**stack.pids, **servers.pids, SDK_WORKER: sdk.pid})
            rounds = await _alternate(systems, cpu, options, console)
            counts = {
                ORDERLY: await _counts([orderly], orderly),
                "DBOS": await _counts(dbos.values(), servers),
            }
            temporal = await machine.temporal(stack.temporal_address)
    return {
        "patterns": {str(one): _compare(of, servers.pids) for one, of in rounds.items()},
        "counts": counts,
        "failures": [
            f"{name} has other events than it acknowledged: {count}"
            for name, count in counts.items()
            if len(set(count.values())) > 1
        ],
        "orders": options.orders,
        "machine": machine.description() | temporal | {"dbos": version("dbos")},
    }


def _dbos(processes: int) -> str:
    return f"DBOS, {processes} processes" if processes > 1 else "DBOS, one process"


async def _counts(systems: Iterable[Peer], events: OrderlySystem | DbosServers) -> dict[str, int]:
    """The acknowledged commands, and their events in the log and in the orders."""
    return {
        "acknowledged": sum(system.events for system in systems),
        "published": await events.published(),
        "projected": await events.projected(),
    }


async def _alternate(
    systems: Mapping[str, Peer], cpu: ReadCpu, options: argparse.Namespace, console: Console
) -> dict[Pattern, Rounds]:
    """Warms up, and runs the rounds of each pattern."""
    console.print(f"opening {options.orders} orders in each …")
    opened = {name: await _open(one, options.orders, cpu) for name, one in systems.items()}
    for system in systems.values():
        await _fill(system, options.clients, options.clients, cpu)
    results: dict[Pattern, Rounds] = {}
    for is_shoppers in (False, True):
        for clients in sorted({1, options.clients}):
            pattern = Pattern(is_shoppers, clients)
            commands = max(options.commands // (1 if clients > 1 else ONE_CLIENT_SHARE), 1)
            # One client uses one process.
            names = [name for name in systems if clients > 1 or name in (ORDERLY, _dbos(1), SDK)]
            rounds: Rounds = {name: [] for name in names}
            for number in range(options.rounds):
                for name in names[:: 1 if number % 2 else -1]:  # They alternate in going first.
                    # The same for all, and another choice for each round.
                    chosen = Random(f"{pattern} {number}").choices(opened[name], k=commands)
                    one = (
                        await _add_to(systems[name], clients, chosen, cpu)
                        if is_shoppers
                        else await _fill(systems[name], clients, commands, cpu)
                    )
                    rounds[name].append(one)
                    console.print(
                        f"{pattern}, {number + 1}: {name} {one.per_second:.1f} per second"
                    )
            results[pattern] = rounds
    return results


async def _fill(system: Peer, clients: int, commands: int, cpu: ReadCpu) -> Round:
    """Ten commands in a row to each of some new orders."""
    await asyncio.sleep(PAUSE_S)
    orders = max(commands // COMMANDS_PER_ORDER, 1)
    workers = [partial(fill_order, client) for client in system.clients[:clients]]
    caught_up = partial(system.catch_up, orders * COMMANDS_PER_ORDER)
    return await run_round(workers, range(orders), caught_up, cpu)


async def _open(system: Peer, orders: int, cpu: ReadCpu) -> list[str]:
    """Opens orders; returns their ids."""
    opened: list[str] = []

    async def open_one(client: OrderClient, _: int, timed: Stopwatch) -> None:
        opened.append(await timed(client.open()))

    await _run(system, len(system.clients), open_one, range(orders), cpu)
    return opened


async def _add_to(system: Peer, clients: int, order_ids: Sequence[str], cpu: ReadCpu) -> Round:
    """Adds an item to each of these orders, one of which may occur more than once."""

    async def add(client: OrderClient, order_id: str, timed: Stopwatch) -> None:
        await timed(client.add(order_id))

    return await _run(system, clients, add, order_ids, cpu)


async def _run(
    system: Peer,
    clients: int,
    work: Callable[[OrderClient, T, Stopwatch], Awaitable[None]],
    jobs: Sequence[T],
    cpu: ReadCpu,
) -> Round:
    await asyncio.sleep(PAUSE_S)
    workers = [partial(work, client) for client in system.clients[:clients]]
    return await run_round(workers, jobs, partial(system.catch_up, len(jobs)), cpu)


def _compare(rounds: Rounds, dbos: Iterable[str]) -> dict[str, Json]:
    """Each system under one pattern, and orderly's ratios to it: medians of the rounds."""
    result: dict[str, Json] = {}
    processes = {ORDERLY: PROCESSES, SDK: (SDK_WORKER, "temporal")}
    ours = [(one.per_second, _cpu_ms(one, PROCESSES)) for one in rounds[ORDERLY]]
    for name, of in rounds.items():
        used = processes.get(name, (*dbos, "postgres"))
        theirs = [(one.per_second, _cpu_ms(one, used)) for one in of]
        ratios = [our / their for (our, _), (their, _) in zip(ours, theirs, strict=True)]
        by_cpu = [their / our for (_, our), (_, their) in zip(ours, theirs, strict=True)]
        result[name] = summarize(of) | {
            "cpu_ms": round(median(ms for _, ms in theirs), 2),
            "ratio": round(median(ratios), 2),
            "ratio_rounds": [round(ratio, 2) for ratio in ratios],
            "ratio_by_cpu_time": round(median(by_cpu), 2),
        }
    return result


def _cpu_ms(one: Round, processes: Iterable[str]) -> float:
    return 1000 * sum(one.cpu_s[name] for name in processes) / one.requests


def show(console: Console, result: Json) -> None:
    """Prints the result as one table."""
    table = numeric_table("", "per second", "ratio", "p50 ms", "p99 ms", "processor ms", "ratio")
    for pattern, systems in result["patterns"].items():
        table.add_section()
        table.add_row(f"[italic]{pattern}")
        for name, one in systems.items():
            latency, has_ratio = one["latency_ms"], name != ORDERLY
            table.add_row(
                f"  {name}",
                f"{one['per_second']:.1f}",
                f"{one['ratio']}" if has_ratio else "",
                *(f"{latency[percentile]:.1f}" for percentile in ("p50", "p99")),
                f"{one['cpu_ms']:.1f}",
                f"{one['ratio_by_cpu_time']}" if has_ratio else "",
            )
    console.print(table)
    versions = result["machine"]
    console.print(
        f"{describe_machine(versions)}, Temporal Server {versions['temporal_server']}; DBOS"
        f" {versions['dbos']}; {result['orders']} orders open.\n{METHOD}\n"
    )
