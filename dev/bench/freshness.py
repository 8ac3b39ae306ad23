"""From each event's decision until a reader has it, at a steady rate, beside pyeventsourcing."""

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

from dev.bench import machine
from dev.bench import orderly_projector as ours
from dev.bench.load_generator import COMMANDS_PER_ORDER
from dev.bench.orderly_api import Connection, Shop
from dev.bench.report import Json, columns, counted, percentiles_ms, place
from dev.bench.servers import run_python
from dev.stack import Stack, StackOptions, running_stack

CLIENTS = 30  # More than are ever under way at once: a command is never sent late.
SEEN_S_MAX = 60.0
WARM_UP_S = 3
LABELS = {
    "seen": "orderly: decided to seen",
    "published": "  decided to published",
    "projected": "  published to seen",
    "pyeventsourcing": "pyeventsourcing: save to wait",
}
LOOKS_BACK = timedelta(seconds=3)
METHOD = (
    "Ours: a command in every slot of a steady clock, to the embedded stack. An event is seen when"
    " another process has heard the projector's announcement and has read the order's row at that"
    " version: what is shown is an upper bound of the commit. It is counted from the event's"
    " occurred_at, when the order decided; published is recorded_at, when it stood in the log."
    " pyeventsourcing: its ProjectionRunner on the same Postgres, from save to the return of wait."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=counted, default=30, help="commands a second")
    parser.add_argument("--seconds", type=counted, default=20, help="that each turn takes")
    parser.add_argument("--rounds", type=counted, default=5, help="so often the sides take turns")


class Reader:
    """Looks at the read model whenever the projector says that it has moved."""

    def __init__(self) -> None:
        self._moved = asyncio.Event()
        self._versions: dict[str, int] = {}
        self.seen_at: dict[tuple[str, int], datetime] = {}
        """By order and version: when it was read."""

    async def look(self, connection: asyncpg.Connection) -> None:
        """Looks, for ever."""
        await connection.add_listener(ours.ANNOUNCED, lambda *_: self._moved.set())
        newest = datetime.now(UTC)
        while True:
            await self._moved.wait()
            self._moved.clear()
            rows = await connection.fetch(
                "SELECT order_id, version, updated_at FROM order_view.orders WHERE updated_at > $1",
                newest - LOOKS_BACK,
            )
            now = datetime.now(UTC)
            for order_id, version, updated_at in rows:
                newest = max(newest, updated_at)
                for new in range(self._versions.get(order_id, 0) + 1, version + 1):
                    self.seen_at[order_id, new] = now
                self._versions[order_id] = version


class Client:
    """Fills one order after the other, a command at a time."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._order_id = ""
        self._commands = 0

    async def command(self) -> None:
        """Sends the next one."""
        if self._commands % COMMANDS_PER_ORDER == 0:
            self._order_id = await self._shop.open()
        else:
            await self._shop.add(self._order_id)
        self._commands += 1


class Ours:
    """Our side: clients of a running stack whose log is still empty, and what they have sent."""

    def __init__(self, stack: Stack, postgres: asyncpg.Connection) -> None:
        self._connections = [Connection(stack.api_url) for _ in range(CLIENTS)]
        self._clients = deque(Client(Shop(connection)) for connection in self._connections)
        self._postgres = postgres
        self._reader = Reader()
        self._sent = 0

    @asynccontextmanager
    async def watched(self, dsn: str) -> AsyncIterator[None]:
        """Inside the `async with`, a reader looks."""
        listener = await asyncpg.connect(dsn)
        looking = asyncio.create_task(self._reader.look(listener))
        try:
            yield
        finally:
            looking.cancel()
            await listener.close()
            for one in self._connections:
                one.close()

    async def take_turn(self, rate: int, seconds: int) -> Json:
        """Sends commands; percentiles of what their events took. TimeoutError if one is unseen."""
        await _send(self._clients, rate, WARM_UP_S)
        since = datetime.now(UTC)
        await _send(self._clients, rate, seconds)
        self._sent += rate * (WARM_UP_S + seconds)
        async with asyncio.timeout(SEEN_S_MAX):
            while len(self._reader.seen_at) < self._sent:
                await asyncio.sleep(0.05)
        rows = await self._postgres.fetch(
            "SELECT order_id, version, occurred_at, recorded_at FROM order_events"
            " WHERE occurred_at > $1",
            since,
        )
        times = [(decided, at, self._reader.seen_at[o, v]) for o, v, decided, at in rows]
        return {
            "published": percentiles_ms((at - decided).total_seconds() for decided, at, _ in times),
            "projected": percentiles_ms((seen - at).total_seconds() for _, at, seen in times),
            "seen": percentiles_ms((seen - decided).total_seconds() for decided, _, seen in times),
        }


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and lets both sides take turns."""
    rounds: list[Json] = []
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as folder:
        console.print("starting the embedded stack …")
        async with running_stack(StackOptions(Path(folder), 0, 0, 0)) as stack:
            postgres = await asyncpg.connect(stack.postgres_dsn)
            await postgres.execute("CREATE DATABASE theirs")
            dsn = stack.postgres_dsn.replace("/postgres?", "/theirs?")
            await ours.prepare(dsn)
            mine = Ours(stack, postgres)
            async with mine.watched(stack.postgres_dsn):
                for number in range(options.rounds):
                    turn = await mine.take_turn(options.rate, options.seconds)
                    numbers = (options.rate, options.seconds, number)
                    arguments = (
                        "-m",
                        "dev.bench.pyeventsourcing_baseline",
                        "freshness",
                        dsn,
                        *map(str, numbers),
                    )
                    turn["pyeventsourcing"] = json.loads((await run_python(*arguments)).printed)
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


async def _send(clients: deque[Client], rate: int, seconds: int) -> None:
    """Sends commands at a steady rate, however long each takes."""
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as commands:
        for number in range(rate * seconds):
            await asyncio.sleep(began + number / rate - asyncio.get_running_loop().time())
            while not clients:
                await asyncio.sleep(0.001)
            commands.create_task(_send_one(clients.popleft(), clients))


async def _send_one(client: Client, clients: deque[Client]) -> None:
    await client.command()
    clients.append(client)


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = columns("ms, medians of the rounds", "p50", "p99")
    for name, label in LABELS.items():
        table.add_row(label, *[f"{ms:,.1f}" for ms in result["ms"][name].values()])
    table.add_row("ratio", *map(str, result["ratio"].values()))
    console.print(table)
    by_round = "; ".join(
        f"{p} {', '.join(map(str, ratios))}" for p, ratios in result["ratio_rounds"].items()
    )
    console.print(
        f"Ratio by round: {by_round}.\n{place(result['machine'])}; {result['events']:,} events at"
        f" {result['rate']} a second.\n{METHOD}\n"
    )
