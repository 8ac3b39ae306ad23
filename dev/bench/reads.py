"""Requests a second of GET /v1/orders/{id}, beside a bare FastAPI route that selects one row."""

from __future__ import annotations

import argparse
import json
import os
import sys
from statistics import median
from typing import NamedTuple

import asyncpg
import httpx
import psutil  # type: ignore[import-untyped]
from rich.console import Console

from dev.bench import machine
from dev.bench import orderly_projector as ours
from dev.bench.events import EVENTS_PER_ORDER, write_log
from dev.bench.report import Json, columns, counted, place
from dev.bench.servers import ROOT, Server, postgres, run_python, until_it_answers
from dev.stack.child import Program
from dev.stack.claim import LOOPBACK, free_ports

SAME_MAX = 20  # So many answers of both sides are compared.
LABELS = {
    "per_second": "requests a second",
    "p50": "answered after, p50 ms",
    "p99": "answered after, p99 ms",
    "cpu_ms": "processor time of its process, ms a request",
}
METHOD = (
    "Each side is one process, served by uvicorn with httptools and uvloop, on one Postgres server;"
    " by turns; no tracing, no authentication. The load comes from a process of its own, over"
    " connections that are kept and each carry one request at a time. Both answer the same JSON."
)


class Side(NamedTuple):
    """One of those that are compared."""

    url: str
    pid: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=counted, default=1_000, help="that are asked for in turn")
    parser.add_argument("--rounds", type=counted, default=7, help="so often the sides take turns")
    parser.add_argument("--seconds", type=counted, default=4, help="that each turn takes")
    parser.add_argument("--connections", type=counted, default=16, help="to a side")


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Starts both sides, and asks them by turns."""
    async with postgres() as server:
        dsn = await server.database("ours")
        await write_log(dsn, options.orders * EVENTS_PER_ORDER)
        await ours.catch_up(dsn)
        connection = await asyncpg.connect(dsn)
        found = await connection.fetch("SELECT order_id FROM order_view.orders ORDER BY 1")
        await connection.close()
        paths = [f"/v1/orders/{order_id}" for (order_id,) in found]
        sides = await _started(server, dsn)
        wrong = [path for path in paths[:SAME_MAX] if not await _is_same(sides, path)]
        for side in sides.values():
            await _turn(side, paths, 1, options.connections)
        turns: dict[str, list[Json]] = {name: [] for name in sides}
        for number in range(options.rounds):
            for name in sorted(sides, reverse=number % 2 == 0):  # Each goes first in every other.
                turn = await _turn(sides[name], paths, options.seconds, options.connections)
                turns[name].append(turn)
                console.print(f"round {number + 1}: {name:<7} {turn['per_second']:8.1f} a second")
    return {
        **_comparison(turns["orderly"], turns["bare"]),
        **{name: _numbers(of_one) for name, of_one in turns.items()},
        "connections": options.connections,
        "wrong": [f"{path} is not the same from both sides" for path in wrong],
        "machine": machine.description(),
    }


async def _started(server: Server, dsn: str) -> dict[str, Side]:
    [port] = free_ports({"bare": 0})
    command = [sys.executable, "-m", "dev.bench.asyncpg_baseline", dsn, str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = await server.start(Program("bare", command, server.folder / "bare.log", environment))
    bare = Side(f"http://{LOOPBACK}:{port}", child.pid)
    await until_it_answers(child, bare.url)
    url, api = await server.start_api(dsn)
    return {"bare": bare, "orderly": Side(url, api.pid)}


async def _is_same(sides: dict[str, Side], path: str) -> bool:
    async with httpx.AsyncClient() as http:
        answers = [await http.get(side.url + path) for side in sides.values()]
    return len({answer.content for answer in answers}) == 1 and answers[0].status_code == 200


async def _turn(side: Side, paths: list[str], seconds: int, connections: int) -> Json:
    """One load on one side: what the load generator prints, and the processor time it took."""
    process = psutil.Process(side.pid)
    before = process.cpu_times()
    arguments = ("-m", "dev.bench.closed_loop", side.url, str(connections), str(seconds))
    told: Json = json.loads((await run_python(*arguments, stdin="\n".join(paths))).printed)
    after = process.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return {
        **told,
        "per_second": told["requests"] / told["seconds"],
        "cpu_ms": 1000 * cpu_s / told["requests"],
    }


def _comparison(ours: list[Json], bare: list[Json]) -> Json:
    pairs = list(zip(ours, bare, strict=True))
    rounds = [mine["per_second"] / other["per_second"] for mine, other in pairs]
    cpu = [other["cpu_ms"] / mine["cpu_ms"] for mine, other in pairs]
    return {
        "ratio": round(median(rounds), 3),
        "ratio_rounds": [round(ratio, 3) for ratio in rounds],
        # What the ratio comes to where processors are the limit, however busy they are besides.
        "ratio_by_cpu_time": round(median(cpu), 3),
    }


def _numbers(turns: list[Json]) -> Json:
    return {
        "requests": sum(turn["requests"] for turn in turns),
        **{
            name: round(median(turn[name] for turn in turns), 3)
            for name in ("per_second", "p50", "p99", "cpu_ms")
        },
    }


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = columns("", "bare route", "orderly")
    for name, label in LABELS.items():
        table.add_row(label, *[f"{result[side][name]:,}" for side in ("bare", "orderly")])
    console.print(table)
    console.print(f"{place(result['machine'])}; {result['connections']} connections.\n{METHOD}\n")
    rounds = ", ".join(map(str, result["ratio_rounds"]))
    console.print(
        f"Ratio of orderly to the bare route: [bold]{result['ratio']}[/bold] (by round: {rounds}),"
        f" {result['ratio_by_cpu_time']} by processor time"
    )
