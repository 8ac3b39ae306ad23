"""What an order's Temporal history says: the events for the log, and what was posted to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from eventlog.envelope import Batch, Envelope
from workflows import idempotency as memory
from workflows.activity_options import PUBLISH_EVENTS
from workflows.messages import QueuedCommands, Snapshot, WorkflowInput

_TASK = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)


async def runs_of(client: Client, order_id: str) -> AsyncIterator[WorkflowHistory]:
    """The history of each run of an order that is still there, newest first."""
    run_id: str | None = None
    while True:
        handle = client.get_workflow_handle(order_id, run_id=run_id)
        try:
            history = await handle.fetch_history()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return  # Retention has ended.
            raise
        yield history
        started = history.events[0].workflow_execution_started_event_attributes
        run_id = started.continued_execution_run_id
        if not run_id:
            return


async def recorded(history: WorkflowHistory, converter: DataConverter) -> list[Envelope]:
    """The events that one run of an order handed on to be published, in order."""
    events: dict[int, Envelope] = {}
    for event in history.events:
        task = event.activity_task_scheduled_event_attributes
        if (
            event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
            and task.activity_type.name == PUBLISH_EVENTS
        ):
            (batch,) = await converter.decode(task.input.payloads, [Batch])
            events |= {envelope.version: envelope for envelope in batch.events}
    return [events[version] for version in sorted(events)]


async def outcome(
    history: WorkflowHistory, converter: DataConverter, command_id: str, *, unheard: bool
) -> memory.CommandStatus | None:
    """What one run says of a posted instruction without any worker; None if it never came.

    What the run decided itself only a worker can say: to this it waits, and so does what may have
    come during a task. With `unheard`, only what the run has not heard yet: of all else it has been
    asked.
    """
    started = history.events[0].workflow_execution_started_event_attributes
    (start,) = await converter.decode(started.input.payloads, [WorkflowInput])
    snapshot = start.snapshot or Snapshot()
    known = memory.outcome(
        command_id,
        memory.unpacked(snapshot.answers),
        memory.unpacked_rejections(snapshot.refusals),
    )
    if known is not None and not unheard:
        return known
    heard = _heard(history) if unheard else 0
    for event in history.events:
        if (
            event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
            and event.event_id > heard
        ):
            payloads = event.workflow_execution_signaled_event_attributes.input.payloads
            (queued,) = await converter.decode(payloads, [QueuedCommands])
            if queued.command_id == command_id:
                return memory.CommandStatus()
    # What comes during a task enters history after it: of a worker that has died, seconds later.
    return memory.CommandStatus() if not unheard and _is_in_a_task(history) else None


def _is_in_a_task(history: WorkflowHistory) -> bool:
    kinds = [event.event_type for event in history.events if event.event_type in _TASK]
    return kinds[-1:] == [EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED]


def _heard(history: WorkflowHistory) -> int:
    """The id of the last event that a completed workflow task has seen."""
    return max(
        (
            event.workflow_task_completed_event_attributes.started_event_id
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        ),
        default=0,
    )
