"""GET /v1/orders/{id} per second, compared with a FastAPI route that selects one row."""

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

from dev.bench import machine, orderly_projector
from dev.bench.events import EVENTS_PER_ORDER, write_log
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.bench.servers import (
    ROOT,
    PostgresServer,
    postgres,
    run_python,
    wait_until_responding,
)
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.supervisor import Program

COMPARED_MAX = 20  # Responses of both systems that are compared.
LABELS = {
    "per_second": "requests per second",
    "p50": "latency, p50 ms",
    "p99": "latency, p99 ms",
    "cpu_ms": "processor time of the process, ms per request",
}
METHOD = (
    "Each system is one process, served by uvicorn with httptools and uvloop, on one Postgres"
    " server; they alternate; no tracing, no authentication. The load comes from a separate"
    " process, over kept-alive connections with one request at a time. Both send the same JSON."
)


class System(NamedTuple):
    """One of the systems that are compared."""

    url: str
    pid: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=positive_integer, default=1_000, help="to read in turn")
    parser.add_argument("--rounds", type=positive_integer, default=7, help="of both systems")
    parser.add_argument("--seconds", type=positive_integer, default=4, help="of each turn")
    parser.add_argument("--connections", type=positive_integer, default=16, help="to each system")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Starts both systems, and alternates between them."""
    async with postgres() as server:
        dsn = await server.database("orderly")
        await write_log(dsn, options.orders * EVENTS_PER_ORDER)
        await orderly_projector.catch_up(dsn)
        connection = await asyncpg.connect(dsn)
        found = await connection.fetch("SELECT order_id FROM order_view.orders ORDER BY 1")
        await connection.close()
        paths = [f"/v1/orders/{order_id}" for (order_id,) in found]
        systems = await _start(server, dsn)
        await _copy_responses(systems["orderly"], dsn, paths)
        differing = [path for path in paths[:COMPARED_MAX] if not await _is_same(systems, path)]
        for system in systems.values():
            await _turn(system, paths, 1, options.connections)
        turns: dict[str, list[Json]] = {name: [] for name in systems}
        for number in range(options.rounds):
            for name in sorted(systems, reverse=number % 2 == 0):  # They alternate in going first.
                turn = await _turn(systems[name], paths, options.seconds, options.connections)
                turns[name].append(turn)
                console.print(f"round {number + 1}: {name:<8} {turn['per_second']:8.1f} per second")
    return {
        **_compare(turns["orderly"], turns["baseline"]),
        **{name: _summarize(of_one) for name, of_one in turns.items()},
        "connections": options.connections,
        "failures": [f"{path} differs between the systems" for path in differing],
        "machine": machine.description(),
    }


async def _start(server: PostgresServer, dsn: str) -> dict[str, System]:
    [port] = free_ports({"baseline": 0})
    command = [sys.executable, "-m", "dev.bench.asyncpg_baseline", dsn, str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = await server.start(
        Program("baseline", command, server.folder / "baseline.log", environment)
    )
    baseline = System(f"http://{LOOPBACK}:{port}", child.pid)
    await wait_until_responding(child, baseline.url)
    url, api = await server.start_api(dsn)
    return {"baseline": baseline, "orderly": System(url, api.pid)}


async def _copy_responses(system: System, dsn: str, paths: list[str]) -> None:
    """Fills the table of the baseline with our API's response for each order."""
    async with httpx.AsyncClient(base_url=system.url) as http:
        rows = [(path.rpartition("/")[2], (await http.get(path)).text) for path in paths]
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TABLE responses (order_id text PRIMARY KEY, document json NOT NULL)"
    )
    await connection.executemany("INSERT INTO responses VALUES ($1, $2)", rows)
    await connection.close()


async def _is_same(systems: dict[str, System], path: str) -> bool:
    async with httpx.AsyncClient() as http:
        responses = [await http.get(system.url + path) for system in systems.values()]
    return (
        len({response.content for response in responses}) == 1 and responses[0].status_code == 200
    )


async def _turn(system: System, paths: list[str], seconds: int, connections: int) -> Json:
    """One load on one system: the output of the load generator, and the processor time."""
    process = psutil.Process(system.pid)
    before = process.cpu_times()
    arguments = ("-m", "dev.bench.closed_loop", system.url, str(connections), str(seconds))
    run = await run_python(*arguments, stdin="\n".join(paths))
    load: Json = json.loads(run.output)
    after = process.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return {
        **load,
        "per_second": load["requests"] / load["seconds"],
        "cpu_ms": 1000 * cpu_s / load["requests"],
    }


def _compare(orderly: list[Json], baseline: list[Json]) -> Json:
    pairs = list(zip(orderly, baseline, strict=True))
    rounds = [one["per_second"] / other["per_second"] for one, other in pairs]
    cpu = [other["cpu_ms"] / one["cpu_ms"] for one, other in pairs]
    return {
        "ratio": round(median(rounds), 3),
        "ratio_rounds": [round(ratio, 3) for ratio in rounds],
        # The ratio if processors are the bottleneck; other load on the machine does not change it.
        "ratio_by_cpu_time": round(median(cpu), 3),
    }


def _summarize(turns: list[Json]) -> Json:
    return {
        "requests": sum(turn["requests"] for turn in turns),
        **{
            name: round(median(turn[name] for turn in turns), 3)
            for name in ("per_second", "p50", "p99", "cpu_ms")
        },
    }


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("", "baseline", "orderly")
    for name, label in LABELS.items():
        table.add_row(label, *[f"{result[system][name]:,}" for system in ("baseline", "orderly")])
    console.print(table)
    console.print(
        f"{describe_machine(result['machine'])}; {result['connections']} connections.\n{METHOD}\n"
    )
    rounds = ", ".join(map(str, result["ratio_rounds"]))
    console.print(
        f"Ratio of orderly to the baseline: [bold]{result['ratio']}[/bold] (by round: {rounds}),"
        f" {result['ratio_by_cpu_time']} by processor time"
    )
