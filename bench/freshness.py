"""From each event's decision until a reader has it, at a steady rate, beside pyeventsourcing."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from rich.console import Console

from bench import machine, ours
from bench.load import COMMANDS_PER_ORDER
from bench.report import Json, columns, counted, percentiles_ms, place
from bench.rest import Connection, Shop
from bench.servers import run_python
from stack import Stack, StackOptions, running_stack

CLIENTS = 30  # More than are ever under way at once: a command is never sent late.
SEEN_S_MAX = 60.0
WARM_UP_S = 3
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
    parser.add_argument("--seconds", type=counted, default=60, help="for each side")


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


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Runs the whole stack, and both sides one after the other."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as folder:
        console.print("starting the embedded stack …")
        async with running_stack(StackOptions(Path(folder), 0, 0, 0)) as stack:
            connection = await asyncpg.connect(stack.postgres_dsn)
            console.print(f"{options.rate} commands a second, for {options.seconds} s …")
            mine, unseen = await _ours(stack, connection, options)
            console.print("the same in pyeventsourcing …")
            await connection.execute("CREATE DATABASE theirs")
            await connection.close()
            dsn = stack.postgres_dsn.replace("/postgres?", "/theirs?")
            await ours.prepare(dsn)
            arguments = (dsn, str(options.rate), str(options.seconds))
            ran = await run_python("-m", "bench.theirs", "freshness", *arguments)
            theirs: dict[str, float] = json.loads(ran.printed)
            about = machine.description() | await machine.temporal(stack.temporal_address)
    return {
        "rate": options.rate,
        "seconds": options.seconds,
        "pyeventsourcing_ms": theirs,
        **mine,
        "ratio": {p: round(mine["seen_ms"][p] / theirs[p], 3) for p in theirs},
        "wrong": [f"{unseen} events were never seen"] if unseen else [],
        "machine": about,
    }


async def _ours(
    stack: Stack, connection: asyncpg.Connection, options: argparse.Namespace
) -> tuple[Json, int]:
    """What our events took, and how many of them were never seen."""
    connections = [Connection(stack.api_url) for _ in range(CLIENTS)]
    clients = deque(Client(Shop(connection)) for connection in connections)
    reader, listener = Reader(), await asyncpg.connect(stack.postgres_dsn)
    looking = asyncio.create_task(reader.look(listener))
    try:
        await _send(clients, options.rate, WARM_UP_S)
        since = datetime.now(UTC)
        await _send(clients, options.rate, options.seconds)
        expected = options.rate * (WARM_UP_S + options.seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(SEEN_S_MAX):
                while len(reader.seen_at) < expected:
                    await asyncio.sleep(0.05)
    finally:
        looking.cancel()
        await listener.close()
        for one in connections:
            one.close()
    rows = await connection.fetch(
        "SELECT order_id, version, occurred_at, recorded_at FROM order_events"
        " WHERE occurred_at > $1",
        since,
    )
    times = [
        (decided, at, reader.seen_at[order_id, version])
        for order_id, version, decided, at in rows
        if (order_id, version) in reader.seen_at
    ]
    return {
        "events": len(times),
        "published_ms": percentiles_ms((at - decided).total_seconds() for decided, at, _ in times),
        "projected_ms": percentiles_ms((seen - at).total_seconds() for _, at, seen in times),
        "seen_ms": percentiles_ms((seen - decided).total_seconds() for decided, _, seen in times),
    }, expected - len(reader.seen_at)


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
    table = columns("ms", "p50", "p99")
    labels = {
        "seen_ms": "orderly: decided to seen",
        "published_ms": "  decided to published",
        "projected_ms": "  published to seen",
        "pyeventsourcing_ms": "pyeventsourcing: save to wait",
    }
    for name, label in labels.items():
        table.add_row(label, *[f"{result[name][p]:,.1f}" for p in ("p50", "p99")])
    table.add_row("ratio", *[str(result["ratio"][p]) for p in ("p50", "p99")])
    console.print(table)
    console.print(
        f"{place(result['machine'])}; {result['events']:,} events at {result['rate']} a second."
        f"\n{METHOD}\n"
    )
