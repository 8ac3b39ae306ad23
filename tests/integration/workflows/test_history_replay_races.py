"""Every history replays under the code that wrote it, also after races."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from contextlib import suppress
from random import Random

import asyncpg
import pytest
from temporalio.client import WorkflowHistory
from temporalio.testing import WorkflowEnvironment

from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from api.problems.errors import ServiceError, TooManyCommands, Unavailable
from eventlog import log
from orders.commands import RemoveItemFromOrder
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.histories import assert_replays, runs_of
from tests.support.servers import connect_temporal, run_worker
from workflows import continuation
from workflows.command_handler import Rejected
from workflows.continuation import HistoryBounds

# An order continues as new every few commands, at rest or not.
BOUNDS = HistoryBounds(at_rest=20, forced=40, seconds_min=0)
AT_ONCE = 6  # Orders; the others follow.
ACCEPTED = 20  # Commands of each order, beside which rejected ones are sent all the time.
REJECTING = 3
WAIT_SECONDS = 60.0
SOAK = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("orders", [3, pytest.param(60, marks=SOAK)])
async def test_histories_replay_after_rejected_commands_and_stops_of_the_worker(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    orders: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuation, "HISTORY_BOUNDS", BOUNDS)
    seed = secrets.randbits(32)
    print("seed", seed)  # Shown if the test fails.
    client, queue = temporal.client, f"races-{new_order_id()}"
    gateway = Gateway(client, pool, queue, 1_000)
    order_ids = [new_order_id() for _ in range(orders)]
    done, at_once, counts = asyncio.Event(), asyncio.Semaphore(AT_ONCE), Counter[str]()

    async def race(order_id: str) -> None:
        async with at_once:
            await execute(gateway, opening(order_id))
            rejecting = [asyncio.create_task(reject(order_id)) for _ in range(REJECTING)]
            for number in range(ACCEPTED):
                await execute(gateway, message(order_id, bagels(), key=str(number)))
            for task in rejecting:
                task.cancel()
            for ended in await asyncio.gather(*rejecting, return_exceptions=True):
                assert isinstance(ended, asyncio.CancelledError), ended

    async def reject(order_id: str) -> None:
        while True:
            with suppress(ServiceError):
                try:
                    await gateway.execute(message(order_id, RemoveItemFromOrder(line_id="none")), 5)
                except Rejected:
                    counts["rejected commands"] += 1

    async def restart_workers() -> None:
        dice, address = Random(seed), str(client.service_client.config.target_host)
        while not done.is_set():
            # Each on a connection of its own, as processes have them.
            connected = (await connect_temporal(address)).client
            counts["stops of the worker"] += 1
            async with run_worker(connected, queue, pool, replays=False):
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), dice.uniform(0.2, 2.0))

    restarting = asyncio.create_task(restart_workers())
    try:
        async with asyncio.timeout(80 * orders):
            await asyncio.gather(*(race(order_id) for order_id in order_ids))
    finally:
        done.set()
        await restarting

    runs: list[WorkflowHistory] = []
    for order_id in order_ids:
        runs += await runs_of(client, order_id)
    assert len(runs) >= 2 * orders  # The forced bound alone makes as many.
    print(len(runs), "runs", *counts.items())
    await assert_replays(runs)
    async with run_worker(client, queue, pool), asyncio.timeout(WAIT_SECONDS):
        for order_id in order_ids:
            while await log.head(pool, order_id) < ACCEPTED + 1:
                await asyncio.sleep(0.05)


async def execute(gateway: Gateway, command: CommandMessage) -> None:
    """Sends a command until it is executed, under one key."""
    while True:
        with suppress(Unavailable, TooManyCommands):
            await gateway.execute(command, 5)
            return
