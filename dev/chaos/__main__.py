"""Runs the stack under load and random faults: `python -m dev.chaos [OPTIONS]`."""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

import runtime
from dev.chaos.clocks import Clocks
from dev.chaos.report import show
from dev.chaos.run import run_chaos
from dev.chaos.small_disk import SmallDisk, small_disk
from dev.stack import StackError
from runtime import EXIT_FAILED, EXIT_INTERRUPTED, until_signal

SECONDS, LONG_SECONDS = 60.0, 300.0


async def main(options: argparse.Namespace) -> int:
    """Runs, and prints the report; returns the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    seconds = options.seconds or (LONG_SECONDS if options.long else SECONDS)
    folder = Path(tempfile.mkdtemp(prefix="orderly-chaos-"))
    with ExitStack() as held:
        disk, clocks = _disk(folder, held, console), _clocks(folder, console)
        data_dir = (disk.folder if disk else folder) / "data"
        console.print(f"seed {options.seed}, {seconds:g} s of faults …")
        result = await run_chaos(
            data_dir, options.seed, seconds, is_long=options.long, clocks=clocks, disk=disk
        )
        if disk and result.complaints:  # What is on that disk goes with this process.
            shutil.copytree(data_dir, folder / "data", ignore=shutil.ignore_patterns("sockets"))
    show(console, result)
    if result.complaints:
        console.print(f"{len(result.complaints)} complaints; data and logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _disk(folder: Path, held: ExitStack, console: Console) -> SmallDisk | None:
    mounted = folder / "disk"
    mounted.mkdir()
    try:
        return held.enter_context(small_disk(mounted))
    except OSError as error:
        console.print(f"Left out: a full disk. A small one cannot be mounted here: {error}")
        return None


def _clocks(folder: Path, console: Console) -> Clocks | None:
    try:
        return Clocks(folder / "clocks")
    except OSError as error:
        console.print(f"Left out: clocks. They cannot be shifted here: {error}")
        return None


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
