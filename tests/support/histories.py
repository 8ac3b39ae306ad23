"""Checks of an order's Temporal history, over all runs of its workflow."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache

import asyncpg
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecution, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from dev.release.golden import epochs, newest_histories, read_history
from dev.stack.programs import Addresses
from tests.support.paths import ROOT
from workflows import history
from workflows.data_converter import DATA_CONVERTER
from workflows.replay import begun, replayer

GOLDEN_HISTORIES = epochs(ROOT)[-1]
GOLDEN_ORDER_ID = "ord_golden"


def golden_histories() -> list[WorkflowHistory]:
    """Those of the newest epoch; the caller may change them."""
    return [read_history(file) for file in newest_histories(ROOT)]


async def runs_of(client: Client, order_id: str) -> list[WorkflowHistory]:
    """The history of each run, newest first."""
    return [run async for run in history.runs_of(client, order_id)]


async def current_details(client: Client, order_id: str) -> str:
    """The Markdown that the Web UI shows of an order."""
    metadata = await client.get_workflow_handle(order_id).query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    details: str = metadata.current_details
    return details


def assert_explained(histories: list[WorkflowHistory]) -> None:
    """Every activity and every timer has a summary, which the Web UI shows."""
    kinds = (EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, EventType.EVENT_TYPE_TIMER_STARTED)
    events = [e for h in histories for e in h.events if e.event_type in kinds]
    assert [event for event in events if not event.user_metadata.summary.data] == []


@cache
def _replayed_in_sandbox() -> set[str]:
    """What no run needs to show in the sandbox again; at first, what the golden histories show."""
    return {kind for run in golden_histories() for kind in kinds_in(run)}


async def assert_golden_histories_replay(kinds: Callable[[WorkflowHistory], set[str]]) -> None:
    """Replays all golden histories, and in the sandbox as many as show every kind."""
    histories = golden_histories()
    await _replay(_each(histories), UnsandboxedWorkflowRunner())
    shows = [kinds(run) for run in histories]
    shown, unseen = list[WorkflowHistory](), set[str]().union(*shows)
    while unseen:
        most = max(range(len(shows)), key=lambda index: len(unseen & shows[index]))
        unseen -= shows[most]
        shown.append(histories[most])
    await assert_replays_in_sandbox(shown)


async def assert_replays(histories: list[WorkflowHistory]) -> None:
    """Replays each run from its start, as a worker with an empty cache does."""
    await _replay(_each(histories), UnsandboxedWorkflowRunner())
    await assert_new_kinds_replay_in_sandbox(histories)


async def assert_new_kinds_replay_in_sandbox(histories: list[WorkflowHistory]) -> None:
    """Replays the runs that show what neither a golden history nor an earlier run has shown.

    The strict sandbox imports the whole workflow for each run, which takes more than a second.
    """
    for run in histories:
        if shown := kinds_in(run) - _replayed_in_sandbox():
            _replayed_in_sandbox().update(shown)
            await assert_replays_in_sandbox([run])


async def assert_all_replay(client: Client, task_queue: str, order_ids: Iterable[str] = ()) -> int:
    """Replays every run of every order of a task queue, and demands its summaries.

    `order_ids` are of orders that Temporal may not list yet. Returns the number of runs.
    """
    runs = 0

    async def histories() -> AsyncIterator[WorkflowHistory]:
        nonlocal runs
        async for past in _all_histories(client, task_queue, order_ids):
            assert_explained([past])
            runs += 1
            yield past

    await _replay(histories(), UnsandboxedWorkflowRunner())
    return runs


async def _all_histories(
    client: Client, task_queue: str, order_ids: Iterable[str]
) -> AsyncIterator[WorkflowHistory]:
    listed = [run async for run in client.list_workflows(f"TaskQueue = '{task_queue}'")]
    seen: set[str] = set()
    for order_id in {*order_ids, *(run.id for run in listed)}:
        async for past in history.runs_of(client, order_id):
            started = past.events[0].workflow_execution_started_event_attributes
            seen.add(started.original_execution_run_id)
            yield past
    for run in listed:
        if run.run_id not in seen and (older := await _history(client, run)):
            yield older


async def _history(client: Client, run: WorkflowExecution) -> WorkflowHistory | None:
    """None if it was deleted, which Temporal's list of workflows may not show yet."""
    try:
        return await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None


async def assert_stack_replays(stack: Addresses) -> None:
    """Replays every run of every order of a stack that runs as processes."""
    client = await Client.connect(
        stack.temporal_address,
        namespace=stack.temporal_namespace,
        data_converter=DATA_CONVERTER,
    )
    connection = await asyncpg.connect(stack.postgres_dsn)
    try:
        rows = await connection.fetch("SELECT DISTINCT order_id FROM order_events")
    finally:
        await connection.close()
    order_ids = [row["order_id"] for row in rows]
    assert await assert_all_replay(client, stack.task_queue, order_ids), "the stack had no order"


async def assert_replays_in_sandbox(histories: list[WorkflowHistory]) -> None:
    """Replays each run in the strict sandbox, with no module of ours passed through.

    A clock, a random number or shared state in the workflow fails here.
    """
    await _replay(_each(histories), SandboxedWorkflowRunner())


def temporal_kinds_in(run: WorkflowHistory) -> set[str]:
    """The kinds of Temporal events in a run."""
    return {EventType.Name(event.event_type) for event in run.events}


def kinds_in(run: WorkflowHistory) -> set[str]:
    """The kinds of Temporal events in a run, and of all that its payloads name by a `type`."""
    written = [event.SerializeToString() for event in run.events]
    return temporal_kinds_in(run) | {
        name.decode() for event in written for name in re.findall(rb'"type":"([\w.-]+)"', event)
    }


async def _each(histories: Iterable[WorkflowHistory]) -> AsyncIterator[WorkflowHistory]:
    for run in histories:
        yield run


async def _replay(histories: AsyncIterator[WorkflowHistory], runner: WorkflowRunner) -> None:
    await replayer(runner).replay_workflows(begun(histories))
