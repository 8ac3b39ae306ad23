"""What an operator does to a running orderly: `orderly migrate`, `rebuild`, `verify` and so on."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime import EXIT_FAILED, EXIT_USAGE, fail, finish, settings

# What a command needs is imported inside it: `orderly --help` answers at once.
if TYPE_CHECKING:
    from readside.engine.projection import Projection

EXIT_DIFFERENT = 1

app = typer.Typer()

ReadModel = Annotated[str, typer.Argument(help="Which read model, such as order_view.")]


@app.command()
def migrate() -> None:
    """Bring the tables in ORDERLY_POSTGRES_DSN up to date; safe at any time."""
    from readside.engine.migrate import migrate
    from readside.registry import PROJECTIONS

    async def apply() -> None:
        applied = await migrate(settings().postgres_dsn, PROJECTIONS)
        print("\n".join(applied) or "Nothing to do.")

    operate(apply())


@app.command()
def erase(customer: Annotated[str, typer.Argument(help="Whom to forget: a customer id.")]) -> None:
    """Forget a customer: what is personal in their orders reads as erased, at once and for ever."""
    from pydantic import TypeAdapter, ValidationError

    from eventlog.postgres import connect_pool
    from orders.text import CustomerId
    from privacy.keys import PostgresKeys

    async def forget() -> None:
        async with await connect_pool(settings().postgres_dsn) as pool:
            keys = await PostgresKeys(pool).erase(customer)
        print(f"Customer {customer} is erased." if keys else f"Nothing to erase of {customer}.")

    try:
        TypeAdapter(CustomerId).validate_python(customer)
    except ValidationError:
        fail("CUSTOMER must be a customer id: at most 64 letters, digits and ._:~|-.", EXIT_USAGE)
    operate(forget())


@app.command()
def rebuild(name: ReadModel) -> None:
    """Make a read model anew beside the live one, and swap them; readers notice nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from readside.engine import rebuild

    projection = projection_named(name)

    async def perform() -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        screen = Console(stderr=True)
        with Progress(
            *columns,
            TextColumn("events"),
            Remaining(),
            console=screen,
            disable=not screen.is_terminal,
        ) as progress:
            task = progress.add_task(f"filling a new {name}")

            def tell(filled: rebuild.RebuildProgress) -> None:
                progress.update(task, completed=filled.filled, total=filled.events)

            compared = await rebuild.rebuild(settings().postgres_dsn, projection, tell)
        print(
            f"{name} is rebuilt and live: {compared.different} of {compared.orders} orders differ"
        )
        if compared.examples:
            print(f"from before, such as {', '.join(compared.examples)}.")
        print(f"The old one is kept: `orderly rollback {name}` puts it back.")

    operate(perform())


@app.command()
def rollback(name: ReadModel) -> None:
    """Put the read model from before the last rebuild back, brought up to date."""
    from readside.engine import rebuild

    projection = projection_named(name)

    async def perform() -> None:
        await rebuild.rollback(settings().postgres_dsn, projection)
        print(f"{name} is as before its rebuild, and up to date; `orderly rollback {name}` again")
        print("puts the rebuilt one back.")

    operate(perform())


@app.command()
def parked() -> None:
    """List the orders that a read model cannot digest, and why; all other orders go on."""
    from eventlog.postgres import connect_pool
    from readside.engine import parking

    async def show() -> None:
        async with await connect_pool(settings().postgres_dsn) as pool:
            found = await parking.parked_orders(pool)
        for one in found:
            since = f"since {one.parked_at:%Y-%m-%d %H:%M:%S}"
            print(f"{one.order_id}  {one.projection}, version {one.version}, {since}: {one.error}")
        if not found:
            print("No order is parked.")

    operate(show())


@app.command()
def retry(
    order: Annotated[str | None, typer.Argument(help="Which order; without it, all.")] = None,
) -> None:
    """Have the projectors try parked orders again, once what parked them is mended."""
    from eventlog.postgres import connect_pool
    from readside.engine import parking

    async def ask() -> None:
        async with await connect_pool(settings().postgres_dsn) as pool:
            asked = await parking.request_retry(pool, order)
        if order is not None and not asked:
            fail(f"Order {order} is not parked.", EXIT_USAGE)
        print(f"{asked} will be tried again within seconds; `orderly parked` lists what is left.")

    operate(ask())


@app.command()
def verify(
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only so many orders, picked at random.")
    ] = None,
    history: Annotated[
        bool, typer.Option(help="Also compare the log with Temporal's history, while that lasts.")
    ] = True,
) -> None:
    """Fold orders again, from the log and from Temporal's history, and print what differs."""
    from rich.console import Console

    from cli.verify import Report, verify
    from eventlog.postgres import connect_pool
    from workflows.client import connect

    async def compare() -> int:
        report = Report()
        try:
            client = await connect() if history else None
        except ConnectionError as error:
            fail(error, EXIT_FAILED)
        async with await connect_pool(settings().postgres_dsn) as pool:
            with Console(stderr=True).status("folding …") as status:
                async for report in verify(pool, client, sample):
                    status.update(f"{report.orders:,} orders folded")
        for difference in report.differences:
            print(difference)
        print(
            f"{report.orders:,} orders folded from the log, {report.histories:,} compared with "
            f"Temporal's history, {report.parked:,} parked: {len(report.differences):,} differences"
        )
        return EXIT_DIFFERENT if report.differences else 0

    operate(compare())


def projection_named(name: str) -> Projection:
    """A projection by its name; ends the process if there is none of that name."""
    from readside.registry import PROJECTIONS

    known = {projection.name: projection for projection in PROJECTIONS}
    if name not in known:
        fail(f"There is no read model {name}; there are: {', '.join(known)}.", EXIT_USAGE)
    return known[name]


def operate(work: Coroutine[Any, Any, int | None]) -> None:
    """Runs `work` to its end; says in a sentence if Postgres is away or it cannot be done."""
    from asyncpg import PostgresError

    from eventlog.postgres import UNAVAILABLE
    from readside.engine.rebuild import RebuildError

    async def perform() -> int | None:
        try:
            return await work
        except RebuildError as error:
            fail(error, EXIT_FAILED)
        except (*UNAVAILABLE, PostgresError) as error:
            reason = str(error).rstrip(".") or "it does not answer"
            fail(f"Postgres cannot be used: {reason}.", EXIT_FAILED)

    finish(perform())
