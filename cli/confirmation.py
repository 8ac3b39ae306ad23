"""Asks a person before a command does what cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runtime import EXIT_FAILED, EXIT_USAGE, fail

Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking, such as in a script.")]


def confirm(consequences: str, *, yes: bool) -> None:
    """Returns if it is to be done; exits otherwise, and where there is no terminal to ask at."""
    if yes:
        return
    if not has_terminal():
        fail(f"{consequences} Nothing was done: --yes does it without asking.", EXIT_USAGE)
    if not typer.confirm(f"{consequences} Do it?", err=True):
        fail("Nothing was done.", EXIT_FAILED)


def has_terminal() -> bool:
    """Whether a person can answer."""
    return sys.stdin.isatty()
