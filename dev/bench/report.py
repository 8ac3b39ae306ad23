"""What was measured, as numbers for programs and as a table for people."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from dev.bench.load_generator import Round
from dev.bench.machine import IDLE, REST

Json = dict[str, Any]

METHOD = (
    "Both sides: the same server, clients that each send one command at a time, ten commands to an"
    " order, the first by update-with-start. The yardstick is called through the SDK with its"
    " default data converter, and its clock stops when the last no-op activity is done; orderly is"
    " called through REST, and its clock stops when the read model has the last event."
)


def counted(text: str) -> int:
    """The value of an option that is a number of things; raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def columns(*names: str) -> Table:
    """A table whose first column holds words, and all others numbers."""
    table = Table(*names)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def percentiles_ms(seconds: Iterable[float]) -> dict[str, float]:
    """The median and the 99th percentile, in milliseconds."""
    ordered = sorted(seconds)
    return {f"p{n}": round(1000 * ordered[len(ordered) * n // 100], 3) for n in (50, 99)}


def place(machine: Json) -> str:
    """The machine that the numbers hold for, in words."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; Python {machine['python']}"
    )


def comparison(ours: Sequence[Round], yardstick: Sequence[Round]) -> Json:
    """Ours to the yardstick, round by round: what disturbs a round disturbs both sides of it."""
    pairs = list(zip(ours, yardstick, strict=True))
    rounds = [mine.per_second / other.per_second for mine, other in pairs]
    acknowledged = [
        mine.acknowledged_per_second / other.acknowledged_per_second for mine, other in pairs
    ]
    cpu = [_cpu_s_each(other) / _cpu_s_each(mine) for mine, other in pairs]
    return {
        "ratio": round(median(rounds), 3),
        "ratio_rounds": [round(ratio, 3) for ratio in rounds],
        "ratio_acknowledged": round(median(acknowledged), 3),
        # What the ratio comes to where processors are the limit, however busy they are besides.
        "ratio_by_cpu_time": round(median(cpu), 3),
    }


def numbers(rounds: Sequence[Round]) -> Json:
    """One side: rates are medians over the rounds, all else is over all requests."""
    requests = sum(r.requests for r in rounds)
    latencies = sorted(latency for r in rounds for latency in r.latencies_s)
    return {
        "requests": requests,
        "per_second": round(median(r.per_second for r in rounds), 1),
        "per_second_rounds": [round(r.per_second, 1) for r in rounds],
        "acknowledged_per_second": round(median(r.acknowledged_per_second for r in rounds), 1),
        "latency_ms": {
            "p50": round(1000 * latencies[requests * 50 // 100], 1),
            "p99": round(1000 * latencies[requests * 99 // 100], 1),
        },
        "cpu_ms_per_request": {
            name: round(1000 * sum(r.cpu_s[name] for r in rounds) / requests, 2)
            for name in rounds[0].cpu_s
        },
    }


def _cpu_s_each(one: Round) -> float:
    return sum(s for name, s in one.cpu_s.items() if name not in (REST, IDLE)) / one.requests


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    console.print(_table(result))
    machine = result["machine"]
    console.print(
        f"{place(machine)}, temporalio {machine['temporalio']}, Temporal Server "
        f"{machine['temporal_server']}; {result['clients']} clients.\n{METHOD}\n"
    )
    rounds = ", ".join(map(str, result["ratio_rounds"]))
    console.print(
        f"Ratio of orderly to the yardstick: [bold]{result['ratio']}[/bold] complete"
        f" (by round: {rounds}), {result['ratio_acknowledged']} until acknowledged, "
        f"{result['ratio_by_cpu_time']} by processor time"
    )


def _table(result: Json) -> Table:
    sides = [result["yardstick"], result["orderly"], result["baskets"]]
    table = columns("", "yardstick", "orderly", "whole baskets")

    def row(label: str, values: Iterable[float]) -> None:
        table.add_row(label, *[f"{value:,}" for value in values])

    row("requests", (side["requests"] for side in sides))
    row("a second, complete", (side["per_second"] for side in sides))
    row("a second, acknowledged", (side["acknowledged_per_second"] for side in sides))
    row("acknowledged after, p50 ms", (side["latency_ms"]["p50"] for side in sides))
    row("acknowledged after, p99 ms", (side["latency_ms"]["p99"] for side in sides))
    table.add_section()
    table.add_row("[italic]processor time, ms a request")
    for process in result["orderly"]["cpu_ms_per_request"]:
        row(f"  {process}", (side["cpu_ms_per_request"][process] for side in sides))
    return table
