"""The delay from an order's decision until the POST begins, without and with bad endpoints."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import deque
from datetime import datetime
from pathlib import Path

import asyncpg
import httpx
from rich.console import Console

from dev.bench.http_connection import ConnectionPool
from dev.bench.load_generator import COMMANDS_PER_ORDER
from dev.bench.orderly_api import OrderlyClient
from dev.bench.report import Json, percentiles_ms
from dev.bench.webhook_endpoints import BAD, Fleet
from dev.stack import StackOptions, run_stack
from dev.webhook_receiver import Arrival, Receiver, serving

CLIENTS = 30  # More than are ever busy: no command is sent late.
ARRIVED_S_MAX = 60.0
WARM_UP_S = 5
PATH = "/v1/webhook-endpoints"
WHOLE = "decided to POST"
STAGES = (WHOLE, "decided to in the log", "in the log to POST")
TURNS = {"good": "pause", "beside_bad": "resume"}  # And what is done to the bad endpoints.
PERCENTILES = ("p50", "p99")

Delays = tuple[float, float, float]
"""The seconds of each of the stages of one event."""


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Percentiles of the delays of both kinds of turns, which alternate.

    They are of all turns of a kind together: one turn has too few events for its p99 to be steady.
    """
    fleet = Fleet.of(options.endpoints)
    receiver = fleet.receiver(keeps_bodies=True)
    delays: dict[str, list[Delays]] = {name: [] for name in TURNS}
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as folder:
        console.print("starting the embedded stack …")
        async with (
            run_stack(StackOptions(Path(folder), 0, 0, 0)) as stack,
            serving(receiver) as url,
            httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as http,
        ):
            ids = [await _register(http, fleet, number, url) for number in range(fleet.size)]
            pool = ConnectionPool(stack.api_url)
            senders = deque(_Sender(OrderlyClient(pool), fleet, n) for n in range(CLIENTS))
            await _send(senders, options.rate, WARM_UP_S)
            for number in range(options.rounds):
                for name in sorted(TURNS, reverse=number % 2 == 0):
                    for endpoint_id in ids[:BAD]:
                        (await http.post(f"{PATH}/{endpoint_id}/{TURNS[name]}")).raise_for_status()
                    await _send(senders, options.rate, WARM_UP_S)
                    arrived = await _run_turn(senders, receiver, fleet, options)
                    turn = _delays(arrived, await _recorded_at(stack.postgres_dsn))
                    delays[name] += turn
                    console.print(f"round {number + 1}: {name:<10} {_percentiles(turn)[WHOLE]} ms")
            pool.close()
    ms = {name: _percentiles(of_turns) for name, of_turns in delays.items()}
    return {
        **ms,
        "ratio": {
            stage: {
                p: round(ms["beside_bad"][stage][p] / ms["good"][stage][p], 3) for p in PERCENTILES
            }
            for stage in STAGES
        },
        "events": {name: len(of_turns) for name, of_turns in delays.items()},
        "rate": options.rate,
    }


async def _register(http: httpx.AsyncClient, fleet: Fleet, number: int, url: str) -> str:
    body = {"url": fleet.url(number, url), "customer_id": fleet.customer_id(number)}
    response = await http.post(PATH, json=body)
    response.raise_for_status()
    return str(response.json()["endpoint_id"])


class _Sender:
    """Fills orders of one customer after the other, one command at a time."""

    def __init__(self, client: OrderlyClient, fleet: Fleet, number: int) -> None:
        self._client = client
        self._fleet = fleet
        self._orders = number
        self._order_id = ""
        self._commands = 0
        self.sent: dict[int, int] = {}
        """By endpoint, the number of events that it must get."""

    async def send_next(self) -> None:
        endpoint = self._orders % self._fleet.size
        if self._commands % COMMANDS_PER_ORDER == 0:
            self._orders += CLIENTS
            endpoint = self._orders % self._fleet.size
            self._order_id = await self._client.open(customer_id=self._fleet.customer_id(endpoint))
        else:
            await self._client.add(self._order_id)
        self._commands += 1
        self.sent[endpoint] = self.sent.get(endpoint, 0) + 1


async def _send(idle: deque[_Sender], rate: int, seconds: int) -> None:
    """Sends commands at a constant rate, however long each takes."""
    clock = asyncio.get_running_loop().time
    began = clock()

    async def send_one(sender: _Sender) -> None:
        await sender.send_next()
        idle.append(sender)

    async with asyncio.TaskGroup() as commands:
        for number in range(rate * seconds):
            await asyncio.sleep(began + number / rate - clock())
            while not idle:
                await asyncio.sleep(0.001)
            commands.create_task(send_one(idle.popleft()))


async def _run_turn(
    senders: deque[_Sender], receiver: Receiver, fleet: Fleet, options: argparse.Namespace
) -> list[Arrival]:
    """What came to the good endpoints, once all events of the turn have come."""
    good = range(BAD, fleet.size)
    seen = {number: len(receiver.arrivals.get(fleet.path(number), [])) for number in good}
    await _send(senders, options.rate, options.turn_seconds)
    async with asyncio.timeout(ARRIVED_S_MAX):
        while not all(
            len(receiver.arrivals.get(fleet.path(number), [])) >= _sent(senders, number)
            for number in good
        ):
            await asyncio.sleep(0.05)
    return [
        one
        for number in good
        for one in receiver.arrivals.get(fleet.path(number), [])[seen[number] :]
    ]


async def _recorded_at(dsn: str) -> dict[str, float]:
    """By event id, when it was inserted into the log."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT order_id || '@' || version AS id, recorded_at FROM order_events"
        )
    finally:
        await connection.close()
    return {row["id"]: row["recorded_at"].timestamp() for row in rows}


def _delays(arrived: list[Arrival], recorded_at: dict[str, float]) -> list[Delays]:
    """Of each event, the seconds of each stage."""
    found = []
    for one in arrived:
        decided = datetime.fromisoformat(json.loads(one.body)["time"]).timestamp()
        logged = recorded_at[one.event_id]
        found.append((one.at - decided, logged - decided, one.at - logged))
    return found


def _percentiles(delays: list[Delays]) -> dict[str, dict[str, float]]:
    """By stage, percentiles of its duration."""
    return dict(zip(STAGES, map(percentiles_ms, zip(*delays, strict=True)), strict=True))


def _sent(senders: deque[_Sender], number: int) -> int:
    return sum(sender.sent.get(number, 0) for sender in senders)
