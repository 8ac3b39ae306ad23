"""`orderly backup`: the command; cli/backup.py takes the backup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.info_file import DEFAULT, NoRunningStack, addresses
from cli.operations import PANEL, operate
from runtime import EXIT_INTERRUPTED, EXIT_USAGE, fail, until_signal

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def backup(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist, or is empty.")],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Data directory of a running `orderly up`, to back up all of it."),
    ] = None,
) -> None:
    """Take a backup of Postgres, and check it."""
    from rich.console import Console

    from cli.backup import back_up
    from cli.postgres_programs import BackupError

    async def perform(dsn: str) -> None:
        try:
            with Console(stderr=True).status("copying …"):
                taken = await back_up(dsn, folder, data_dir)
        except BackupError as error:
            fail(error, error.exit_code)
        print(
            f"{folder} is complete and checked: {taken.orders:,} orders with {taken.events:,}"
            f" events or more, {taken.bytes:,} bytes, {taken.seconds:.1f} s"
        )

    stack = _stack_dsn(data_dir) if data_dir else None
    operate(lambda dsn: until_signal(perform(dsn), EXIT_INTERRUPTED), stack)


def _stack_dsn(data_dir: Path) -> str:
    """The address of Postgres in a running stack; exits if none runs there."""
    try:
        return str(addresses(data_dir / DEFAULT.name)["postgres_dsn"])
    except NoRunningStack as error:
        fail(error, EXIT_USAGE)
