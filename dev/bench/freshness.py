"""The delay from an order's decision until a reader sees it, compared with pyeventsourcing."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import asyncpg
from rich.console import Console

from dev.bench import machine, orderly_projector
from dev.bench.http_connection import ConnectionPool
from dev.bench.load_generator import COMMANDS_PER_ORDER
from dev.bench.orderly_api import OrderlyClient
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.servers import run_python
from dev.stack import Stack, StackOptions, run_stack

CLIENTS = 30  # More than are ever busy: no command is sent late.
SEEN_S_MAX = 60.0
WARM_UP_S = 3
LABELS = {
    "seen": "orderly: decided to seen",
    "published": "  decided to published",
    "projected": "  published to seen",
    "pyeventsourcing": "pyeventsourcing: save to wait",
}
LOOK_BACK = timedelta(seconds=3)
METHOD = (
    "orderly: commands at a constant rate to the embedded stack. An event is seen when another"
    " process has received the projector's announcement and has read the order's row at that"
    " version, which is after the commit. The delay starts at the event's occurred_at, when the"
    " order decided; it is published at its recorded_at, when it is in the log. pyeventsourcing:"
    " its ProjectionRunner on the same Postgres, from save until wait returns."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=positive_integer, default=30, help="commands per second")
    parser.add_argument("--seconds", type=positive_integer, default=20, help="of each turn")
    parser.add_argument("--rounds", type=positive_integer, default=5, help="of both systems")


class ReadModelObserver:
    """Reads the read model whenever the projector announces a commit."""

    def __init__(self) -> None:
        self._announced = asyncio.Event()
        self._versions: dict[str, int] = {}
        self.seen_at: dict[tuple[str, int], datetime] = {}
        """By order id and version."""

    async def observe(self, connection: asyncpg.Connection) -> None:
        """Observes until it is cancelled."""
        await connection.add_listener(orderly_projector.ANNOUNCED, lambda *_: self._announced.set())
        newest = datetime.now(UTC)
        while True:
            await self._announced.wait()
            self._announced.clear()
            rows = await connection.fetch(
                "SELECT order_id, version, updated_at FROM order_view.orders WHERE updated_at > $1",
                newest - LOOK_BACK,
            )
            now = datetime.now(UTC)
            for order_id, version, updated_at in rows:
                newest = max(newest, updated_at)
                for new in range(self._versions.get(order_id, 0) + 1, version + 1):
                    self.seen_at[order_id, new] = now
                self._versions[order_id] = version


class OrderFiller:
    """Fills one order after the other, one command at a time."""

    def __init__(self, client: OrderlyClient) -> None:
        self._client = client
        self._order_id = ""
        self._commands = 0

    async def send_next(self) -> None:
        """Sends the next command."""
        if self._commands % COMMANDS_PER_ORDER == 0:
            self._order_id = await self._client.open()
        else:
            await self._client.add(self._order_id)
        self._commands += 1


class OrderlyFreshness:
    """Measures a running stack whose log is still empty."""

    def __init__(self, stack: Stack, postgres: asyncpg.Connection) -> None:
        self._pool = ConnectionPool(stack.api_url)
        self._idle = deque(OrderFiller(OrderlyClient(self._pool)) for _ in range(CLIENTS))
        self._postgres = postgres
        self._observer = ReadModelObserver()
        self._sent = 0

    @asynccontextmanager
    async def observing(self, dsn: str) -> AsyncIterator[None]:
        """Observes the read model inside the `async with`."""
        listener = await asyncpg.connect(dsn)
        observing = asyncio.create_task(self._observer.observe(listener))
        try:
            yield
        finally:
            observing.cancel()
            await listener.close()
            self._pool.close()

    async def measure_turn(self, rate: int, seconds: int) -> Json:
        """Percentiles of the delays of a turn's events; TimeoutError if one is never seen."""
        await _send_all(self._idle, rate, WARM_UP_S)
        since = datetime.now(UTC)
        await _send_all(self._idle, rate, seconds)
        self._sent += rate * (WARM_UP_S + seconds)
        async with asyncio.timeout(SEEN_S_MAX):
            while len(self._observer.seen_at) < self._sent:
                await asyncio.sleep(0.05)
        rows = await self._postgres.fetch(
            "SELECT order_id, version, occurred_at, recorded_at FROM order_events"
            " WHERE occurred_at > $1",
            since,
        )
        times = [(decided, at, self._observer.seen_at[o, v]) for o, v, decided, at in rows]
        return {
            "published": percentiles_ms((at - decided).total_seconds() for decided, at, _ in times),
            "projected": percentiles_ms((seen - at).total_seconds() for _, at, seen in times),
            "seen": percentiles_ms((seen - decided).total_seconds() for decided, _, seen in times),
        }


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and alternates the systems."""
    rounds: list[Json] = []
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as folder:
        console.print("starting the embedded stack …")
        async with run_stack(StackOptions(Path(folder), 0, 0, 0)) as stack:
            postgres = await asyncpg.connect(stack.postgres_dsn)
            await postgres.execute("CREATE DATABASE baseline")
            dsn = stack.postgres_dsn.replace("/postgres?", "/baseline?")
            await orderly_projector.prepare(dsn)
            orderly = OrderlyFreshness(stack, postgres)
            async with orderly.observing(stack.postgres_dsn):
                for number in range(options.rounds):
                    turn = await orderly.measure_turn(options.rate, options.seconds)
                    numbers = (options.rate, options.seconds, number)
                    arguments = (
                        "-m",
                        "dev.bench.pyeventsourcing_baseline",
                        "freshness",
                        dsn,
                        *map(str, numbers),
                    )
                    turn["pyeventsourcing"] = json.loads((await run_python(*arguments)).output)
                    rounds.append(turn)
                    console.print(f"round {number + 1}: {_p50(turn)}")
            await postgres.close()
            about = machine.description() | await machine.temporal(stack.temporal_address)
    ms = {
        name: {p: median(turn[name][p] for turn in rounds) for p in rounds[0][name]}
        for name in LABELS
    }
    return {
        "rate": options.rate,
        "events": options.rate * options.seconds * options.rounds,
        "ms": ms,
        "ms_rounds": rounds,
        "ratio": {p: round(ms["seen"][p] / ms["pyeventsourcing"][p], 3) for p in ms["seen"]},
        "ratio_rounds": {
            p: [round(turn["seen"][p] / turn["pyeventsourcing"][p], 3) for turn in rounds]
            for p in ms["seen"]
        },
        "machine": about,
    }


def _p50(turn: Json) -> str:
    return f"orderly {turn['seen']['p50']}, pyeventsourcing {turn['pyeventsourcing']['p50']} ms"


async def _send_all(idle: deque[OrderFiller], rate: int, seconds: int) -> None:
    """Sends commands at a constant rate, however long each takes."""
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as commands:
        for number in range(rate * seconds):
            await asyncio.sleep(began + number / rate - asyncio.get_running_loop().time())
            while not idle:
                await asyncio.sleep(0.001)
            commands.create_task(_send_one(idle.popleft(), idle))


async def _send_one(filler: OrderFiller, idle: deque[OrderFiller]) -> None:
    await filler.send_next()
    idle.append(filler)


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("ms, medians of the rounds", "p50", "p99")
    for name, label in LABELS.items():
        table.add_row(label, *[f"{ms:,.1f}" for ms in result["ms"][name].values()])
    table.add_row("ratio", *map(str, result["ratio"].values()))
    console.print(table)
    by_round = "; ".join(
        f"{p} {', '.join(map(str, ratios))}" for p, ratios in result["ratio_rounds"].items()
    )
    console.print(
        f"Ratio by round: {by_round}.\n{describe_machine(result['machine'])};"
        f" {result['events']:,} events at {result['rate']} per second.\n{METHOD}\n"
    )
