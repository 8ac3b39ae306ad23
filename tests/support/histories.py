"""Looks into an order's Temporal history, over all runs of its workflow."""

from __future__ import annotations

from collections.abc import AsyncIterator

from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from workflows import history as recorded
from workflows.order import OrderWorkflow


async def runs_of(client: Client, order_id: str) -> list[WorkflowHistory]:
    """The history of each run, newest first."""
    return [run async for run in recorded.runs_of(client, order_id)]


async def current_details(client: Client, order_id: str) -> str:
    """The Markdown that the Web UI shows of an order."""
    metadata = await client.get_workflow_handle(order_id).query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    details: str = metadata.current_details
    return details


def assert_explained(histories: list[WorkflowHistory]) -> None:
    """Every activity and every timer has a line for whoever reads it in the Web UI."""
    kinds = (EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, EventType.EVENT_TYPE_TIMER_STARTED)
    events = [e for h in histories for e in h.events if e.event_type in kinds]
    assert [event for event in events if not event.user_metadata.summary.data] == []


async def assert_replays(histories: list[WorkflowHistory]) -> None:
    """Replays each run from its beginning, as a worker does that has nothing in its cache.

    In the strict sandbox, with nothing of ours passed through: a clock, chance or a shared state in
    the workflow fails here.
    """

    async def one_by_one() -> AsyncIterator[WorkflowHistory]:
        for history in histories:
            yield history

    # It imports everything anew for each run. On a busy machine that may take two seconds, which
    # would be called a deadlock, but for debug mode.
    replayer = Replayer(
        workflows=[OrderWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=SandboxedWorkflowRunner(),
        debug_mode=True,
    )
    await replayer.replay_workflows(one_by_one())
