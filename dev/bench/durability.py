"""Lost events: writers commit late and out of order, projectors compete and are killed."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from operator import itemgetter
from random import Random

import asyncpg
from rich.console import Console

from dev.bench import machine, sql_upper_bound
from dev.bench.events import OrderEnvelope, generate_events
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.bench.servers import postgres
from dev.stack.supervisor import SupervisedProcess
from eventlog import log
from eventlog.announcements import announce
from eventlog.postgres import connect_pool

EVENTS_PER_TRANSACTION_MAX = 24
ROLLBACK_EVERY = 20  # One transaction in this many, on average; its events are sent again.
KILL_INTERVAL_S = (1.5, 5.0)
POLL_S = 0.01
CATCH_UP_S_MAX = 120.0
METHOD = (
    "Writers append through orderly's log, and keep each transaction open for a random time. Two"
    " projector processes follow; every few seconds, one of them is killed with SIGKILL and started"
    " again. The naive reader reads what is above the highest position that it has seen."
)


@dataclass
class WriteCounts:
    """What the writers have done."""

    committed: int = 0
    transactions: int = 0
    rolled_back: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=positive_integer, default=50_000, help="to write")
    parser.add_argument("--writers", type=positive_integer, default=8, help="concurrent")
    parser.add_argument(
        "--hold-ms", type=positive_integer, default=300, help="the longest transaction"
    )


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Writes, projects and kills; then compares."""
    written = WriteCounts()
    async with postgres() as server:
        dsn = await server.database("orderly")
        projectors = [
            await server.start_orderly("projector", dsn, name=f"projector-{n}") for n in (1, 2)
        ]
        async with await connect_pool(dsn, options.writers + 2) as pool:
            done = asyncio.Event()
            naive = asyncio.create_task(_read_by_position(pool, done))
            killing = asyncio.create_task(_kill_repeatedly(projectors, done))
            console.print(f"{options.writers} writers write {options.events:,} events …")
            async with asyncio.TaskGroup() as writers:
                for number in range(options.writers):
                    events = generate_events(options.events // options.writers, seed=number)
                    hold_s = options.hold_ms / 1000
                    writers.create_task(_write(pool, events, hold_s, Random(number), written))
            done.set()
            kills, seen = await killing, await naive
            console.print("catching up …")
            projected = await _count_projected(pool, written.committed)
            logged: int = await pool.fetchval("SELECT count(*) FROM order_events")
            differing = await _count_differing(pool)
    lost, naive_lost = written.committed - projected, written.committed - seen
    checks = {
        f"{lost} events are lost or counted twice": lost != 0,
        f"{differing} rows of order_view differ from SQL's": differing != 0,
        f"{logged} events are in the log": logged != written.committed,
        "the naive reader lost nothing: the load was too small": naive_lost == 0,
    }
    return {
        **asdict(written),
        "kills": kills,
        "projected": projected,
        "lost": lost,
        "naive_seen": seen,
        "naive_lost": naive_lost,
        "writers": options.writers,
        "hold_ms_max": options.hold_ms,
        "failures": [message for message, failed in checks.items() if failed],
        "machine": machine.description(),
    }


async def _write(
    pool: asyncpg.Pool,
    events: Iterator[OrderEnvelope],
    hold_s_max: float,
    dice: Random,
    counts: WriteCounts,
) -> None:
    while batch := list(islice(events, dice.randint(1, EVENTS_PER_TRANSACTION_MAX))):
        while dice.randrange(ROLLBACK_EVERY) == 0:
            await _transact(pool, batch, dice.uniform(0, hold_s_max), commit=False)
            counts.rolled_back += 1
        await _transact(pool, batch, dice.uniform(0, hold_s_max), commit=True)
        counts.transactions += 1
        counts.committed += len(batch)


async def _transact(
    pool: asyncpg.Pool, events: list[OrderEnvelope], hold_s: float, commit: bool
) -> None:
    by_order = sorted(events, key=itemgetter(0))  # Stable: versions stay ordered.
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        for order_id, group in groupby(by_order, key=itemgetter(0)):
            await log.append(connection, order_id, [envelope for _, envelope in group])
        await asyncio.sleep(hold_s)
        await (transaction.commit() if commit else transaction.rollback())
        if commit:
            await announce(connection)


async def _read_by_position(pool: asyncpg.Pool, done: asyncio.Event) -> int:
    """How many events a reader sees that continues from the highest position."""
    seen, position = 0, 0
    while True:
        was_done = done.is_set()
        rows = await pool.fetch(
            "SELECT position FROM order_events WHERE position > $1 ORDER BY position LIMIT 500",
            position,
        )
        if rows:
            seen, position = seen + len(rows), rows[-1]["position"]
        elif was_done:
            return seen
        else:
            await asyncio.sleep(POLL_S)


async def _kill_repeatedly(projectors: list[SupervisedProcess], done: asyncio.Event) -> int:
    """Kills a random projector and starts it again, at least once; returns the number of kills."""
    dice = Random(1)
    kills = 0
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(dice.uniform(*KILL_INTERVAL_S)):
                await done.wait()
        victim = dice.choice(projectors)
        if victim.exit_reason is not None:
            raise RuntimeError(
                f"{victim.name} {victim.exit_reason}: {victim.program.log.read_text()}"
            )
        await _kill(victim)
        await victim.start()
        kills += 1
        if done.is_set():
            return kills


async def _kill(projector: SupervisedProcess) -> None:
    os.kill(projector.pid, signal.SIGKILL)
    while projector.exit_reason is None:
        await asyncio.sleep(POLL_S)


async def _count_projected(pool: asyncpg.Pool, expected: int) -> int:
    """The number of projected events, once it is as expected or time is up."""
    projected = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(CATCH_UP_S_MAX):
            while projected < expected:
                await asyncio.sleep(POLL_S)
                projected = await pool.fetchval(
                    "SELECT coalesce(sum(version), 0)::int FROM order_view.orders"
                )
    return projected


async def _count_differing(pool: asyncpg.Pool) -> int:
    async with pool.acquire() as connection:
        await sql_upper_bound.prepare(connection, "by_sql")
        await connection.execute(
            sql_upper_bound.statement("by_sql"), timeout=sql_upper_bound.LONG_S
        )
        return await sql_upper_bound.count_differing_rows(connection, "order_view", "by_sql")


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("", "orderly", "naive reader")
    table.add_row("committed events", *[f"{result['committed']:,}"] * 2)
    table.add_row("seen", f"{result['projected']:,}", f"{result['naive_seen']:,}")
    table.add_row("lost", f"{result['lost']:,}", f"{result['naive_lost']:,}")
    console.print(table)
    console.print(
        f"{describe_machine(result['machine'])}; {result['writers']} writers,"
        f" {result['transactions']:,} transactions open for up to {result['hold_ms_max']} ms,"
        f" {result['rolled_back']} more rolled back; {result['kills']} projectors killed."
        f"\n{METHOD}\n"
    )
