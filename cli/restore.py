"""`orderly restore`: compares log, keys, Temporal and read models, and repairs what differs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.confirmation import Yes, confirm
from cli.operations import EXIT_DIFFERENT, EXIT_NOT_COMPARED, operate, operate_on_both, write_json
from runtime import EXIT_INTERRUPTED, fail, until_signal

if TYPE_CHECKING:
    import asyncpg
    from temporalio.client import Client

    from cli.restore_survey import Survey

app = typer.Typer(
    no_args_is_help=True,
    help="After a restore of Postgres or Temporal: show what differs, and repair it.",
)


@app.command()
def status() -> None:
    """Compare the log, keys, Temporal and order_view; exit with 1 if an order differs."""

    async def perform(pool: asyncpg.Pool, client: Client, task_queue: str) -> int:
        return await _conclude(pool, client, task_queue)

    operate_on_both(perform, EXIT_NOT_COMPARED)


@app.command()
def apply(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, nothing changes.")] = False,
) -> None:
    """Publish again what the log lacks, and start from the log what Temporal lacks."""
    from cli.restore_apply import apply

    async def perform(pool: asyncpg.Pool, client: Client, task_queue: str) -> int:
        async for sentence in apply(pool, client, task_queue, dry_run=not yes):
            print(sentence, flush=True)
        if not yes:
            print("Nothing was changed: `orderly restore apply --yes` does it.")
        return await _conclude(pool, client, task_queue)

    operate_on_both(perform, EXIT_NOT_COMPARED)


@app.command()
def overrule(
    because: Annotated[str, typer.Option(help="Why the differences are accepted; it is recorded.")],
    yes: Yes = False,
) -> None:
    """Accept all differences that there are now: what was lost stays lost."""
    from cli.restore_decisions import accept

    async def perform(pool: asyncpg.Pool, client: Client, task_queue: str) -> int:
        found = await _survey(pool, client, task_queue)
        if not yes:
            print(*found.differences, sep="\n")
        number = len(found.differences)
        confirm(f"What is lost by these {number:,} differences stays lost.", yes=yes)
        await accept(pool, [(each.order_id, each.text) for each in found.differences], because)
        for difference in found.differences:
            print(f"accepted: {difference}")
        return await _conclude(pool, client, task_queue, because)

    operate_on_both(perform, EXIT_NOT_COMPARED)


@app.command()
def rehearse(
    backup: Annotated[Path, typer.Argument(help="A folder that `orderly backup` has written.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file for the result, for a scheduler.")
    ] = None,
) -> None:
    """Restore a backup beside production, examine all of it, and remove it; 1 if it differs."""
    from dataclasses import asdict

    from rich.console import Console

    from cli.postgres_programs import BackupError
    from cli.rehearsal import rehearse, sentences

    async def perform(dsn: str) -> int:
        write_json(json_file, None)  # Instead of the last result: this one may have none.
        try:
            with Console(stderr=True).status("") as progress:
                found = await rehearse(backup, dsn, progress.update)
        except BackupError as error:
            fail(error, error.exit_code)
        write_json(json_file, asdict(found))
        print("\n".join(sentences(found)))
        return EXIT_DIFFERENT if found.differences else 0

    operate(lambda dsn: until_signal(perform(dsn), EXIT_INTERRUPTED), exit_failed=EXIT_NOT_COMPARED)


async def _survey(pool: asyncpg.Pool, client: Client, task_queue: str) -> Survey:
    from rich.console import Console

    from cli.restore_survey import Survey, survey

    found = Survey()
    with Console(stderr=True).status("comparing …") as progress:
        async for found in survey(pool, client, task_queue):
            progress.update(f"{found.orders:,} orders compared")
    return found


async def _conclude(
    pool: asyncpg.Pool, client: Client, task_queue: str, reason: str = "nothing differs"
) -> int:
    """Prints what differs; if nothing does, lets API and workers start."""
    from eventlog.journal import find_gaps
    from workflows.restore_marker import accept

    found = await _survey(pool, client, task_queue)
    code = _print_survey(found)
    if gaps := await find_gaps(pool):
        print(gaps)
    if code == 0 and await accept(pool, client, task_queue, reason):
        print("Postgres or Temporal was restored, and nothing differs: API and workers may start.")
    return code


def _print_survey(found: Survey) -> int:
    from cli.restore_differences import HINTS, Kind

    for difference in found.differences:
        print(difference)
    print(f"{found.orders:,} orders compared, {found.histories:,} with histories in Temporal")
    for kind in Kind:
        orders, events = found.orders_with(kind), found.events_with(kind)
        hint = f"  {HINTS[kind]}" if orders else ""
        print(f"  {kind:<26} {orders:>7,} orders {events:>7,} events{hint}".rstrip())
    print(f"  ended, with missing tail   {found.ended_with_missing_tail:>7,} orders")
    print(f"  accepted before            {len(found.accepted):>7,} differences")
    return EXIT_DIFFERENT if found.differences else 0
