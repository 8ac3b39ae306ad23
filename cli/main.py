"""The `orderly` command: the whole stack on one machine, one process of it, and operations."""

from __future__ import annotations

from typing import NoReturn

import typer

import runtime
from cli import (
    backup_command,
    contracts,
    development,
    operations,
    outages,
    processes,
    projections,
    rehearse,
    relay,
    releases,
    restore,
)

# What a command needs is imported inside it, so that `orderly --help` is fast.

RENAMED = {
    "story": "scenario",
    "rebuild": "projections rebuild",
    "rollback": "projections rollback",
    "parked": "projections parked",
    "retry": "projections retry",
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="An order service in which every order is a durable workflow.",
)
_parts = (
    development,
    contracts,
    processes,
    operations,
    releases,
    backup_command,
    outages,
    rehearse,
)
for part in _parts:
    app.add_typer(part.app)
app.add_typer(relay.app, name="relay", rich_help_panel=processes.PANEL)
app.add_typer(projections.app, name="projections", rich_help_panel=operations.PANEL)
app.add_typer(restore.app, name="restore", rich_help_panel=operations.PANEL)


def _reject_renamed(old: str, new: str) -> None:
    def command(context: typer.Context) -> None:
        runtime.fail(
            f"`orderly {old}` has a new name: run `orderly {new}` instead.", runtime.EXIT_USAGE
        )

    any_arguments = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(old, hidden=True, add_help_option=False, context_settings=any_arguments)(command)


for _old, _new in RENAMED.items():
    _reject_renamed(_old, _new)


def main() -> NoReturn:
    """The entry point of the `orderly` script."""
    runtime.main(app)
