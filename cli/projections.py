"""`orderly projections`: rebuilds read models, and shows and retries parked orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli.operations import check_order_id, operate
from runtime import EXIT_USAGE, fail

if TYPE_CHECKING:
    from readside.engine.projection import Projection
    from readside.engine.rebuild import RebuildProgress

app = typer.Typer(no_args_is_help=True, help="Rebuild read models, and retry parked orders.")

ReadModel = Annotated[str, typer.Argument(help="Name of the read model, such as order_view.")]


@app.command()
def rebuild(
    name: ReadModel,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Do not swap: projectors of this version do when they start."
        ),
    ] = False,
) -> None:
    """Fill a new read model beside the live one, and swap them; reads continue meanwhile."""
    from readside.engine import rebuild

    projection = _projection(name)

    async def perform(dsn: str) -> None:
        if prepare:
            with _progress_bar(f"filling a new {name}") as report:
                await rebuild.prepare(dsn, projection, report)
            version = f"{name} version {projection.version}"
            print(f"{version} is prepared: its projectors make it live when they start.")
            return
        with _progress_bar(f"filling a new {name}") as report:
            compared = await rebuild.rebuild(dsn, projection, report)
        print(
            f"{name} is rebuilt and live: {compared.different} of {compared.orders} orders differ"
        )
        if compared.examples:
            print(f"from before, such as {', '.join(compared.examples)}.")
        print(f"The old one is kept: `orderly projections rollback {name}` restores it.")

    operate(perform)


@app.command()
def rollback(name: ReadModel) -> None:
    """Restore the read model from before the last rebuild, and bring it up to date."""
    from readside.engine import rebuild

    projection = _projection(name)

    async def perform(dsn: str) -> None:
        await rebuild.rollback(dsn, projection)
        print(f"{name} is as before its rebuild, and up to date.")
        print(f"`orderly projections rollback {name}` restores the rebuilt one.")

    operate(perform)


@app.command()
def parked() -> None:
    """List the orders that a projection fails on, with the error; all others stay up to date."""
    from eventlog.postgres import connect_pool
    from readside.engine import parking

    async def show(dsn: str) -> None:
        async with await connect_pool(dsn) as pool:
            found = await parking.parked_orders(pool)
        for one in found:
            since = f"since {one.parked_at:%Y-%m-%d %H:%M:%S}"
            print(f"{one.order_id}  {one.projection}, version {one.version}, {since}: {one.error}")
        if not found:
            print("No order is parked.")

    operate(show)


@app.command()
def retry(
    order: Annotated[str | None, typer.Argument(help="The order id; without it, all.")] = None,
) -> None:
    """Project parked orders again, once the cause of their errors is fixed."""
    from eventlog.postgres import connect_pool
    from readside.engine import parking

    check_order_id(order)

    async def request(dsn: str) -> None:
        async with await connect_pool(dsn) as pool:
            count = await parking.request_retry(pool, order)
        if order is not None and not count:
            fail(f"Order {order} is not parked.", EXIT_USAGE)
        print(
            f"{count} will be retried within seconds; `orderly projections parked` lists those that"
            " fail again."
        )

    operate(request)


def _projection(name: str) -> Projection:
    from readside.registry import PROJECTIONS

    known = {projection.name: projection for projection in PROJECTIONS}
    if name not in known:
        fail(f"There is no read model {name}; there are: {', '.join(known)}.", EXIT_USAGE)
    return known[name]


@contextmanager
def _progress_bar(description: str) -> Iterator[Callable[[RebuildProgress], None]]:
    """Shows how many events are filled, on a terminal only; yields the function that updates it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    screen = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        Remaining(),
        console=screen,
        disable=not screen.is_terminal,
    ) as progress:
        task = progress.add_task(description)
        yield lambda done: progress.update(task, completed=done.filled, total=done.events)
