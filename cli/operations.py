"""Operator's commands on a running orderly: `migrate`, `order`, `verify`, `resume`, `erase`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.confirmation import Yes, confirm
from cli.info_file import DEFAULT, InfoFile, use_running_stack
from runtime import EXIT_FAILED, EXIT_USAGE, fail, load_settings, run

if TYPE_CHECKING:
    import asyncpg
    from temporalio.client import Client

    from settings import Settings

PANEL = "Operations, on the database in ORDERLY_POSTGRES_DSN, or of a running `orderly up`"
EXIT_DIFFERENT = 1
EXIT_NOT_COMPARED = 2
"""Of a command whose exit code 1 is a finding, if it could not look."""

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def migrate() -> None:
    """Create and upgrade all tables; safe to run at any time."""
    from readside.engine.migrate import migrate
    from readside.registry import PROJECTIONS

    async def apply(dsn: str) -> None:
        applied = await migrate(dsn, PROJECTIONS)
        print("\n".join(applied) or "Nothing to do.")

    operate(apply)


@app.command(rich_help_panel=PANEL)
def order(
    order_id: Annotated[str, typer.Argument(metavar="ORDER", help="The order id.")],
    info_file: InfoFile = DEFAULT,
) -> None:
    """Tell what happened to an order, when, who asked for it, and what the order waits for."""
    from cli.order_story import NoSuchOrder, read, story
    from eventlog.postgres import connect_pool

    check_order_id(order_id)
    use_running_stack(info_file)

    async def show(dsn: str) -> None:
        async with await connect_pool(dsn) as pool:
            try:
                found = await read(pool, order_id)
            except NoSuchOrder as error:
                fail(error, EXIT_USAGE)
        print("\n".join(story(found)))

    operate(show)


@app.command(rich_help_panel=PANEL)
def erase(
    customer: Annotated[str, typer.Argument(help="The customer id.")], yes: Yes = False
) -> None:
    """Erase a customer's personal data in all orders, at once and for ever."""
    from pydantic import TypeAdapter, ValidationError

    from eventlog.postgres import connect_pool
    from field_errors import words_for
    from orders.text import CustomerId
    from privacy.keys import PostgresKeys
    from readside.order_view.queries import count_open_with_address

    async def perform(dsn: str) -> None:
        async with await connect_pool(dsn) as pool:
            orders = await count_open_with_address(pool, customer)
            lose = (
                "1 open order loses its address"
                if orders == 1
                else (f"{orders:,} open orders lose their addresses")
            )
            confirm(
                f"This erases the personal data of customer {customer} for ever: {lose}.", yes=yes
            )
            keys = await PostgresKeys(pool).erase(customer)
        print(f"Customer {customer} is erased." if keys else f"Nothing to erase of {customer}.")

    try:
        TypeAdapter(CustomerId).validate_python(customer)
    except ValidationError as error:
        fail(f"The customer id {words_for(error.errors()[0])[1]}.", EXIT_USAGE)
    operate(perform)


@app.command("forget-key", rich_help_panel=PANEL)
def forget_key(
    key: Annotated[str, typer.Argument(help="The id of the key, from the log.")],
    yes: Yes = False,
) -> None:
    """Mark a lost key as erased: its addresses read as erased instead of unreadable."""
    from eventlog.postgres import connect_pool
    from privacy.keys import PostgresKeys

    async def perform(dsn: str) -> None:
        async with await connect_pool(dsn) as pool:
            marked = await PostgresKeys(pool).forget(key)
        if not marked:
            fail(f"The key {key} is not lost: the database has it, or its erasure.", EXIT_USAGE)
        print(f"Key {key} is marked as erased.")

    confirm(f"The addresses under the key {key} read as erased from then on.", yes=yes)
    operate(perform)


@app.command(rich_help_panel=PANEL)
def verify(
    sample: Annotated[
        int | None, typer.Option(min=1, help="Verify only this many orders, picked at random.")
    ] = None,
    history: Annotated[
        bool, typer.Option(help="Compare the log with Temporal's histories too.")
    ] = True,
    state: Annotated[
        bool,
        typer.Option("--state", help="Compare the state of each running order with its events."),
    ] = False,
) -> None:
    """Fold orders from the log and from Temporal's history, and print differences to the views."""
    from rich.console import Console

    from cli.verify import Report, verify
    from eventlog.journal import find_gaps
    from eventlog.postgres import connect_pool

    if state and not history:
        fail("--state asks the orders in Temporal: leave out --no-history.", EXIT_USAGE)
    task_queue = load_task_queue()

    async def compare(dsn: str) -> int:
        report = Report()
        with temporal_errors(EXIT_NOT_COMPARED):
            client = await connect_temporal(EXIT_NOT_COMPARED) if history else None
            async with await connect_pool(dsn) as pool:
                with Console(stderr=True).status("folding …") as status:
                    async for report in verify(pool, client, sample, task_queue, states=state):
                        status.update(f"{report.orders:,} orders folded")
                gaps = await find_gaps(pool)
        for line in [*report.differences, *([gaps] if gaps else [])]:
            print(line)
        print(
            f"{report.orders:,} orders folded from the log, {report.histories:,} compared with "
            f"Temporal's history, {report.parked:,} parked: {len(report.differences):,} differences"
        )
        if state:
            print(
                f"The state of {report.states:,} running orders was compared with their events; "
                f"{report.other_versions:,} run in another version."
            )
        return EXIT_DIFFERENT if report.differences else 0

    operate(compare, exit_failed=EXIT_NOT_COMPARED)


@app.command(rich_help_panel=PANEL)
def resume(
    order: Annotated[
        str | None,
        typer.Argument(help="The order id; without it, all that the running check has found."),
    ] = None,
    from_log: Annotated[
        bool,
        typer.Option(
            help="Continue from the log alone: what the workflow had not published is lost."
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Start the workflow of an orphaned order again, where it was terminated or has vanished."""
    from cli.resume import NotResumed, resume

    check_order_id(order)
    if from_log:
        confirm("What the workflow had not published is lost for ever.", yes=yes)

    async def perform(pool: asyncpg.Pool, client: Client, task_queue: str) -> None:
        try:
            async for done in resume(client, pool, task_queue, order, from_log=from_log):
                print(done)
        except NotResumed as error:
            fail(error, error.exit_code)

    operate_on_both(perform)


def operate(
    work: Callable[[str], Coroutine[Any, Any, int | None]],
    dsn: str | None = None,
    exit_failed: int = EXIT_FAILED,
) -> None:
    """Runs `work` on a database, or that of the settings, and exits.

    Errors of the database are one sentence, with the exit code `exit_failed`.
    """
    from asyncpg import PostgresError

    from eventlog.postgres import OTHER_TABLES, UNAVAILABLE
    from readside.engine.rebuild import RebuildError

    address = dsn or load_settings(_settings).postgres_dsn

    async def perform() -> int | None:
        try:
            return await work(address)
        except OTHER_TABLES as error:
            sentence = f"The tables are not those of this release: {error}; run `orderly migrate`."
            fail(sentence, exit_failed)
        except (*UNAVAILABLE, PostgresError) as error:
            if isinstance(error, OSError) and error.filename:  # A file, and no connection.
                fail(f"{error.filename} cannot be used: {error.strerror}.", EXIT_USAGE)
            reason = str(error).rstrip(".") or "it does not answer"
            fail(f"Postgres cannot be used: {reason}.", exit_failed)

    run(perform(), {RebuildError: EXIT_FAILED})


def operate_on_both(
    perform: Callable[[asyncpg.Pool, Client, str], Awaitable[int | None]],
    exit_failed: int = EXIT_FAILED,
) -> None:
    """Runs `perform` with connections to Postgres and to Temporal, and the task queue."""
    from eventlog.postgres import connect_pool

    task_queue = load_task_queue()

    async def connected(dsn: str) -> int | None:
        with temporal_errors(exit_failed):
            client = await connect_temporal(exit_failed)
            async with await connect_pool(dsn) as pool:
                return await perform(pool, client, task_queue)

    operate(connected, exit_failed=exit_failed)


async def connect_temporal(exit_failed: int = EXIT_FAILED) -> Client:
    """A client of Temporal; exits if there is no server, or it has another namespace."""
    from workflows.client import UnknownNamespace, check_namespace, connect

    try:
        client = await connect()
    except ConnectionError as error:
        fail(error, exit_failed)
    try:
        await check_namespace(client)
    except UnknownNamespace as error:
        fail(error, EXIT_USAGE)
    return client


@contextmanager
def temporal_errors(exit_failed: int = EXIT_FAILED) -> Iterator[None]:
    """Exits with one sentence if Temporal fails inside."""
    from temporalio.service import RPCError

    try:
        yield
    except RPCError as error:
        fail(f"Temporal cannot be used: {str(error).rstrip('.')}. Run it again.", exit_failed)


def check_order_id(order_id: str | None) -> None:
    """Exits if an order id is empty, as that of a variable that is not set."""
    if order_id is not None and not order_id.strip():
        fail("The order id is empty: name an order.", EXIT_USAGE)


def load_task_queue() -> str:
    """The task queue of the settings; exits if they cannot be used."""
    return load_settings(_settings).task_queue


def _settings() -> Settings:
    from settings import Settings, from_environment

    use_running_stack()
    return from_environment(Settings)


def write_json(file: Path | None, result: object) -> None:
    """Writes a result for a program, if a file is named for it."""
    if file is not None:
        with writing(file):
            file.write_text(json.dumps(result, indent=2) + "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Exits with one sentence if a file or a folder cannot be written inside."""
    try:
        yield
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}.", EXIT_USAGE)
