"""The info file of a running `orderly up`: its addresses, for other commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT = Path(".orderly") / "stack.json"

InfoFile = Annotated[Path, typer.Option(help="JSON file with the addresses of the running stack.")]


class NoRunningStack(Exception):
    """No stack runs where one was looked for; the message is a sentence for people."""


def addresses(info_file: Path) -> Mapping[str, Any]:
    """The URLs of a running stack; raises NoRunningStack without one."""
    try:
        info: dict[str, Any] = json.loads(info_file.read_text())
    except (OSError, ValueError):
        raise NoRunningStack(
            f"{info_file} names no running stack: start one with `make up`."
        ) from None
    return info
