"""Runs the stack under load and random faults: `python -m dev.chaos [OPTIONS]`."""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from pathlib import Path

from rich.console import Console

import runtime
from dev.chaos.report import show
from dev.chaos.run import run_chaos
from dev.stack import StackError
from runtime import EXIT_FAILED, EXIT_INTERRUPTED, until_signal

SECONDS, LONG_SECONDS = 60.0, 300.0


async def main(options: argparse.Namespace) -> int:
    """Runs, and prints the report; returns the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    seconds = options.seconds or (LONG_SECONDS if options.long else SECONDS)
    console.print(f"seed {options.seed}, {seconds:g} s of faults …")
    data_dir = Path(tempfile.mkdtemp(prefix="orderly-chaos-"))
    result = await run_chaos(data_dir, options.seed, seconds, is_long=options.long)
    show(console, result)
    if result.complaints:
        console.print(f"{len(result.complaints)} complaints; data and logs are in {data_dir}")
        return 1
    shutil.rmtree(data_dir)
    return 0


def run() -> None:
    """Runs what the command line says, and exits."""
    parser = argparse.ArgumentParser("python -m dev.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--seconds", type=float, help="how long faults are done (60)")
    parser.add_argument("--long", action="store_true", help="300 s, and several faults at once")
    work = main(parser.parse_args())
    runtime.run(until_signal(work, EXIT_INTERRUPTED), {StackError: EXIT_FAILED})


if __name__ == "__main__":
    runtime.main(run)
