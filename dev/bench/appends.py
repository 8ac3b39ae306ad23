"""Appends per second by concurrent writers, compared with the same INSERT without guarantees."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from secrets import token_hex
from statistics import median
from time import perf_counter

import asyncpg
from rich.console import Console

from dev.bench import machine
from dev.bench.events import EVENTS_PER_ORDER, generate_order
from dev.bench.hearing import measure_hearing
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.bench.servers import postgres
from eventlog import log
from eventlog.announcements import CHANNEL, Announcer
from eventlog.envelope import Envelope
from eventlog.postgres import Connection, connect_pool, listening

WRITERS = (1, 8, 32)
EVENTS_PER_APPEND = (1, 5)
METHOD = (
    "One Postgres server; writers in one process, each with a connection. orderly: the append of"
    " the log, announced after the commit. INSERT: the same rows into a table with the same indexes"
    " and no trigger, without a lock and without a conflict clause. NOTIFY: that INSERT with a"
    " trigger that notifies. A listener is connected. The three take turns in each round; ratios"
    " are to the INSERT of the round. Idle: one event at a time; the delay is from the commit until"
    " a reader of the stream has the event, and until order_view has it, in other processes."
)

Events = Sequence[Envelope]
Append = Callable[[Connection, str, Events], Awaitable[None]]

_TABLES = f"""
CREATE TABLE bare_events (LIKE order_events INCLUDING ALL);
CREATE TABLE notifying_events (LIKE order_events INCLUDING ALL);
CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NOTIFY {CHANNEL}; RETURN NULL; END $$;
CREATE TRIGGER notified AFTER INSERT ON notifying_events
    FOR EACH STATEMENT EXECUTE FUNCTION notify();
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=positive_integer, default=7, help="of all three")
    parser.add_argument("--seconds", type=positive_integer, default=1, help="of each turn")
    parser.add_argument("--samples", type=positive_integer, default=300, help="when idle")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Lets the systems take turns, for each number of writers and of events in an append."""
    async with postgres("max_connections=200") as server:
        dsn = await server.database("orderly")
        async with await connect_pool(dsn, max(WRITERS)) as pool, listening(dsn, CHANNEL, _ignore):
            await pool.execute(_TABLES)
            announcer = Announcer(pool)
            cases = []
            for writers in WRITERS:
                for size in EVENTS_PER_APPEND:
                    rounds = [
                        await _round(pool, announcer, writers, size, number, options.seconds)
                        for number in range(options.rounds + 1)
                    ][1:]  # The first warms up.
                    cases.append({"writers": writers, "events": size, **_summarize(rounds)})
                    console.print(f"{writers} writers, {size} events: {cases[-1]['ratio']}")
        idle_ms = await measure_hearing(server, options.samples, console)
    return {"cases": cases, "idle_ms": idle_ms, "machine": machine.description()}


def _ignore(_: str) -> None:
    pass


async def _round(
    pool: asyncpg.Pool, announcer: Announcer, writers: int, size: int, number: int, seconds: float
) -> dict[str, float]:
    """Appends per second of each system; they alternate in going first."""

    async def orderly(connection: Connection, order_id: str, events: Events) -> None:
        await log.append(connection, order_id, events)
        announcer.announce_soon()

    systems = {
        "insert": _insert_into("bare_events"),
        "orderly": orderly,
        "notify": _insert_into("notifying_events"),
    }
    names = sorted(systems, reverse=number % 2 == 0)
    return {name: await _turn(pool, systems[name], writers, size, seconds) for name in names}


async def _turn(
    pool: asyncpg.Pool, append: Append, writers: int, size: int, seconds: float
) -> float:
    ends_at = perf_counter() + seconds

    async def write() -> int:
        appends = 0
        for order_id, events in _batches(size):
            async with pool.acquire() as connection:
                await append(connection, order_id, events)
            appends += 1
            if perf_counter() > ends_at:
                break
        return appends

    began = perf_counter()
    appends = sum(await asyncio.gather(*(write() for _ in range(writers))))
    return appends / (perf_counter() - began)


def _batches(size: int) -> Iterator[tuple[str, Events]]:
    """Batches of consecutive events, order after order."""
    template = generate_order()
    while True:
        order_id = token_hex(13)
        for first in range(0, EVENTS_PER_ORDER, size):
            yield order_id, template[first : first + size]


def _insert_into(table: str) -> Append:
    statement = f"""
        INSERT INTO {table} (order_id, version, type, schema_version, occurred_at, data, metadata)
        SELECT $1, new.* FROM unnest(
            $2::int[], $3::text[], $4::int[], $5::timestamptz[], $6::jsonb[], $7::jsonb[]
        ) AS new
    """

    async def insert(connection: Connection, order_id: str, events: Events) -> None:
        await connection.execute(
            statement,
            order_id,
            [e.version for e in events],
            [e.type for e in events],
            [e.schema_version for e in events],
            [e.occurred_at for e in events],
            [e.data for e in events],
            [e.metadata.model_dump(exclude_none=True) for e in events],
        )

    return insert


def _summarize(rounds: Sequence[dict[str, float]]) -> Json:
    ratios = [one["orderly"] / one["insert"] for one in rounds]
    return {
        "per_second": {name: round(median(one[name] for one in rounds)) for name in rounds[0]},
        "ratio": round(median(ratios), 2),
        "ratio_rounds": [round(ratio, 2) for ratio in ratios],
    }


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table(
        "appends per second", "INSERT", "orderly", "NOTIFY", "orderly ÷ INSERT", "by round"
    )
    for case in result["cases"]:
        label = f"{case['writers']} writers, {case['events']} events each"
        rates = [f"{case['per_second'][name]:,}" for name in ("insert", "orderly", "notify")]
        by_round = f"{min(case['ratio_rounds'])} to {max(case['ratio_rounds'])}"
        table.add_row(label, *rates, f"{case['ratio']}", by_round)
    console.print(table)
    idle = numeric_table("idle, from the commit, ms", "p50", "p99")
    for name, ms in result["idle_ms"].items():
        idle.add_row(name, *[f"{ms[p]:,.1f}" for p in ("p50", "p99")])
    console.print(idle)
    console.print(f"{describe_machine(result['machine'])}.\n{METHOD}\n")
