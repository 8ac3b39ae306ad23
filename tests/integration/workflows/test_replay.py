"""Histories recorded by earlier code replay with today's code."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

import workflows.command_handler
from dev.release.golden import epochs
from dev.release.past import orders_of
from orders.commands import COMMAND_TYPES, AddItemToOrder, type_of
from orders.decider import Message
from orders.evolve import fold
from orders.upcasting import restore
from tests.support.changed_rules import decide_dearer
from tests.support.histories import (
    assert_golden_histories_replay,
    assert_replays,
    golden_histories,
    kinds_in,
    temporal_kinds_in,
)
from tests.support.paths import ROOT
from tests.support.recorded_histories import without_stack_traces
from workflows.messages import CommandBatch, QueuedCommands, UnreadCommand
from workflows.publisher import HistoryDiverged

WAIT_SECONDS = 30.0


@pytest.mark.parametrize(
    "kinds", [temporal_kinds_in, pytest.param(kinds_in, marks=pytest.mark.soak)]
)
async def test_golden_histories_replay_to_the_published_events(
    kinds: Callable[[WorkflowHistory], set[str]],
) -> None:
    """The workflow compares digests: other events than the published ones would fail a replay.

    The sandbox, which is slow, finds clocks and shared state; of rules, `test_layout.py` does.
    """
    await assert_golden_histories_replay(kinds)


def test_golden_histories_name_no_folder_of_a_machine() -> None:
    named = [file for epoch in epochs(ROOT) for file in epoch.glob("*.json")]
    texts = [file.read_text() for file in named]
    assert not any('File \\"/' in text for text in texts)
    assert texts == [without_stack_traces(text) for text in texts]


async def test_golden_histories_of_all_epochs_fold() -> None:
    files = [file for epoch in epochs(ROOT) for file in epoch.glob("*.json")]
    orders = [order async for order in orders_of(files)]
    assert len(orders) >= len(epochs(ROOT)) * 8
    for order in orders:
        assert fold(restore(*fact) for fact in order.events).version == len(order.events)


def test_golden_histories_contain_every_command() -> None:
    shown = Counter(
        command.type for history in golden_histories() for command in commands_in(history)
    )
    assert set(shown) >= {type_of(command_type) for command_type in COMMAND_TYPES}


def test_golden_histories_contain_asynchronous_commands() -> None:
    assert sum(len(queued_in(history)) for history in golden_histories()) > 10


async def test_run_that_waits_for_its_first_task_has_nothing_to_replay() -> None:
    """As after a continue-as-new; the replayer of the SDK would wait for ever."""
    complete = golden_histories()[0]
    waiting = WorkflowHistory(complete.workflow_id, complete.events[:1])
    async with asyncio.timeout(WAIT_SECONDS):
        await assert_replays([waiting, complete])


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


def commands_in(history: WorkflowHistory) -> list[Message | UnreadCommand]:
    """The commands of the updates that an order accepted."""
    converter = pydantic_data_converter.payload_converter
    commands: list[Message | UnreadCommand] = []
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
