"""How long each process needs to stop under load, and that nothing is lost by it."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import asyncpg
import httpx
from rich.console import Console

from dev.bench import machine
from dev.bench.http_connection import ConnectionPool
from dev.bench.orderly_api import OrderlyClient
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.stack import Stack, StackOptions, run_stack
from dev.stack.supervisor import STOP_S_MAX
from dev.webhook_receiver import Receiver, serving

PROCESSES = ("api", "worker", "projector", "deliverer")
BETWEEN_S = 2.0
POLL_S = 0.005
EXITED = "ended with exit code 0"
SETTLE_S_MAX = 120.0
HOOK = "/drained"
HOOK_ANSWER_S = 0.2
ITEMS = 3
OURS = ("order-opened", "item-added", "item-quantity-changed", "order-placed")
METHOD = (
    "One process of each kind. Clients send one command after the other: they open orders, fill and"
    " place them; every second payment takes two seconds, and the webhook receiver"
    f" {HOOK_ANSWER_S:g}. Each process gets SIGTERM in turn, and starts again by itself. A command"
    " that got no response is sent again under its key. At the end all orders are settled, and the"
    " log, the read model and the receiver must have each event of each acknowledged command once."
)


class Shopper:
    """Places one order after the other; counts the commands that were acknowledged."""

    def __init__(self, client: OrderlyClient) -> None:
        self._client = client
        self.acknowledged = 0
        self.placed = 0

    async def shop(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            order_id = await self._client.open()
            self.acknowledged += 1
            for _ in range(ITEMS):
                await self._client.add(order_id)
                self.acknowledged += 1
            method = "pm_slow" if self.placed % 2 else "pm_card"
            await self._client.execute(order_id, "place-order", payment_method=method)
            self.acknowledged += 1
            self.placed += 1


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=positive_integer, default=5, help="stops of each process")
    parser.add_argument("--clients", type=positive_integer, default=20, help="concurrent")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Stops each process in turn under load, then counts what has arrived."""
    receiver = Receiver(delay_s=lambda _: HOOK_ANSWER_S)
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as folder:
        console.print("starting the embedded stack …")
        async with (
            run_stack(StackOptions(Path(folder), 0, 0, 0)) as stack,
            serving(receiver) as url,
        ):
            await _register(stack, f"{url}{HOOK}")
            return await _measure(stack, receiver, options, console)


async def _register(stack: Stack, url: str) -> None:
    async with httpx.AsyncClient(base_url=stack.api_url) as http:
        endpoint = {"url": url, "from": "beginning"}
        (await http.post("/v1/webhook-endpoints", json=endpoint)).raise_for_status()


async def _measure(
    stack: Stack, receiver: Receiver, options: argparse.Namespace, console: Console
) -> Json:
    pool, stopped = ConnectionPool(stack.api_url), asyncio.Event()
    shoppers = [Shopper(OrderlyClient(pool)) for _ in range(options.clients)]
    shopping = [asyncio.create_task(shopper.shop(stopped)) for shopper in shoppers]
    stops: dict[str, list[float]] = {name: [] for name in PROCESSES}
    failures: list[str] = []
    try:
        for number in range(options.rounds):
            for name, of_process in stops.items():
                await asyncio.sleep(BETWEEN_S)
                seconds, how = await _stop(stack, name)
                of_process.append(seconds)
                if how != EXITED:
                    failures.append(f"{name} {how}")
                console.print(f"round {number + 1}: {name:<9} stopped after {seconds:5.2f} s")
                await _wait_until_ready(stack, name)
    finally:
        stopped.set()
        await asyncio.gather(*shopping)
        pool.close()
    acknowledged = sum(shopper.acknowledged for shopper in shoppers)
    placed = sum(shopper.placed for shopper in shoppers)
    counts = await _counts(stack, receiver, placed)
    lost = {
        "of the log": acknowledged - counts["ours"],
        "of the read model": counts["events"] - counts["projected"],
        "of the receiver": counts["events"] - counts["received"],
        "settled orders": placed - counts["settled"],
    }
    failures += [f"{number} lost: {what}" for what, number in lost.items() if number]
    return {
        "seconds": {name: [round(s, 3) for s in each] for name, each in stops.items()},
        "acknowledged": acknowledged,
        "orders": placed,
        "events": counts["events"],
        "lost": lost,
        "machine": machine.description(),
        "failures": failures,
    }


async def _stop(stack: Stack, name: str) -> tuple[float, str]:
    """Sends SIGTERM; the seconds until the process has ended, and how it did."""
    process, pid, began = stack.processes[name], stack.processes[name].pid, perf_counter()
    os.kill(pid, signal.SIGTERM)
    while (how := process.exit_reason) is None:
        if perf_counter() - began > STOP_S_MAX:  # Supervisors wait no longer, either.
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(POLL_S)
    return perf_counter() - began, how


async def _wait_until_ready(stack: Stack, name: str) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(SETTLE_S_MAX):
        while True:
            try:
                if (await http.get(f"{stack.admin_urls[name]}/readyz")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(POLL_S)


async def _counts(stack: Stack, receiver: Receiver, placed: int) -> dict[str, int]:
    """Waits until all orders are settled and all events delivered, and counts them."""
    postgres = await asyncpg.connect(stack.postgres_dsn)
    query = """
        SELECT (SELECT count(*) FROM order_events) AS events,
               (SELECT count(*) FROM order_events WHERE type = ANY($1)) AS ours,
               coalesce(sum(version), 0)::bigint AS projected,
               count(*) FILTER (
                   WHERE status = 'confirmed' AND json_array_length(document->'pending') = 0
               ) AS settled
        FROM order_view.orders
    """
    clock = asyncio.get_running_loop().time
    until = clock() + SETTLE_S_MAX
    try:
        while True:
            [row] = await postgres.fetch(query, OURS)
            counts = dict(row)
            counts["received"] = len(receiver.accepted_ids(HOOK))
            is_done = counts["settled"] == placed and (
                counts["events"] == counts["projected"] == counts["received"]
            )
            if is_done or clock() > until:
                return counts
            await asyncio.sleep(0.5)
    finally:
        await postgres.close()


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table("seconds from SIGTERM to the end", "median", "slowest")
    for name, seconds in result["seconds"].items():
        table.add_row(name, f"{median(seconds):.2f}", f"{max(seconds):.2f}")
    console.print(table)
    console.print(
        f"{result['acknowledged']:,} commands acknowledged, {result['orders']:,} orders placed and"
        f" {result['events']:,} events; lost: {sum(result['lost'].values())}"
    )
    console.print(f"{describe_machine(result['machine'])}.\n{METHOD}")
