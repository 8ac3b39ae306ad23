"""What it costs that a customer's key survives the loss of Postgres: a synchronous standby."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter

import asyncpg
from rich.console import Console

from cli.postgres_programs import find_program, run_program
from dev.bench import machine
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.servers import PostgresServer, postgres, wait_until_connecting
from eventlog import log
from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import connect_pool
from orders.events import NoteAdded
from privacy.keys import PostgresKeys
from worker import PUBLISHING_SETTINGS

STANDBY = "standby"
ABOUT = Metadata(actor="bench", command="add-note", command_id="c", payload_hash="h")
METHOD = (
    "Two Postgres servers on one machine, with fsync; rounds without and with"
    " synchronous_standby_names alternate. One client waits for each commit. A network between the"
    " servers adds its round trip to the keys, and nothing to the events."
)
Work = Callable[[str], Awaitable[object]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--commits", type=positive_integer, default=200, help="in a round, of each")
    parser.add_argument("--rounds", type=positive_integer, default=5, help="of each, alternating")


@asynccontextmanager
async def standby_of(primary: PostgresServer) -> AsyncIterator[str]:
    """A standby that follows a server; yields its DSN. It is asynchronous until it is named."""
    folder = primary.folder / STANDBY
    sockets = primary.folder / "standby-sockets"
    sockets.mkdir(mode=0o700)
    program = primary.process.program
    version = await _scalar(primary.dsn, "SHOW server_version_num")
    await run_program(
        *(find_program("pg_basebackup", int(version) // 10_000), "--pgdata", folder),
        *("--dbname", f"{primary.dsn}&application_name={STANDBY}"),
        *("--write-recovery-conf", "--checkpoint", "fast"),
    )
    if program.user:
        await run_program("chown", "-R", program.user, folder, sockets)
    follower = replace(
        program,
        name=STANDBY,
        command=[program.command[0], "-D", folder, "-k", sockets, "-h", "", "-p", "5432"],
        log=primary.folder / "standby.log",
        environment=os.environ,
    )
    dsn = f"postgresql://postgres@/postgres?host={sockets}&port=5432"
    await wait_until_connecting(await primary.start(follower), dsn)
    yield dsn


async def name_synchronous_standbys(primary: str, names: str) -> None:
    """Lets commits wait for these standbys; for none if there is no name."""
    connection = await asyncpg.connect(primary)
    try:
        await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        await connection.execute("SELECT pg_reload_conf()")
        state = "sync" if names else "async"
        while state != await connection.fetchval("SELECT sync_state FROM pg_stat_replication"):
            pass
    finally:
        await connection.close()


async def _scalar(dsn: str, query: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return str(await connection.fetchval(query))
    finally:
        await connection.close()


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Alternates rounds without and with a synchronous standby."""
    console.print("starting two Postgres servers …")
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"": [], STANDBY: []} for name in ("key", "event")
    }
    async with postgres() as primary:
        dsn = await primary.database("orders")
        async with (
            standby_of(primary),
            await connect_pool(dsn) as keys,
            await connect_pool(dsn, settings=PUBLISHING_SETTINGS) as events,
        ):
            works: dict[str, Work] = {"key": PostgresKeys(keys).current, "event": _append(events)}
            for number in range(options.rounds):
                for names in ("", STANDBY):
                    await name_synchronous_standbys(primary.dsn, names)
                    for name, work in works.items():
                        for n in range(options.commits):
                            began = perf_counter()
                            await work(f"{number}-{names}-{n}")
                            seconds[name][names].append(perf_counter() - began)
                console.print(f"round {number + 1} of {options.rounds}")
    commits = {
        name: {names or "alone": percentiles_ms(each) for names, each in modes.items()}
        for name, modes in seconds.items()
    }
    return {
        "commits_ms": commits,
        "ratio": {
            name: round(modes[STANDBY]["p50"] / modes["alone"]["p50"], 2)
            for name, modes in commits.items()
        },
        "machine": machine.description(),
    }


def _append(pool: asyncpg.Pool) -> Work:
    async def append(order_id: str) -> None:
        event = Envelope.of(NoteAdded(note_id="1", text="hi"), 1, datetime.now(UTC), ABOUT)
        async with pool.acquire() as connection:
            await log.append(connection, order_id, [event])

    return append


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("milliseconds, p50 and p99", "alone", "with a synchronous standby", "×")
    for name, modes in result["commits_ms"].items():
        cells = [f"{ms['p50']:.1f}, {ms['p99']:.1f}" for ms in modes.values()]
        table.add_row(f"a customer's first {name}", *cells, f"{result['ratio'][name]}")
    console.print(table)
    console.print(f"{describe_machine(result['machine'])}.\n{METHOD}")
