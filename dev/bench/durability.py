"""Events lost: writers that commit late and out of order, projectors that fight and are killed."""

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

from dev.bench import machine
from dev.bench import sql_upper_bound as limit
from dev.bench.events import Happened, happened
from dev.bench.report import Json, columns, counted, place
from dev.bench.servers import postgres
from dev.stack.child import Child
from eventlog import log
from eventlog.postgres import connect_pool

EVENTS_PER_TRANSACTION_MAX = 24
ROLLED_BACK_EACH = 20  # One transaction in so many, on average; its events are sent again.
LIVES_S = (1.5, 5.0)  # From one kill to the next.
POLL_S = 0.01
CATCH_UP_S_MAX = 120.0
METHOD = (
    "Writers append through the product's own log, and hold each transaction open at random. Two"
    " projector processes follow at once; one or the other is killed with SIGKILL every few seconds"
    " and started again. The naive reader asks for what is above the highest position it has seen."
)


@dataclass
class Written:
    """What the writers were told."""

    committed: int = 0
    transactions: int = 0
    rolled_back: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=counted, default=50_000, help="that are written")
    parser.add_argument("--writers", type=counted, default=8, help="at the same time")
    parser.add_argument("--hold-ms", type=counted, default=300, help="at most, each transaction")


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Lets them write, project, fight and die; then compares."""
    written = Written()
    async with postgres() as server:
        dsn = await server.database("ours")
        projectors = [
            await server.start_ours("projector", dsn, name=f"projector-{n}") for n in (1, 2)
        ]
        async with await connect_pool(dsn, options.writers + 2) as pool:
            done = asyncio.Event()
            naive = asyncio.create_task(_read_by_position(pool, done))
            killing = asyncio.create_task(_kill_now_and_then(projectors, done))
            console.print(f"{options.writers} writers write {options.events:,} events …")
            async with asyncio.TaskGroup() as writers:
                for number in range(options.writers):
                    events = happened(options.events // options.writers, seed=number)
                    hold_s = options.hold_ms / 1000
                    writers.create_task(_write(pool, events, hold_s, Random(number), written))
            done.set()
            kills, seen = await killing, await naive
            console.print("catching up …")
            projected = await _projected(pool, written.committed)
            logged: int = await pool.fetchval("SELECT count(*) FROM order_events")
            differing = await _differing(pool)
    lost, naive_lost = written.committed - projected, written.committed - seen
    checks = {
        f"{lost} events are lost or counted twice": lost != 0,
        f"{differing} rows of order_view are not those that SQL makes": differing != 0,
        f"{logged} events are in the log": logged != written.committed,
        "the naive reader has lost nothing: the load was none": naive_lost == 0,
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
        "wrong": [words for words, is_so in checks.items() if is_so],
        "machine": machine.description(),
    }


async def _write(
    pool: asyncpg.Pool, events: Iterator[Happened], hold_s_max: float, dice: Random, told: Written
) -> None:
    while some := list(islice(events, dice.randint(1, EVENTS_PER_TRANSACTION_MAX))):
        while dice.randrange(ROLLED_BACK_EACH) == 0:
            await _transact(pool, some, dice.uniform(0, hold_s_max), commit=False)
            told.rolled_back += 1
        await _transact(pool, some, dice.uniform(0, hold_s_max), commit=True)
        told.transactions += 1
        told.committed += len(some)


async def _transact(
    pool: asyncpg.Pool, events: list[Happened], hold_s: float, commit: bool
) -> None:
    by_order = sorted(events, key=itemgetter(0))  # Stable: versions stay in order.
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        for order_id, group in groupby(by_order, key=itemgetter(0)):
            await log.append(connection, order_id, [envelope for _, envelope in group])
        await asyncio.sleep(hold_s)
        await (transaction.commit() if commit else transaction.rollback())


async def _read_by_position(pool: asyncpg.Pool, done: asyncio.Event) -> int:
    """How many events a reader sees that goes by position, until there is nothing more."""
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


async def _kill_now_and_then(projectors: list[Child], done: asyncio.Event) -> int:
    """Kills one or the other, and starts it again; at least once. Returns how often."""
    dice = Random(1)
    kills = 0
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(dice.uniform(*LIVES_S)):
                await done.wait()
        victim = dice.choice(projectors)
        if victim.ending is not None:
            raise RuntimeError(f"{victim.name} {victim.ending}: {victim.program.log.read_text()}")
        await _kill(victim)
        await victim.start()
        kills += 1
        if done.is_set():
            return kills


async def _kill(projector: Child) -> None:
    os.kill(projector.pid, signal.SIGKILL)
    while projector.ending is None:
        await asyncio.sleep(POLL_S)


async def _projected(pool: asyncpg.Pool, expected: int) -> int:
    """How many events the read model has taken in, once they are all there, or time is up."""
    projected = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(CATCH_UP_S_MAX):
            while projected < expected:
                await asyncio.sleep(POLL_S)
                projected = await pool.fetchval(
                    "SELECT coalesce(sum(version), 0)::int FROM order_view.orders"
                )
    return projected


async def _differing(pool: asyncpg.Pool) -> int:
    async with pool.acquire() as connection:
        await limit.prepare(connection, "by_sql")
        await connection.execute(limit.statement("by_sql"), timeout=limit.LONG_S)
        return await limit.differing(connection, "order_view", "by_sql")


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = columns("", "orderly", "naive reader")
    table.add_row("committed events", *[f"{result['committed']:,}"] * 2)
    table.add_row("seen", f"{result['projected']:,}", f"{result['naive_seen']:,}")
    table.add_row("lost", f"{result['lost']:,}", f"{result['naive_lost']:,}")
    console.print(table)
    console.print(
        f"{place(result['machine'])}; {result['writers']} writers, {result['transactions']:,}"
        f" transactions held open for up to {result['hold_ms_max']} ms, {result['rolled_back']}"
        f" more rolled back; {result['kills']} projectors killed.\n{METHOD}\n"
    )
