"""Operator's commands for versions: `versions`, `move-orders`, `stuck`, `repair`, `record`, …"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import operations
from cli.operations import EXIT_NOT_COMPARED, check_order_id, operate_on_both, writing
from runtime import EXIT_FAILED, EXIT_USAGE, fail

if TYPE_CHECKING:
    import asyncpg
    from temporalio.client import Client

    from workflows.versions import Version

app = typer.Typer()


@app.command(rich_help_panel=operations.PANEL)
def versions() -> None:
    """List the versions of the workers, with their orders and workers; takes five seconds."""
    from workflows.versions import find_versions
    from workflows.worker_heartbeats import heard_of

    async def show(_pool: asyncpg.Pool, client: Client, task_queue: str) -> int:
        found = await find_versions(client, task_queue, await heard_of(client, task_queue))
        print(f"{'version':<32}{'state':<16}{'orders':>8}{'workers':>9}")
        for version in found:
            print(_line(version))
        return EXIT_FAILED if any(version.is_deserted for version in found) else 0

    operate_on_both(show, EXIT_NOT_COMPARED)


def _line(version: Version) -> str:
    share = f" {version.percentage:g} %" if version.role == "ramping" else ""
    workers = "unknown" if version.workers is None else f"{version.workers:,}"
    line = f"{version.name:<32}{version.role + share:<16}{version.orders:>8,}{workers:>9}"
    return f"{line}  no worker runs it" if version.is_deserted else line


@app.command("move-orders", rich_help_panel=operations.PANEL)
def move_orders(
    build: Annotated[str, typer.Option("--from", help="Build id of the version to leave.")],
    rate: Annotated[float, typer.Option(min=0.1, max=1_000, help="Orders a second.")] = 50.0,
) -> None:
    """Ask all orders of a version to go on in the one that is current; its workers must run."""
    from rich.console import Console
    from temporalio.service import RPCError

    from cli.moving import Moved, NotMoved, move, remaining, source
    from workflows.failing_orders import failing_ids

    async def perform(_pool: asyncpg.Pool, client: Client, task_queue: str) -> int:
        try:
            version = await source(client, task_queue, build)
        except NotMoved as error:
            fail(error, EXIT_USAGE)
        moved = Moved(0, ())
        with Console(stderr=True).status("moving …") as progress:
            async for moved in move(client, task_queue, version, rate):
                progress.update(f"{moved.asked:,} asked, {len(moved.left):,} left")
        print(f"{moved.asked - len(moved.left):,} orders have left {version.name}.")
        if not moved.left:
            return 0
        failing: set[str] = set()
        with suppress(RPCError):  # Servers before 1.30 do not know which orders fail.
            failing.update(await failing_ids(client, task_queue))
        print("\n".join(remaining(moved.left, failing)))
        return EXIT_FAILED

    operate_on_both(perform)


@app.command(rich_help_panel=operations.PANEL)
def stuck() -> None:
    """List the orders whose workflow tasks fail, and why; the exit code is 1 if there are any."""
    from workflows.failing_orders import find_failing

    async def show(_pool: asyncpg.Pool, client: Client, task_queue: str) -> int:
        count = 0
        async for order in find_failing(client, task_queue):
            count += 1
            print(f"{order.order_id}  attempt {order.attempts}: {order.reason}")
        print(f"{count:,} orders are stuck." if count else "No order is stuck.")
        return EXIT_FAILED if count else 0

    operate_on_both(show, EXIT_NOT_COMPARED)


@app.command(rich_help_panel=operations.PANEL)
def repair(
    order: Annotated[str, typer.Argument(help="The order id, from `orderly stuck`.")],
) -> None:
    """Start a stuck order again from the log, if nothing that it acknowledged can be lost."""
    from cli.repair import NotRepaired, repaired

    async def perform(pool: asyncpg.Pool, client: Client, task_queue: str) -> None:
        try:
            print(await repaired(client, pool, task_queue, order))
        except NotRepaired as error:
            fail(f"{error}.", error.exit_code)

    check_order_id(order)
    operate_on_both(perform)


@app.command(rich_help_panel=operations.PANEL)
def record(
    folder: Annotated[Path, typer.Argument(help="Where the files go; it must be empty or new.")],
    sample: Annotated[int, typer.Option(min=1, help="The number of orders.")] = 200,
) -> None:
    """Record the Temporal histories of a random sample of orders, for `make release-check`."""
    from cli.recording import record

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # Texts in it may be personal data.
        is_empty = not any(folder.iterdir())
    if not is_empty:
        fail(f"{folder} is not empty: name another folder.", EXIT_USAGE)

    async def perform(_pool: asyncpg.Pool, client: Client, task_queue: str) -> None:
        recorded = [runs async for _, runs in record(client, task_queue, sample, folder)]
        print(f"{sum(recorded):,} runs of {len(recorded):,} orders are in {folder}.")

    operate_on_both(perform)


@app.command("build-id", rich_help_panel=operations.PANEL)
def build_id() -> None:
    """Print a build id for workers: it changes with the code that histories are replayed by."""
    from workflows.build_id import build_id

    print(build_id())
