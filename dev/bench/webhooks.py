"""Webhook deliveries: kills, delays beside dead endpoints, and catching up, beside bare httpx."""

from __future__ import annotations

import argparse

from rich.console import Console

from dev.bench import machine, webhook_catch_up, webhook_delays, webhook_kills
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.bench.webhook_delays import PERCENTILES

METHOD = (
    "Kills: events are appended to the log at a constant rate, each for one of the endpoints; two"
    " deliverers share these, and every second one of them is killed with SIGKILL and started"
    " again. In the end the dead endpoints come back. An event is lost if its endpoint never"
    " accepted it, and out of order if a later one of its order was accepted first. Delays:"
    " commands at a constant rate to the embedded stack, from an event's time, when the order"
    " decided it, until its POST has arrived at the receiver, and how much of it passes until the"
    " event is inserted into the log; the turns without and with the dead, slow and"
    " failing endpoints alternate, and only the others are measured; percentiles are of the events"
    " of all rounds. Catch up: one deliverer, one"
    " endpoint, the same bodies, the same concurrency and the same receiver as httpx in a loop."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    for name, default, text in (
        ("endpoints", 100, "of which 3 are dead, 1 is slow and 1 fails at random"),
        ("events", 50_000, "while deliverers are killed"),
        ("seconds", 60, "of kills, one each second"),
        ("rate", 30, "commands per second, for delays"),
        ("turn-seconds", 20, "of each turn, for delays"),
        ("rounds", 6, "of both turns, for delays"),
        ("backlog", 200_000, "events to catch up with"),
        ("baseline-events", 20_000, "that httpx posts"),
    ):
        parser.add_argument(f"--{name}", type=positive_integer, default=default, help=text)


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Measures the three parts, one after the other."""
    kills = await webhook_kills.measure(options, console)
    catch_up = await webhook_catch_up.measure(options, console)
    delays = await webhook_delays.measure(options, console)
    failures = {
        f"{kills['lost']} events are lost": kills["lost"] > 0,
        f"{kills['out_of_order']} events came out of order": kills["out_of_order"] > 0,
        f"{catch_up['lost']} events of the backlog are lost": catch_up["lost"] > 0,
    }
    return {
        "kills": kills,
        "catch_up": catch_up,
        "delays": delays,
        "endpoints": options.endpoints,
        "failures": [message for message, failed in failures.items() if failed],
        "machine": machine.description(),
    }


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    kills, catch_up, delays = result["kills"], result["catch_up"], result["delays"]
    table = numeric_table(f"{kills['kills']} kills in {kills['seconds']} s", "")
    for name in ("events", "lost", "out_of_order", "duplicates"):
        table.add_row(name.replace("_", " "), f"{kills[name]:,}")
    console.print(table)
    table = numeric_table(f"{delays['rate']} commands per second, ms", "p50", "p99")
    for turn, where in (("good", "alone"), ("beside_bad", "beside bad endpoints")):
        for stage, ms in delays[turn].items():
            table.add_row(f"{stage}, {where}", *(f"{ms[p]:,.1f}" for p in PERCENTILES))
    for stage, ratio in delays["ratio"].items():
        table.add_row(f"{stage}, ratio", *(str(ratio[p]) for p in PERCENTILES))
    console.print(table)
    table = numeric_table("catch up", "per second", "MB at 25/50/75/100 %")
    megabytes = " / ".join(f"{mb:.0f}" for mb in catch_up["resident_mb"])
    table.add_row("orderly", f"{catch_up['per_second']:,}", megabytes)
    table.add_row("httpx in a loop", f"{catch_up['httpx_per_second']:,}", "")
    table.add_row("ratio", str(catch_up["ratio"]), "")
    console.print(table)
    console.print(
        f"{describe_machine(result['machine'])}; {result['endpoints']} endpoints,"
        f" {delays['rate']} commands per second, a backlog of {catch_up['events']:,}.\n{METHOD}\n"
    )
