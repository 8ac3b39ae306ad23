"""Runs of an order's workflow end early and often, and nothing is lost, repeated or late."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.testing import WorkflowEnvironment

from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from api.problems.errors import TooManyCommands, Unavailable
from eventlog import log
from orders.commands import AddNote
from orders.policy import Policy
from orders.steps import ShipmentArrived
from tests.support.command_builders import OPENING, message, new_order_id, opening
from tests.support.histories import assert_replays, current_details, runs_of
from tests.support.servers import MAX_CONCURRENT_COMMANDS, Running, run_worker
from tests.support.shop import MILK, Shop
from tests.support.workflow_runs import published
from workflows import continuation
from workflows.continuation import HISTORY_BOUNDS, HistoryBounds
from workflows.history import first_snapshot

WAIT_SECONDS = 30.0
SOAK = [pytest.mark.soak, pytest.mark.timeout(1800)]
AT_REST = HistoryBounds(at_rest=24, forced=10_000, seconds_min=1.0)
FORCED = HistoryBounds(at_rest=24, forced=60, seconds_min=1.0)
AT_ONCE = 8


async def test_order_continues_as_new_at_rest_and_its_details_link_to_the_run_before(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "HISTORY_BOUNDS", AT_REST)
    order_id, gateway = new_order_id(), orderly.gateway
    first_opening = await gateway.execute(opening(order_id), WAIT_SECONDS)
    runs, version = await runs_of(orderly.client, order_id), 1
    async with asyncio.timeout(WAIT_SECONDS):
        while len(runs) < 2:
            note = message(order_id, AddNote(text="…"))
            version = (await gateway.execute(note, WAIT_SECONDS)).version
            await published(orderly, order_id, version)
            await asyncio.sleep(0.05)
            runs = await runs_of(orderly.client, order_id)

    second, first = runs
    assert len(first.events) >= AT_REST.at_rest
    kinds = {event.event_type for event in first.events}
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds
    snapshot = await first_snapshot(second, orderly.client.data_converter)
    began = snapshot.order.version
    assert began in (version - 1, version)  # Another note may have followed at once.
    assert snapshot.unpublished == []
    link = f"namespaces/default/workflows/{order_id}/{first.run_id}/history"
    details = await current_details(orderly.client, order_id)
    assert f"This run began at version {began}, draft, after 1 earlier run:" in details
    assert f"- [to version {began}, draft]({link})" in details
    assert await gateway.execute(opening(order_id), WAIT_SECONDS) == first_opening
    await assert_replays(runs)


async def test_order_with_a_stuck_step_continues_as_new_by_force_and_calls_the_service_once(
    orderly: Running, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "HISTORY_BOUNDS", FORCED)
    order = await shop.place_order(MILK, payment_method="pm_down")
    await order.wait_for(needs_attention=1)
    runs = await runs_of(orderly.client, order.order_id)
    async with asyncio.timeout(WAIT_SECONDS):
        while len(runs) < 2:
            await order.execute("add-note", text="…")
            runs = await runs_of(orderly.client, order.order_id)

    assert len(runs[1].events) >= FORCED.forced
    snapshot = await first_snapshot(runs[0], orderly.client.data_converter)
    assert snapshot.order.steps
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled(status="confirmed")
    await order.assert_ledgers_agree()
    await assert_replays(await runs_of(orderly.client, order.order_id))


async def test_usual_order_lives_in_one_run(orderly: Running, shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.ship()
    await order.deliver()
    await order.return_pieces("milk", 1)
    await order.wait_until_settled(return_status="partly_returned")

    (run,) = await runs_of(orderly.client, order.order_id)
    assert len(run.events) < HISTORY_BOUNDS.at_rest


@pytest.mark.parametrize("count", [160, pytest.param(900, marks=SOAK)])
async def test_order_that_gets_commands_faster_than_it_continues_as_new_loses_none(
    orderly: Running, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Temporal delays the next run, and rejects commands while one ends."""
    bounds = HistoryBounds(at_rest=12, forced=24, seconds_min=0)
    monkeypatch.setattr(continuation, "HISTORY_BOUNDS", bounds)
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def send(number: int) -> None:
        note = message(order_id, AddNote(text=f"{number}"), key=f"{number}")
        async with at_once:
            await (enqueue(gateway, note) if number % 2 else execute(gateway, note))

    await asyncio.gather(*(send(number) for number in range(count)))

    await published(orderly, order_id, count + 1)
    stream = await log.read_stream(orderly.pool, order_id)
    assert Counter(event.data.get("text") for event in stream[1:]) == Counter(
        map(str, range(count))
    )
    runs = await runs_of(orderly.client, order_id)
    assert len(runs) > count / 60
    await assert_replays(runs)


@pytest.mark.parametrize("count", [12, pytest.param(600, marks=SOAK)])
async def test_burst_of_callbacks_to_cold_orders_is_applied_once(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, count: int
) -> None:
    order_ids = [new_order_id() for _ in range(count)]
    async with cold_worker(temporal, pool) as gateway:
        await in_parallel(gateway, [opening(order_id) for order_id in order_ids])
        callbacks = [
            message(order_id, ShipmentArrived(shipment_id=ghost), key=ghost)
            for ghost in ("one", "two", "three")
            for order_id in order_ids
        ]
        # A service repeats a callback that was not answered in time.
        await asyncio.gather(*(in_parallel(gateway, callbacks) for _ in range(2)))
        async with asyncio.timeout(WAIT_SECONDS):
            while await logged(pool) < 4 * count:
                await asyncio.sleep(0.05)
        for order_id in order_ids:
            stream = await log.read_stream(pool, order_id)
            found = [event.data.get("discrepancy_id") for event in stream[1:]]
            assert sorted(map(str, found)) == [
                f"unknown-shipment:{ghost}" for ghost in ("one", "three", "two")
            ]


@pytest.mark.parametrize(("count", "seconds"), [(40, 4), pytest.param(5_000, 300, marks=SOAK)])
async def test_deadlines_in_the_same_second_are_met_once_each(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, count: int, seconds: int
) -> None:
    due = time.time() + seconds
    async with cold_worker(temporal, pool) as gateway:

        def expiring(order_id: str) -> CommandMessage:
            policy = Policy(draft=max(1, round(due - time.time())))
            first = OPENING.model_copy(update={"policy": policy})
            return message(order_id, first, key="open", creates_order=True)

        await in_parallel(gateway, (expiring(new_order_id()) for _ in range(count)))
        async with asyncio.timeout(seconds + WAIT_SECONDS + count / 10):
            while await logged(pool, "order-expired") < count:
                await asyncio.sleep(0.05)
    rows = await pool.fetch("SELECT order_id, type, occurred_at FROM order_events")
    expired = [row for row in rows if row["type"] == "order-expired"]
    assert len(rows) == 2 * count
    assert len({row["order_id"] for row in expired}) == count
    early = due - timedelta(seconds=1.5).total_seconds()
    assert min(row["occurred_at"].timestamp() for row in expired) > early


@asynccontextmanager
async def cold_worker(temporal: WorkflowEnvironment, pool: asyncpg.Pool) -> AsyncIterator[Gateway]:
    """A gateway to orders of a worker that keeps none of them ready for long."""
    queue = f"cold-{new_order_id()}"
    async with run_worker(temporal.client, queue, pool, max_cached_workflows=3):
        yield Gateway(temporal.client, pool, queue, MAX_CONCURRENT_COMMANDS)


async def in_parallel(gateway: Gateway, commands: Iterable[CommandMessage]) -> None:
    """Executes commands, some at a time."""
    remaining = iter(commands)

    async def work() -> None:
        for command in remaining:
            await execute(gateway, command)

    await asyncio.gather(*(work() for _ in range(5 * AT_ONCE)))


async def execute(gateway: Gateway, command: CommandMessage) -> None:
    """Sends a command until it is executed, under one key."""
    while True:
        with suppress(Unavailable, TooManyCommands):
            await gateway.execute(command, WAIT_SECONDS)
            return


async def enqueue(gateway: Gateway, command: CommandMessage) -> None:
    """Sends an asynchronous command until it is queued, under one key."""
    while True:
        with suppress(Unavailable, TooManyCommands):
            await gateway.enqueue(command)
            return


async def logged(pool: asyncpg.Pool, event_type: str | None = None) -> int:
    """The number of events in the log, of one type or in all."""
    query = "SELECT count(*)::int FROM order_events WHERE $1::text IS NULL OR type = $1"
    count: int = await pool.fetchval(query, event_type)
    return count
