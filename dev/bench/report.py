"""Results of benchmarks: numbers as JSON, and tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import median, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from dev.bench.load_generator import Round
from dev.bench.machine import IDLE, REST

Json = dict[str, Any]

METHOD = (
    "Both systems: the same Temporal server, clients that each send one command at a time, ten"
    " commands per order, the first by update-with-start. The baseline is called through the SDK"
    " with its default data converter, and its time ends with the last no-op activity; orderly is"
    " called through REST, and its time ends when the read model has the last event."
)


def positive_integer(text: str) -> int:
    """Parses the value of an option; raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def numeric_table(*names: str) -> Table:
    """A table with text in the first column and numbers in the others."""
    table = Table(*names)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def percentiles_ms(
    seconds: Iterable[float], percentiles: Sequence[float] = (50, 99)
) -> dict[str, float]:
    """Percentiles in milliseconds, by default the median and the 99th."""
    ordered = sorted(seconds)
    return {f"p{n}": round(1000 * ordered[int(len(ordered) * n / 100)], 3) for n in percentiles}


def describe_machine(machine: Json) -> str:
    """The machine of the measurement, in one line."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['system']}; Python {machine['python']}"
    )


def compare(orderly: Sequence[Round], baseline: Sequence[Round]) -> Json:
    """Ratios to the baseline, by round: a disturbance of a round affects both systems."""
    pairs = list(zip(orderly, baseline, strict=True))
    rounds = [one.per_second / other.per_second for one, other in pairs]
    acknowledged = [
        one.acknowledged_per_second / other.acknowledged_per_second for one, other in pairs
    ]
    cpu = [_cpu_s_each(other) / _cpu_s_each(one) for one, other in pairs]
    return {
        "ratio": round(median(rounds), 3),
        "ratio_rounds": [round(ratio, 3) for ratio in rounds],
        "ratio_acknowledged": round(median(acknowledged), 3),
        # The ratio if processors are the bottleneck; other load on the machine does not change it.
        "ratio_by_cpu_time": round(median(cpu), 3),
        "ratio_errors": [round(_error_of_median(each), 3) for each in (rounds, cpu)],
    }


def _error_of_median(values: Sequence[float]) -> float:
    """The standard error of a median, of values that are about normally distributed."""
    return 1.25 * stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0


def summarize(rounds: Sequence[Round]) -> Json:
    """One system: rates are medians of the rounds, all else is over all requests."""
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
        f"{describe_machine(machine)}, temporalio {machine['temporalio']}, Temporal Server "
        f"{machine['temporal_server']}; {result['clients']} clients.\n{METHOD}\n"
    )
    rounds = ", ".join(map(str, result["ratio_rounds"]))
    console.print(
        f"Ratio of orderly to the baseline: [bold]{result['ratio']}[/bold] complete"
        f" (by round: {rounds}), {result['ratio_acknowledged']} until acknowledged, "
        f"{result['ratio_by_cpu_time']} by processor time"
    )


def _table(result: Json) -> Table:
    systems = [result["baseline"], result["orderly"], result["baskets"]]
    table = numeric_table("", "baseline", "orderly", "whole baskets")

    def row(label: str, values: Iterable[float]) -> None:
        table.add_row(label, *[f"{value:,}" for value in values])

    row("requests", (system["requests"] for system in systems))
    row("per second, complete", (system["per_second"] for system in systems))
    row("per second, acknowledged", (system["acknowledged_per_second"] for system in systems))
    row("acknowledged after, p50 ms", (system["latency_ms"]["p50"] for system in systems))
    row("acknowledged after, p99 ms", (system["latency_ms"]["p99"] for system in systems))
    table.add_section()
    table.add_row("[italic]processor time, ms per request")
    for process in result["orderly"]["cpu_ms_per_request"]:
        row(f"  {process}", (system["cpu_ms_per_request"][process] for system in systems))
    return table
