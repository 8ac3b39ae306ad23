"""What gets slower with the length of the log: each operation on a long log and on a short one."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from random import Random
from statistics import median
from time import perf_counter

import asyncpg
from rich.console import Console

from dev.bench import machine
from dev.bench.long_log_data import long_log
from dev.bench.long_log_operations import LONG, SHORT, Prepare, Subject, time_s
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.bench.servers import postgres
from eventlog.postgres import connect_pool

SHORT_EVENTS = 100_000
RATIO_MAX = 1.3
WARM_UPS = 20
CHECKED_ORDERS = 50
SETTINGS = ("shared_buffers=2GB", "max_wal_size=8GB", "maintenance_work_mem=1GB", "autovacuum=off")
METHOD = (
    "Two databases of one Postgres server, which take turns. Orders have 20 events, and a thousand"
    " of them alternate; the orders, customers and places in the log are drawn at random, so the"
    " append is to an order that no recent event belongs to. Catching up is the projector's own"
    " code in a separate process, on 20,000 events of new orders. Ratios are of medians."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=positive_integer, default=1_000_000, help="in the log")
    parser.add_argument("--samples", type=positive_integer, default=200, help="of a round")
    parser.add_argument("--rounds", type=positive_integer, default=5, help="of each operation")
    parser.add_argument(
        "--partitioned", action="store_true", help="split both logs by a hash of the order id"
    )


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Writes both logs, and measures each operation on both in turn."""
    async with postgres(*SETTINGS) as server, AsyncExitStack() as exit_stack:
        subjects = []
        for name, events in (("short", SHORT_EVENTS), ("long", options.events)):
            console.print(f"writing a log of {events:,} events …")
            began = perf_counter()
            data = await exit_stack.enter_async_context(
                long_log(server, name, events, is_partitioned=options.partitioned)
            )
            console.print(f"  in {perf_counter() - began:.0f} s")
            pool = await exit_stack.enter_async_context(await connect_pool(data.dsn, 2))
            subjects.append(Subject(server, data, pool))
        sizes_mb = [await _sizes_mb(subject.pool) for subject in subjects]
        wrong = sum([await one.count_wrong_rows(Random(2), CHECKED_ORDERS) for one in subjects])
        operations = await _measure_all(subjects, options, console)
    return {
        "events": [SHORT_EVENTS, options.events],
        "is_partitioned": options.partitioned,
        "operations": operations,
        "slower": [name for name, one in operations.items() if one["ratio"] > RATIO_MAX],
        "sizes_mb": sizes_mb,
        "failures": [f"{wrong} rows of order_view are wrong"] if wrong else [],
        "machine": machine.description(),
    }


async def _measure_all(
    subjects: list[Subject], options: argparse.Namespace, console: Console
) -> dict[str, Json]:
    dice, operations = Random(3), {}
    for name, prepare in SHORT.items():
        for subject in subjects:
            await _median_ms(subject, prepare, WARM_UPS, dice)
        rounds = [
            [await _median_ms(subject, prepare, options.samples, dice) for subject in subjects]
            for _ in range(options.rounds)
        ]
        operations[name] = _compare(rounds)
        console.print(f"{name}: {operations[name]['ratio']}")
    for name, run in LONG.items():
        rounds = [
            [1_000 * await run(subject) for subject in subjects] for _ in range(options.rounds)
        ]
        operations[name] = _compare(rounds)
        console.print(f"{name}: {operations[name]['ratio']}")
    return operations


async def _median_ms(subject: Subject, prepare: Prepare, samples: int, dice: Random) -> float:
    return 1_000 * median([await time_s(await prepare(subject, dice)) for _ in range(samples)])


def _compare(rounds: list[list[float]]) -> Json:
    short, long = ([round(ms, 3) for ms in of_one] for of_one in zip(*rounds, strict=True))
    return {
        "short_ms": round(median(short), 3),
        "long_ms": round(median(long), 3),
        "ratio": round(median(long) / median(short), 2),
        "ms_rounds": {"short": short, "long": long},
    }


async def _sizes_mb(pool: asyncpg.Pool) -> Json:
    """The megabytes of the log's rows and of its indexes."""
    row = await pool.fetchrow(
        """
        SELECT sum(pg_table_size(relid)) AS rows, sum(pg_indexes_size(relid)) AS indexes
        FROM (SELECT 'order_events'::regclass UNION ALL SELECT inhrelid FROM pg_inherits
              WHERE inhparent = 'order_events'::regclass) AS parts (relid)
        """
    )
    assert row is not None
    return {name: round(size / 2**20) for name, size in row.items()}


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    few, many = (f"{events:,} events" for events in result["events"])
    table = numeric_table("medians, ms", few, many, "ratio")
    for name, one in result["operations"].items():
        table.add_row(name, f"{one['short_ms']:,}", f"{one['long_ms']:,}", f"{one['ratio']}")
    for part in ("rows", "indexes"):
        table.add_row(f"MB of {part}", *[f"{size[part]:,}" for size in result["sizes_mb"]], "")
    console.print(table)
    kind = "partitioned by a hash of the order id" if result["is_partitioned"] else "one table"
    console.print(f"{describe_machine(result['machine'])}; the log is {kind}.\n{METHOD}\n")
