"""Measures orderly and the yardstick by turns on one embedded server: `python -m bench`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import machine, report
from bench.load import COMMANDS_PER_ORDER, ReadCpu, Round, Side, fill_orders, run
from bench.report import Json
from bench.rest import Orderly, orderly
from bench.yardstick import Yardstick, yardstick
from cli import PACKAGED_BASKETS
from demo.baskets import read_baskets
from exits import EXIT_INTERRUPTED, until_signal
from stack import Stack, StackError, StackOptions, running_stack

ROOT = Path(__file__).parent.parent
BASKETS_MAX = 300
WARM_UP_ORDERS = 40
PAUSE_S = 0.5  # What still happens after a round must not be the next one's.


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--commands", type=_count, default=8_000, help="of each side, in all")
    parser.add_argument("--rounds", type=_count, default=5, help="so often the sides take turns")
    parser.add_argument("--clients", type=_count, default=20, help="of each side, at the same time")
    parser.add_argument("--json", type=Path, help="the file that the result goes to")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


async def main(options: argparse.Namespace) -> int:
    """Runs the whole stack, measures, and shows the result; returns the exit code."""
    console = Console(soft_wrap=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with (
            running_stack(StackOptions(Path(data_dir), 0, 0, 0)) as stack,
            yardstick(stack, options.clients) as theirs,
            orderly(stack, options.clients) as ours,
        ):
            result = await measured(stack, theirs, ours, options, console)
    report.show(console, result)
    file = options.json or ROOT / f"bench-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    print(file)
    return 0


async def measured(
    stack: Stack, theirs: Yardstick, ours: Orderly, options: argparse.Namespace, console: Console
) -> Json:
    """The whole result, in numbers."""
    cpu = machine.cpu_reader({**stack.pids, "yardstick's worker": theirs.pid})
    orders = max(options.commands // options.rounds // COMMANDS_PER_ORDER, 1)
    sides: dict[str, Side] = {"yardstick": theirs, "orderly": ours}
    for side in sides.values():
        await fill_orders(side, min(orders, WARM_UP_ORDERS), cpu)
    rounds: dict[str, list[Round]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name in sorted(sides, reverse=number % 2 == 0):  # Each goes first in every other.
            await asyncio.sleep(PAUSE_S)
            one = await fill_orders(sides[name], orders, cpu)
            rounds[name].append(one)
            console.print(f"round {number + 1}: {name:<9} {one.per_second:6.1f} commands a second")
    counts = {
        "acknowledged": ours.events,
        "published": await ours.published(),
        "projected": await ours.projected(),
    }
    baskets = await place_baskets(ours, min(BASKETS_MAX, options.rounds * orders), cpu)
    return {
        **report.comparison(rounds["orderly"], rounds["yardstick"]),
        "yardstick": report.numbers(rounds["yardstick"]),
        "orderly": report.numbers(rounds["orderly"]),
        "baskets": report.numbers([baskets]),
        "counts": {**counts, "yardstick_activities": theirs.activities},
        "clients": options.clients,
        "rounds": options.rounds,
        "machine": await machine.description(stack.temporal_address),
    }


async def place_baskets(ours: Orderly, count: int, cpu: ReadCpu) -> Round:
    """Whole baskets of the demo, one request each."""
    baskets = read_baskets(PACKAGED_BASKETS, count)
    caught_up = partial(ours.confirm, len(baskets))
    await asyncio.sleep(PAUSE_S)
    return await run([shop.place for shop in ours.shops], baskets, caught_up, cpu)


if __name__ == "__main__":
    told = parsed(sys.argv[1:])
    try:
        code = asyncio.run(until_signal(main(told), EXIT_INTERRUPTED))
    except Exception as error:
        code = 1
        if isinstance(error, StackError):
            print(f"bench: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # The SDK's threads can crash an interpreter that tears itself down.
