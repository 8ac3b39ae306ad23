"""Runs one benchmark beside its baselines: `python -m dev.bench [NAME] [OPTIONS]`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rich.console import Console

import runtime
from dev.bench import (
    appends,
    bursts,
    cached_orders,
    catch_up,
    cold,
    commands,
    console,
    costs,
    drain,
    durability,
    freshness,
    journal,
    lists,
    load,
    long_log,
    metrics_cost,
    peers,
    power_cut,
    reads,
    rehearsal,
    shoppers,
    standby,
    webhooks,
)
from dev.bench.report import Json
from dev.stack import StackError
from runtime import EXIT_FAILED, EXIT_INTERRUPTED, until_signal

ROOT = Path(__file__).parents[2]


class Benchmark(Protocol):
    """A module of this package."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Sizes; results to quote use the defaults."""

    async def measure(self, options: argparse.Namespace, console: Console) -> Json:
        """The result; its `failures`, if any, say what must not happen."""

    def show(self, console: Console, result: Json) -> None:
        """Prints it as a table."""


BENCHMARKS: dict[str, Benchmark] = {
    "commands": commands,
    "cold": cold,
    "appends": appends,
    "catch-up": catch_up,
    "freshness": freshness,
    "journal": journal,
    "lists": lists,
    "console": console,
    "reads": reads,
    "loss": durability,
    "load": load,
    "long-log": long_log,
    "power-cut": power_cut,
    "shoppers": shoppers,
    "bursts": bursts,
    "cached-orders": cached_orders,
    "standby": standby,
    "webhooks": webhooks,
    "peers": peers,
    "costs": costs,
    "drain": drain,
    "metrics-cost": metrics_cost,
    "rehearsal": rehearsal,
}


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m dev.bench", description=__doc__)
    names = parser.add_subparsers(dest="benchmark", required=True)
    for name, benchmark in BENCHMARKS.items():
        options = names.add_parser(name, description=benchmark.__doc__, help=benchmark.__doc__)
        benchmark.add_options(options)
        options.add_argument("--json", type=Path, help="the file of the result")
    is_named = arguments and (arguments[0] in BENCHMARKS or arguments[0] in ("-h", "--help"))
    return parser.parse_args(arguments if is_named else ["commands", *arguments])


async def main(options: argparse.Namespace) -> int:
    """Measures, and prints the result; returns the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    benchmark = BENCHMARKS[options.benchmark]
    result: Json = await benchmark.measure(options, console)
    benchmark.show(console, result)
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    file = options.json or ROOT / f"bench-{options.benchmark}-{now}.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(file)
    for failure in result.get("failures", []):
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if result.get("failures") else 0


def run() -> None:
    """Runs the benchmark that the command line names, and exits."""
    work = main(parse_arguments(sys.argv[1:]))
    runtime.run(until_signal(work, EXIT_INTERRUPTED), {StackError: EXIT_FAILED})


if __name__ == "__main__":
    runtime.main(run)
