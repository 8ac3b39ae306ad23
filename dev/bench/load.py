"""Overload: which requests are rejected, how others are served, and an outage of Temporal."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

import asyncpg
import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from dev.bench import machine
from dev.bench.http_connection import ConnectionPool
from dev.bench.load_generator import ITEM
from dev.bench.open_loop import RequestResult, send_line
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.servers import run_python
from dev.stack import StackOptions, run_stack

SHARES = (0.25, 0.5, 1.0, 2.0)
CLIENTS = {"commands": 8, "reads": 16, "lists": 16}  # With these, the throughput is highest.
PAUSE_S_MAX = 2.0  # Work that goes on after one load must not count in the next one.
RECOVERED = 5  # Consecutive fast commands.
SLOW = 2  # Times the unloaded p99, which is uncertain with few samples.
RECOVER_S_MAX = 60.0
PUBLISHED_S_MAX = 60.0  # A killed Temporal may take a while to continue.
POLL_S = 0.1
NEW_ORDER = json.dumps({"customer_id": "900", "currency": "USD", "lines": [ITEM]})
OPENING = f"POST /v1/orders {NEW_ORDER}"
LISTING = "GET /v1/orders?customer_id=900&limit=50"
EVENTS_PER_ORDER = 2
ACCEPTED, UNKNOWN = (200, 201), ("outcome-unknown", "temporal-unavailable", None)
METHOD = (
    "An open-loop load: requests arrive at random moments, from a separate process, and are not"
    " repeated. Commands each open an order with a line; reads are of one order, lists of fifty."
    " The capacity is the throughput of clients that each send one request after the other. Loads"
    " are shares of it, alternating; the smallest is “unloaded”. CPU is the API's processor time"
    " per request. Late is the p99 of the delay, in ms, with which requests were sent because the"
    " load generator waited for a processor: if it is high, the machine is too small."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=positive_integer, default=5, help="of each load")
    parser.add_argument("--rounds", type=positive_integer, default=4, help="of all loads")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and overloads it."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with run_stack(
            StackOptions(Path(data_dir), 0, 0, 0, max_concurrent_commands=None)
        ) as stack:
            temporal = await machine.temporal(stack.temporal_address)
            test = LoadTest(stack.api_url, stack.pids["api"], options, console)
            commands = await test.measure_loads("commands", [OPENING])
            recovered_s = await test.measure_recovery(SLOW * commands["levels"][0]["p99"] / 1000)
            reads = await test.measure_loads(
                "reads", [f"GET /v1/orders/{id}" for id in test.opened]
            )
            lists = await test.measure_loads("lists", [LISTING])
            outages = {
                name: await test.measure_outage(stack.pids["temporal"], signum)
                for name, signum in {"stopped": signal.SIGSTOP, "killed": signal.SIGKILL}.items()
            }
            log = await _wait_until_published(stack.postgres_dsn, test.opened)
    return {
        "commands": commands,
        "reads": reads,
        "lists": lists,
        "recovered_s": recovered_s,
        "outages": outages,
        "acknowledged": len(test.opened),
        "lost": sum(log.get(order_id) != EVENTS_PER_ORDER for order_id in test.opened),
        "failures": _failures(test, outages, log),
        "machine": machine.description() | temporal,
    }


def _failures(test: LoadTest, outages: Json, log: dict[str, int]) -> list[str]:
    lost = sum(log.get(order_id) != EVENTS_PER_ORDER for order_id in test.opened)
    unexplained = len(log) - len(set(test.opened))
    checks = {
        f"{lost} acknowledged orders are not in the log exactly once": lost,
        "two requests got the same order": len(set(test.opened)) < len(test.opened),
        f"{unexplained} orders in the log that no request explains": unexplained > test.unknown,
        f"{test.without_retry_after} rejections had no Retry-After": test.without_retry_after,
        "a command during an outage of Temporal did not get a 503": any(
            outage["status"] != 503 for outage in outages.values()
        ),
        "reads failed during an outage of Temporal": any(
            outage["reads_failed"] or not outage["reads"] for outage in outages.values()
        ),
    }
    return [message for message, failed in checks.items() if failed]


class LoadTest:
    """Sends loads, and records what must hold for all of their requests."""

    def __init__(
        self, url: str, api_pid: int, options: argparse.Namespace, console: Console
    ) -> None:
        self._url = url
        self._api = psutil.Process(api_pid)
        self._seconds: int = options.seconds
        self._rounds: int = options.rounds
        self._console = console
        self.opened: list[str] = []
        """The ids of acknowledged orders."""
        self.unknown = 0
        """Requests that may have opened an order."""
        self.without_retry_after = 0

    async def measure_loads(self, kind: str, lines: Sequence[str]) -> Json:
        """The capacity for requests of this kind, and the results under shares of it."""
        clients = CLIENTS[kind]
        for seconds in (min(self._seconds, 3), self._seconds):  # The first is to warm up.
            capacity = await self._measure_capacity(lines, clients, seconds)
        self._console.print(f"{kind}: {capacity:.1f} per second with {clients} clients")
        results: dict[float, list[RequestResult]] = {share: [] for share in SHARES}
        cpu_s = dict.fromkeys(SHARES, 0.0)
        for number in range(self._rounds):  # A disturbance of a round affects all its loads.
            for share, of_share in results.items():
                await asyncio.sleep(min(PAUSE_S_MAX, self._seconds))
                before = self._api_cpu_s()
                batch = await self._run_open_loop(lines, share * capacity)
                cpu_s[share] += self._api_cpu_s() - before
                of_share += batch
                accepted = sum(one.status in ACCEPTED for one in batch)
                self._console.print(
                    f"round {number + 1}: {kind}, {share} × capacity: {accepted} of {len(batch)}"
                )
        levels = [
            {"share": share, **_summarize(of_share, cpu_s[share])}
            for share, of_share in results.items()
        ]
        return {
            "capacity": round(capacity, 1),
            "clients": clients,
            "levels": [
                {**level, "ratio": round(level["p99"] / levels[0]["p99"], 2)} for level in levels
            ],
        }

    def _api_cpu_s(self) -> float:
        times = self._api.cpu_times()
        return float(times.user + times.system)

    async def _measure_capacity(self, lines: Sequence[str], clients: int, seconds: float) -> float:
        pool, line, until = ConnectionPool(self._url), cycle(lines), perf_counter() + seconds

        async def send_repeatedly() -> int:
            accepted = 0
            while perf_counter() < until:
                result = await send_line(pool, next(line))
                self._record([result])
                if result.status in ACCEPTED:
                    accepted += 1
                else:
                    await asyncio.sleep(0.1)
            return accepted

        return sum(await asyncio.gather(*(send_repeatedly() for _ in range(clients)))) / seconds

    async def _run_open_loop(self, lines: Sequence[str], rate: float) -> list[RequestResult]:
        requests = islice(cycle(lines), max(round(rate * self._seconds), 1))
        run = await run_python(
            *("-m", "dev.bench.open_loop", self._url, str(rate)), stdin="\n".join(requests)
        )
        results = [RequestResult(*one) for one in json.loads(run.output)]
        self._record(results)
        return results

    async def measure_recovery(self, slow_s: float) -> float | None:
        """The seconds until commands are faster than `slow_s` again; None: not in time."""
        pool, began, fast = ConnectionPool(self._url), perf_counter(), list[RequestResult]()
        while len(fast) < RECOVERED:
            if perf_counter() - began > RECOVER_S_MAX:
                return None
            result = await send_line(pool, OPENING)
            self._record([result])
            is_fast = result.status in ACCEPTED and result.latency_s < slow_s
            fast = [*fast, result] if is_fast else []
        return round(fast[0].at_s - began, 3)

    async def measure_outage(self, temporal_pid: int, signum: signal.Signals) -> Json:
        """The response to a command, and reads meanwhile, with Temporal stopped or killed."""
        pool, reads = ConnectionPool(self._url), list[RequestResult]()
        await self._wait_until_serving(pool)
        os.kill(temporal_pid, signum)
        try:
            command = asyncio.create_task(send_line(pool, OPENING))
            while not command.done():
                reads.append(await send_line(pool, f"GET /v1/orders/{self.opened[0]}"))
        finally:
            if signum is signal.SIGSTOP:
                os.kill(temporal_pid, signal.SIGCONT)
        result = await command
        self._record([result])
        return {
            "status": result.status,
            "code": result.order_id_or_code,
            "rejected_after_s": round(result.latency_s, 3),
            "reads": sum(one.status in ACCEPTED for one in reads),
            "reads_failed": sum(one.status not in ACCEPTED for one in reads),
            **percentiles_ms(one.latency_s for one in reads),
        }

    async def _wait_until_serving(self, pool: ConnectionPool) -> None:
        async with asyncio.timeout(RECOVER_S_MAX):
            while (result := await send_line(pool, OPENING)).status not in ACCEPTED:
                self._record([result])
                await asyncio.sleep(0.1)
        self._record([result])

    def _record(self, results: Sequence[RequestResult]) -> None:
        self.opened += [str(one.order_id_or_code) for one in results if one.status == 201]
        self.unknown += sum(
            one.status not in ACCEPTED and one.order_id_or_code in UNKNOWN for one in results
        )
        self.without_retry_after += sum(
            one.status not in (0, *ACCEPTED) and one.retry_after is None for one in results
        )


def _summarize(results: Sequence[RequestResult], cpu_s: float) -> Json:
    accepted = [one.latency_s for one in results if one.status in ACCEPTED]
    rejected = [one.latency_s for one in results if one.status not in ACCEPTED]
    return {
        "offered": len(results),
        "accepted": len(accepted),
        "rejected": len(rejected),
        **percentiles_ms(accepted),
        "rejected_p99": percentiles_ms(rejected)["p99"] if rejected else None,
        "cpu_ms": round(1000 * cpu_s / len(results), 3),
        "late_p99": percentiles_ms(one.late_s for one in results)["p99"],
    }


async def _wait_until_published(dsn: str, order_ids: Sequence[str]) -> dict[str, int]:
    """The number of events in the log by order id, once it has all of these or time is up."""
    connection = await asyncpg.connect(dsn)
    log: dict[str, int] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(PUBLISHED_S_MAX):
            while not log.keys() >= set(order_ids):
                rows = await connection.fetch(
                    "SELECT order_id, count(*) FROM order_events GROUP BY 1"
                )
                log = {row["order_id"]: row["count"] for row in rows}
                await asyncio.sleep(POLL_S)
    await connection.close()
    return log


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    console.print(_table(result))
    for name, outage in result["outages"].items():
        console.print(
            f"Temporal {name}: a command is rejected after {outage['rejected_after_s']} s"
            f" ({outage['code']}); meanwhile {outage['reads']:,} reads, p99 {outage['p99']} ms"
        )
    capacity = ", ".join(f"{result[kind]['capacity']} {kind}" for kind in CLIENTS)
    after = result["recovered_s"]
    recovered = f"{after} s" if after is not None else f"more than {RECOVER_S_MAX} s"
    console.print(
        f"{result['acknowledged']:,} orders acknowledged, {result['lost']} lost; commands took less"
        f" than {SLOW} times the unloaded p99 again {recovered} after the highest load"
    )
    machine_line = describe_machine(result["machine"])
    console.print(f"{machine_line}; capacity {capacity} per second.\n{METHOD}")


def _table(result: Json) -> Table:
    names = ("offered", "accepted", "rejected", "p50 ms", "p99 ms", "× unloaded", "CPU ms", "late")
    table = numeric_table("", *names)
    for kind in CLIENTS:
        table.add_section()
        for level in result[kind]["levels"]:
            counts = [f"{level[name]:,}" for name in ("offered", "accepted", "rejected")]
            times = [f"{level[name]:,.1f}" for name in ("p50", "p99")]
            times += [
                f"{level['ratio']:.1f}",
                f"{level['cpu_ms']:.2f}",
                f"{level['late_p99']:,.1f}",
            ]
            table.add_row(f"{kind} × {level['share']}", *counts, *times)
    return table
