"""Events per second into order_view, compared with pyeventsourcing and with one SQL statement."""

from __future__ import annotations

import argparse
import asyncio
from statistics import median
from time import perf_counter

import asyncpg
from rich.console import Console

from dev.bench import machine, sql_upper_bound
from dev.bench.events import write_log
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.bench.servers import CompletedRun, PostgresServer, postgres, run_python

METHOD = (
    "One Postgres server. Catching up: the projector's own code in a separate process, over an"
    " existing log, and in two processes that share it; then a rebuild of the same read model."
    " pyeventsourcing: its Postgres recorders and ProjectionRunner, with the same fold, document"
    " and row for each event, over the first of the same events. SQL: one INSERT … SELECT … GROUP"
    " BY over the same log, into a table with the same indexes. The rows of all are compared,"
    " character by character."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=positive_integer, default=200_000, help="in the log")
    parser.add_argument(
        "--baseline-events",
        type=positive_integer,
        default=5_000,
        help="of them for pyeventsourcing",
    )
    parser.add_argument("--rounds", type=positive_integer, default=3, help="of the SQL statement")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Fills a log, and lets each system project it."""
    events, baseline_events = options.events, min(options.baseline_events, options.events)
    async with postgres() as server:
        runs, sql_s, differing = await _catch_up_and_rebuild(server, options, console)
        two_s, more = await _catch_up_by_two(server, events, console)
        differing += more
        baseline_s, more = await _catch_up_baseline(server, baseline_events, console)
        differing += more
    rates = {name: events / float(run.output) for name, run in runs.items()}
    rates["two_processes"] = events / two_s
    baseline_rate, sql_rate = baseline_events / baseline_s, events / sql_s
    return {
        "events": events,
        "per_second": {
            **{name: round(rate) for name, rate in rates.items()},
            "pyeventsourcing": round(baseline_rate),
            "sql": round(sql_rate),
        },
        "ratio_to_pyeventsourcing": {n: round(r / baseline_rate, 1) for n, r in rates.items()},
        "ratio_to_sql": {name: round(rate / sql_rate, 3) for name, rate in rates.items()},
        "resident_mb": {name: _quartiles(run.resident_mb) for name, run in runs.items()},
        "failures": [f"{differing} rows of order_view differ from SQL's"] if differing else [],
        "machine": machine.description(),
    }


async def _catch_up_and_rebuild(
    server: PostgresServer, options: argparse.Namespace, console: Console
) -> tuple[dict[str, CompletedRun], float, int]:
    """The runs of one process, the seconds of SQL, and the number of differing rows."""
    console.print(f"writing a log of {options.events:,} events …")
    dsn = await server.database("orderly")
    await write_log(dsn, options.events)
    runs: dict[str, CompletedRun] = {}
    for name in ("catch_up", "rebuild"):
        console.print(f"{name.replace('_', ' ')} …")
        runs[name] = await run_python("-m", "dev.bench.orderly_projector", name, dsn)
        differing, sql_s = await _compare_with_sql(dsn, options.rounds)
        if differing:
            break
    return runs, sql_s, differing


async def _catch_up_by_two(
    server: PostgresServer, events: int, console: Console
) -> tuple[float, int]:
    """The seconds of two processes that share the slices, and the number of differing rows."""
    console.print("catch up with two processes …")
    dsn = await server.database("two_processes")
    await write_log(dsn, events)
    both = (run_python("-m", "dev.bench.orderly_projector", "catch_up_half", dsn) for _ in range(2))
    times = [[float(at) for at in run.output.split()] for run in await asyncio.gather(*both)]
    seconds = max(ended for _, ended in times) - min(began for began, _ in times)
    return seconds, (await _compare_with_sql(dsn, 1))[0]


async def _catch_up_baseline(
    server: PostgresServer, events: int, console: Console
) -> tuple[float, int]:
    """The seconds of pyeventsourcing, and the number of differing rows."""
    console.print("pyeventsourcing …")
    dsn = await server.database("baseline")
    arguments = ("-m", "dev.bench.pyeventsourcing_baseline", "catch_up", dsn, str(events))
    run = await run_python(*arguments)
    await write_log(dsn, events)
    return float(run.output), (await _compare_with_sql(dsn, 1))[0]


async def _compare_with_sql(dsn: str, rounds: int) -> tuple[int, float]:
    """How many rows of order_view differ from SQL's, and SQL's median seconds."""
    connection = await asyncpg.connect(dsn)
    seconds: list[float] = []
    try:
        for _ in range(rounds):
            await sql_upper_bound.prepare(connection, "by_sql")
            began = perf_counter()
            await connection.execute(sql_upper_bound.statement("by_sql"))
            seconds.append(perf_counter() - began)
        differing = await sql_upper_bound.count_differing_rows(connection, "order_view", "by_sql")
        return differing, median(seconds)
    finally:
        await connection.close()


def _quartiles(samples: list[float]) -> list[float]:
    """The samples after a quarter, half, three quarters and all of the time."""
    return [round(samples[(len(samples) - 1) * n // 4], 1) for n in (1, 2, 3, 4)]


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    names = ("", "events per second", "× pyeventsourcing", "× SQL", "MB at 25/50/75/100 %")
    table = numeric_table(*names)
    for name, rate in result["per_second"].items():
        megabytes = " / ".join(f"{mb:.0f}" for mb in result["resident_mb"].get(name, []))
        ratios = [
            str(result[to].get(name, "")) for to in ("ratio_to_pyeventsourcing", "ratio_to_sql")
        ]
        table.add_row(name.replace("_", " "), f"{rate:,}", *ratios, megabytes)
    console.print(table)
    console.print(
        f"{describe_machine(result['machine'])}; {result['events']:,} events.\n{METHOD}\n"
    )
