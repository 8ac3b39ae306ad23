"""Measures one part of orderly beside others in one run: `python -m bench [PART] [OPTIONS]`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich.console import Console

import runtime
from dev.bench import catch_up, commands, freshness, lists, reads
from dev.bench import durability as loss
from dev.bench import load as overload
from dev.bench.report import Json
from dev.stack import StackError
from runtime import EXIT_FAILED, EXIT_INTERRUPTED, until_signal

ROOT = Path(__file__).parents[2]


class Part(Protocol):
    """What is measured by one module of this package."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Sizes, with defaults that a result to be quoted has."""

    async def measured(self, options: argparse.Namespace, console: Console) -> Json:
        """The result; what should not be is named in its `wrong`, if there is any."""

    def show(self, console: Console, result: Json) -> None:
        """Prints it as a table."""


PARTS: dict[str, Part] = {
    "commands": commands,
    "catch-up": catch_up,
    "freshness": freshness,
    "lists": lists,
    "reads": reads,
    "loss": loss,
    "load": overload,
}


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        options = parts.add_parser(name, description=part.__doc__, help=part.__doc__)
        part.add_options(options)
        options.add_argument("--json", type=Path, help="the file that the result goes to")
    is_named = arguments and (arguments[0] in PARTS or arguments[0] in ("-h", "--help"))
    return parser.parse_args(arguments if is_named else ["commands", *arguments])


async def main(options: argparse.Namespace) -> int:
    """Measures, and shows the result; returns the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    part = PARTS[options.part]
    result: Json = await part.measured(options, console)
    part.show(console, result)
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    file = options.json or ROOT / f"bench-{options.part}-{now}.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(file)
    for wrong in result.get("wrong", []):
        print(f"bench: {wrong}", file=sys.stderr)
    return 1 if result.get("wrong") else 0


def run() -> None:
    """Runs the measurement that the command line asks for, and exits."""
    work = main(parsed(sys.argv[1:]))
    runtime.run(until_signal(work, EXIT_INTERRUPTED), {StackError: EXIT_FAILED})


if __name__ == "__main__":
    runtime.main(run)
