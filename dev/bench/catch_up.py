"""Events a second into order_view, catching up and rebuilding, beside pyeventsourcing and SQL."""

from __future__ import annotations

import argparse
import asyncio
from statistics import median
from time import perf_counter

import asyncpg
from rich.console import Console

from dev.bench import machine
from dev.bench import sql_upper_bound as limit
from dev.bench.events import write_log
from dev.bench.report import Json, columns, counted, place
from dev.bench.servers import Ran, postgres, run_python

METHOD = (
    "One Postgres server. Catching up: the projector's own steps, in a process of their own, over a"
    " log that is there already, and by two processes that share it; a rebuild starts from that"
    " again. pyeventsourcing: its Postgres recorders and ProjectionRunner, with the same fold,"
    " document and row for each event, over the first of the same events. SQL: one INSERT … SELECT"
    " … GROUP BY over the same log, into a table with the same indexes. The rows of all are"
    " compared, letter for letter."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=counted, default=200_000, help="in the log")
    parser.add_argument("--theirs", type=counted, default=5_000, help="so many of them for theirs")
    parser.add_argument("--rounds", type=counted, default=3, help="so often SQL does it")


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Fills a log, and has each side project it."""
    events, theirs = options.events, min(options.theirs, options.events)
    ran: dict[str, Ran] = {}
    async with postgres() as server:
        console.print(f"writing a log of {events:,} events …")
        ours = await server.database("ours")
        await write_log(ours, events)
        for name in ("catch_up", "rebuild"):
            console.print(f"{name.replace('_', ' ')} …")
            ran[name] = await run_python("-m", "dev.bench.orderly_projector", name, ours)
            wrong, sql_s = await _compared(ours, options.rounds)
            if wrong:
                break
        console.print("catch up with two processes …")
        two = await server.database("two")
        await write_log(two, events)
        two_s = await _by_two(two)
        wrong += (await _compared(two, 1))[0]
        console.print("pyeventsourcing …")
        other = await server.database("theirs")
        their = await run_python(
            "-m", "dev.bench.pyeventsourcing_baseline", "catch_up", other, str(theirs)
        )
        await write_log(other, theirs)
        wrong += (await _compared(other, 1))[0]
    rates = {name: events / float(one.printed) for name, one in ran.items()}
    rates["by_two"] = events / two_s
    their_rate, sql_rate = theirs / float(their.printed), events / sql_s
    return {
        "events": events,
        "per_second": {
            **{name: round(rate) for name, rate in rates.items()},
            "pyeventsourcing": round(their_rate),
            "sql": round(sql_rate),
        },
        "to_pyeventsourcing": {n: round(rate / their_rate, 1) for n, rate in rates.items()},
        "to_sql": {name: round(rate / sql_rate, 3) for name, rate in rates.items()},
        "resident_mb": {name: _quarters(one.resident_mb) for name, one in ran.items()},
        "wrong": [f"{wrong} rows of order_view are not those that SQL makes"] if wrong else [],
        "machine": machine.description(),
    }


async def _by_two(dsn: str) -> float:
    """The seconds that two processes take which share the slices."""
    both = (run_python("-m", "dev.bench.orderly_projector", "catch_up_half", dsn) for _ in range(2))
    times = [[float(at) for at in one.printed.split()] for one in await asyncio.gather(*both)]
    return max(ended for _, ended in times) - min(began for began, _ in times)


async def _compared(dsn: str, rounds: int) -> tuple[int, float]:
    """How many rows of order_view are not those that SQL makes, and the seconds it makes them in.

    They are the median of so many rounds.
    """
    connection = await asyncpg.connect(dsn)
    took: list[float] = []
    try:
        for _ in range(rounds):
            await limit.prepare(connection, "by_sql")
            began = perf_counter()
            await connection.execute(limit.statement("by_sql"))
            took.append(perf_counter() - began)
        return await limit.differing(connection, "order_view", "by_sql"), median(took)
    finally:
        await connection.close()


def _quarters(samples: list[float]) -> list[float]:
    """What a quarter, half, three quarters and all of the way through were sampled."""
    return [round(samples[(len(samples) - 1) * n // 4], 1) for n in (1, 2, 3, 4)]


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = columns("", "events a second", "× pyeventsourcing", "× SQL", "MB at 25/50/75/100 %")
    for name, rate in result["per_second"].items():
        megabytes = " / ".join(f"{mb:.0f}" for mb in result["resident_mb"].get(name, []))
        ratios = [str(result[to].get(name, "")) for to in ("to_pyeventsourcing", "to_sql")]
        table.add_row(name.replace("_", " "), f"{rate:,}", *ratios, megabytes)
    console.print(table)
    console.print(f"{place(result['machine'])}; {result['events']:,} events.\n{METHOD}\n")
