"""More than it can take: what is shed, how the rest is served, and an engine that is away."""

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
from rich.console import Console

from dev.bench import machine
from dev.bench.load_generator import ITEM
from dev.bench.open_loop import Front, Outcome
from dev.bench.report import Json, columns, counted, percentiles_ms, place
from dev.bench.servers import run_python
from dev.stack import StackOptions, running_stack

LEVELS = (0.25, 0.5, 1.0, 2.0)
CLIENTS = {"commands": 8, "reads": 16, "lists": 16}  # Whose number does most in a second.
PAUSE_S_MAX = 2.0  # What still happens after one level must not be the next one's.
RECOVERED = 5  # So many in a row, none of them slow.
SLOW = 2  # Times the p99 without load: of few samples, by chance a small one.
RECOVER_S_MAX = 60.0
PUBLISHED_S_MAX = 60.0  # Temporal has been killed: what it goes on with may take a while.
POLL_S = 0.1
NEW_ORDER = json.dumps({"customer_id": "900", "currency": "USD", "lines": [ITEM]})
OPENING = f"POST /v1/orders {NEW_ORDER}"
LISTING = "GET /v1/orders?customer_id=900&limit=50"
EVENTS_PER_ORDER = 2
ACCEPTED, UNKNOWN = (200, 201), ("outcome-unknown", "temporal-unavailable", None)
METHOD = (
    "Requests arrive at random, at their own rate, from a process of its own, and are not repeated:"
    " commands that each open an order with a line, then reads of one order each, then of lists of"
    " fifty. The capacity is what clients get that each send one after the other; the loads are"
    " parts of it, by turns, and the smallest is “unloaded”. Late is by how many ms, p99, requests"
    " were sent too late, as that process had to wait for a processor: then this machine is too"
    " small to tell how it would be."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=counted, default=5, help="that each load takes")
    parser.add_argument("--rounds", type=counted, default=4, help="so often the loads take turns")


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and asks too much of it."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with running_stack(
            StackOptions(Path(data_dir), 0, 0, 0, max_concurrent_commands=None)
        ) as stack:
            temporal = await machine.temporal(stack.temporal_address)
            crowd = Crowd(stack.api_url, options.seconds, options.rounds, console)
            commands = await crowd.loads("commands", [OPENING])
            recovered_s = await crowd.recovered_s(SLOW * commands["levels"][0]["p99"] / 1000)
            reads = await crowd.loads("reads", [f"GET /v1/orders/{one}" for one in crowd.opened])
            lists = await crowd.loads("lists", [LISTING])
            away = {
                name: await crowd.away(stack.pids["temporal"], how)
                for name, how in {"stopped": signal.SIGSTOP, "killed": signal.SIGKILL}.items()
            }
            log = await _published(stack.postgres_dsn, crowd.opened)
    lost = sum(log.get(order_id) != EVENTS_PER_ORDER for order_id in crowd.opened)
    unexplained = len(log) - len(set(crowd.opened))
    checks = {
        f"{lost} acknowledged orders are not in the log, once": lost,
        "two requests got the same order": len(set(crowd.opened)) < len(crowd.opened),
        f"{unexplained} orders that nobody knows of": unexplained > crowd.unknown,
        f"{crowd.unadvised} were sent away and not told when to come again": crowd.unadvised,
        "a command was not told that the engine is away": any(
            one["status"] != 503 for one in away.values()
        ),
        "reads did not go on without the engine": any(
            one["reads_failed"] or not one["reads"] for one in away.values()
        ),
    }
    return {
        "commands": commands,
        "reads": reads,
        "lists": lists,
        "recovered_s": recovered_s,
        "away": away,
        "acknowledged": len(crowd.opened),
        "lost": lost,
        "wrong": [words for words, is_so in checks.items() if is_so],
        "machine": machine.description() | temporal,
    }


class Crowd:
    """Callers that do not care how the others are served, and what they were told."""

    def __init__(self, url: str, seconds: int, rounds: int, console: Console) -> None:
        self._url = url
        self._seconds = seconds
        self._rounds = rounds
        self._console = console
        self.opened: list[str] = []
        self.unknown = 0
        self.unadvised = 0

    async def loads(self, what: str, lines: Sequence[str]) -> Json:
        """The capacity for requests of this kind, and how it is under parts of it."""
        clients = CLIENTS[what]
        for seconds in (min(self._seconds, 3), self._seconds):  # The first is to warm up.
            capacity = await self._capacity(lines, clients, seconds)
        self._console.print(f"{what}: {capacity:.1f} a second for {clients} clients")
        outcomes: dict[float, list[Outcome]] = {part: [] for part in LEVELS}
        for number in range(self._rounds):  # What disturbs a round disturbs all its loads.
            for part, of_part in outcomes.items():
                await asyncio.sleep(min(PAUSE_S_MAX, self._seconds))
                some = await self._arrive(lines, part * capacity)
                of_part += some
                accepted = sum(one.status in ACCEPTED for one in some)
                self._console.print(
                    f"round {number + 1}: {what}, {part} × capacity: {accepted} of {len(some)}"
                )
        levels = [{"part": part, **_numbers(of_part)} for part, of_part in outcomes.items()]
        return {
            "capacity": round(capacity, 1),
            "clients": clients,
            "levels": [
                {**level, "ratio": round(level["p99"] / levels[0]["p99"], 2)} for level in levels
            ],
        }

    async def _capacity(self, lines: Sequence[str], clients: int, seconds: float) -> float:
        front, line, until = Front(self._url), cycle(lines), perf_counter() + seconds

        async def ask() -> int:
            accepted = 0
            while perf_counter() < until:
                outcome = await front.ask(next(line))
                self._note([outcome])
                if outcome.status in ACCEPTED:
                    accepted += 1
                else:
                    await asyncio.sleep(0.1)
            return accepted

        return sum(await asyncio.gather(*(ask() for _ in range(clients)))) / seconds

    async def _arrive(self, lines: Sequence[str], rate: float) -> list[Outcome]:
        some = islice(cycle(lines), max(round(rate * self._seconds), 1))
        ran = await run_python(
            *("-m", "dev.bench.open_loop", self._url, str(rate)), stdin="\n".join(some)
        )
        outcomes = [Outcome(*one) for one in json.loads(ran.printed)]
        self._note(outcomes)
        return outcomes

    async def recovered_s(self, slow_s: float) -> float | None:
        """How long after the worst load no command takes `slow_s` any more; None: for too long."""
        front, began, fast = Front(self._url), perf_counter(), list[Outcome]()
        while len(fast) < RECOVERED:
            if perf_counter() - began > RECOVER_S_MAX:
                return None
            outcome = await front.ask(OPENING)
            self._note([outcome])
            is_fast = outcome.status in ACCEPTED and outcome.latency_s < slow_s
            fast = [*fast, outcome] if is_fast else []
        return round(fast[0].at_s - began, 3)

    async def away(self, temporal: int, how: signal.Signals) -> Json:
        """What is answered while Temporal is stopped, or just killed."""
        front, reads = Front(self._url), list[Outcome]()
        await self._until_it_serves(front)
        os.kill(temporal, how)
        try:
            command = asyncio.create_task(front.ask(OPENING))
            while not command.done():
                reads.append(await front.ask(f"GET /v1/orders/{self.opened[0]}"))
        finally:
            if how is signal.SIGSTOP:
                os.kill(temporal, signal.SIGCONT)
        outcome = await command
        self._note([outcome])
        return {
            "status": outcome.status,
            "code": outcome.said,
            "told_s": round(outcome.latency_s, 3),
            "reads": sum(one.status in ACCEPTED for one in reads),
            "reads_failed": sum(one.status not in ACCEPTED for one in reads),
            **percentiles_ms(one.latency_s for one in reads),
        }

    async def _until_it_serves(self, front: Front) -> None:
        async with asyncio.timeout(RECOVER_S_MAX):
            while (outcome := await front.ask(OPENING)).status not in ACCEPTED:
                self._note([outcome])
                await asyncio.sleep(0.1)
        self._note([outcome])

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        self.opened += [str(one.said) for one in outcomes if one.status == 201]
        self.unknown += sum(one.status not in ACCEPTED and one.said in UNKNOWN for one in outcomes)
        self.unadvised += sum(
            one.status not in (0, *ACCEPTED) and one.retry_after is None for one in outcomes
        )


def _numbers(outcomes: Sequence[Outcome]) -> Json:
    accepted = [one.latency_s for one in outcomes if one.status in ACCEPTED]
    shed = [one.latency_s for one in outcomes if one.status not in ACCEPTED]
    return {
        "offered": len(outcomes),
        "accepted": len(accepted),
        "shed": len(shed),
        **percentiles_ms(accepted),
        "shed_p99": percentiles_ms(shed)["p99"] if shed else None,
        "late_p99": percentiles_ms(one.late_s for one in outcomes)["p99"],
    }


async def _published(dsn: str, order_ids: Sequence[str]) -> dict[str, int]:
    """How many events the log has of each order, once it has all of these, or time is up."""
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
    table = columns("", "offered", "accepted", "shed", "p50 ms", "p99 ms", "× unloaded", "late")
    for what in CLIENTS:
        table.add_section()
        for level in result[what]["levels"]:
            counts = [f"{level[name]:,}" for name in ("offered", "accepted", "shed")]
            times = [f"{level[name]:,.1f}" for name in ("p50", "p99")]
            times += [f"{level['ratio']:.1f}", f"{level['late_p99']:,.1f}"]
            table.add_row(f"{what} × {level['part']}", *counts, *times)
    console.print(table)
    for how, away in result["away"].items():
        console.print(
            f"Temporal {how}: a command is told after {away['told_s']} s ({away['code']});"
            f" meanwhile {away['reads']:,} reads, p99 {away['p99']} ms"
        )
    capacity = ", ".join(f"{result[what]['capacity']} {what}" for what in CLIENTS)
    after = result["recovered_s"]
    console.print(
        f"{result['acknowledged']:,} orders acknowledged, {result['lost']} lost; commands took less"
        f" than {SLOW} times the p99 without load again"
        f" {f'{after} s' if after is not None else f'not even {RECOVER_S_MAX} s'} after the worst"
    )
    console.print(f"{place(result['machine'])}; capacity {capacity} a second.\n{METHOD}")
