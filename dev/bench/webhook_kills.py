"""Deliverers that are killed every second, while events come."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

import asyncpg
from rich.console import Console

from dev.bench.report import Json
from dev.bench.servers import PostgresServer, postgres
from dev.bench.webhook_endpoints import DEAD, SETTINGS, Fleet, register
from dev.stack.supervisor import SupervisedProcess
from dev.webhook_receiver import Receiver, serving
from eventlog import log
from eventlog.announcements import announce
from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import connect_pool
from orders.events import NoteAdded, OrderEvent, OrderOpened
from outbound.webhooks import endpoints

EVENTS_PER_APPEND = 5
EVENTS_PER_ORDER = 10
KILL_INTERVAL_S = 1.0
CATCH_UP_S_MAX = 300.0
_ABOUT = Metadata(actor="bench", command="bench", command_id="bench", payload_hash="bench")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Writes and kills; then the dead come back, and what every endpoint accepted is compared."""
    fleet = Fleet.of(options.endpoints)
    receiver = fleet.receiver()
    async with postgres() as server, serving(receiver) as url:
        dsn = await server.database("kills")
        async with await connect_pool(dsn) as pool:
            ids = [
                await register(pool, fleet.url(n, url), fleet.customer_id(n))
                for n in range(fleet.size)
            ]
            deliverers = [await _start(server, dsn, number) for number in (1, 2)]
            console.print(f"{options.events:,} events, and a kill every second …")
            done = asyncio.Event()
            killing = asyncio.create_task(_kill_repeatedly(deliverers, done))
            expected = await _write(pool, fleet, options.events, options.seconds)
            done.set()
            kills = await killing
            console.print("the dead come back …")
            async with serving(receiver, fleet.dead_port):
                for endpoint_id in ids[:DEAD]:
                    await endpoints.resume(pool, endpoint_id)
                await _wait_until_complete(receiver, fleet, expected)
    return {
        "events": sum(map(len, expected.values())),
        "kills": kills,
        "seconds": options.seconds,
        **compare(receiver, fleet, expected),
    }


async def _start(server: PostgresServer, dsn: str, number: int) -> SupervisedProcess:
    return await server.start_orderly(
        "deliverer", dsn, name=f"deliverer-{number}", settings=SETTINGS
    )


async def _write(
    pool: asyncpg.Pool, fleet: Fleet, events: int, seconds: int
) -> dict[int, set[str]]:
    """Appends events at a constant rate; returns the ids that each endpoint must get."""
    expected: dict[int, set[str]] = defaultdict(set)
    clock = asyncio.get_running_loop().time
    began, appends = clock(), -(-events // EVENTS_PER_APPEND)
    per_order = EVENTS_PER_ORDER // EVENTS_PER_APPEND
    for number in range(appends):
        # The orders of all endpoints grow side by side.
        round_number, endpoint = divmod(number, fleet.size)
        order_number, part = divmod(round_number, per_order)
        order_id = f"order-{endpoint}-{order_number}"
        versions = range(part * EVENTS_PER_APPEND + 1, (part + 1) * EVENTS_PER_APPEND + 1)
        batch = [_envelope(fleet.customer_id(endpoint), version) for version in versions]
        async with pool.acquire() as connection:
            await log.append(connection, order_id, batch)
            await announce(connection)
        expected[endpoint] |= {f"{order_id}@{version}" for version in versions}
        await asyncio.sleep(began + (number + 1) * seconds / appends - clock())
    return expected


def _envelope(customer_id: str, version: int) -> Envelope:
    event: OrderEvent = NoteAdded(note_id=f"{version}", text="Please ring twice.")
    if version == 1:
        event = OrderOpened(customer_id=customer_id, currency="USD")
    return Envelope.of(event, version, datetime.now(UTC), _ABOUT)


async def _kill_repeatedly(deliverers: list[SupervisedProcess], done: asyncio.Event) -> int:
    """Kills one after the other, and starts each again; returns the number of kills."""
    kills = 0
    while not done.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_INTERVAL_S):
                await done.wait()
        victim = deliverers[kills % len(deliverers)]
        os.kill(victim.pid, signal.SIGKILL)
        while victim.exit_reason is None:
            await asyncio.sleep(0.01)
        await victim.start()
        kills += 1
    return kills


async def _wait_until_complete(
    receiver: Receiver, fleet: Fleet, expected: dict[int, set[str]]
) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(CATCH_UP_S_MAX):
            while compare(receiver, fleet, expected)["lost"]:
                await asyncio.sleep(0.5)


def compare(receiver: Receiver, fleet: Fleet, expected: dict[int, set[str]]) -> Json:
    """How many events were lost, came out of order, or came again."""
    lost = out_of_order = duplicates = 0
    for number, ids in expected.items():
        path = fleet.path(number)
        first = receiver.accepted_ids(path)
        lost += len(ids - set(first))
        duplicates += sum(one.accepted for one in receiver.arrivals.get(path, [])) - len(first)
        out_of_order += _count_out_of_order(first)
    return {"lost": lost, "out_of_order": out_of_order, "duplicates": duplicates}


def _count_out_of_order(event_ids: Iterable[str]) -> int:
    """How many events came, for the first time, after a later one of their order."""
    newest: dict[str, int] = {}
    count = 0
    for event_id in event_ids:
        order_id, _, version = event_id.rpartition("@")
        count += int(version) < newest.get(order_id, 0)
        newest[order_id] = max(newest.get(order_id, 0), int(version))
    return count
