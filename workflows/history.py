"""Reads an order's Temporal history: the events it published, and its asynchronous commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from eventlog.envelope import Batch, Envelope, Ineffective
from workflows import idempotency
from workflows.activity_options import PUBLISH_EVENTS
from workflows.idempotency import CommandStatus
from workflows.messages import QueuedCommands
from workflows.snapshot import Snapshot, WorkflowInput

_WORKFLOW_TASK = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
)


async def runs_of(client: Client, order_id: str) -> AsyncIterator[WorkflowHistory]:
    """The history of each run of an order that Temporal retains, newest first."""
    run_id: str | None = None
    while history := await _run(client, order_id, run_id):
        yield history
        started = history.events[0].workflow_execution_started_event_attributes
        run_id = started.continued_execution_run_id
        if not run_id:
            return


async def all_runs_of(client: Client, order_id: str) -> AsyncIterator[WorkflowHistory]:
    """Like `runs_of`, and then the runs from before the order was last started again.

    Those that ended a moment ago may be absent, as visibility lists them.
    """
    seen: set[str] = set()
    async for history in runs_of(client, order_id):
        started = history.events[0].workflow_execution_started_event_attributes
        seen.add(started.original_execution_run_id)
        yield history
    if not seen:
        return
    runs = [run async for run in client.list_workflows(f"WorkflowId = '{order_id}'")]
    for run in sorted(runs, key=lambda run: run.start_time, reverse=True):
        if run.run_id not in seen and (older := await _run(client, order_id, run.run_id)):
            yield older


async def _run(client: Client, order_id: str, run_id: str | None) -> WorkflowHistory | None:
    """The history of a run, or of the newest; None if its retention has ended."""
    try:
        return await client.get_workflow_handle(order_id, run_id=run_id).fetch_history()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def events_for_log(history: WorkflowHistory, converter: DataConverter) -> list[Envelope]:
    """The events that one run scheduled for publishing, in order."""
    batches = await _batches_for_log(history, converter)
    events = {envelope.version: envelope for batch in batches for envelope in batch.events}
    return [events[version] for version in sorted(events)]


async def ineffective_for_log(
    history: WorkflowHistory, converter: DataConverter
) -> list[Ineffective]:
    """What changed nothing and the journal may lack: what a run began with, and scheduled."""
    carried = await first_snapshot(history, converter)
    batches = await _batches_for_log(history, converter)
    return [*carried.ineffective, *(each for batch in batches for each in batch.ineffective)]


async def _batches_for_log(history: WorkflowHistory, converter: DataConverter) -> list[Batch]:
    batches: list[Batch] = []
    for event in history.events:
        activity = event.activity_task_scheduled_event_attributes
        if (
            event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
            and activity.activity_type.name == PUBLISH_EVENTS
        ):
            batches += await converter.decode(activity.input.payloads, [Batch])
    return batches


async def command_status(
    history: WorkflowHistory, converter: DataConverter, command_id: str, *, unprocessed_only: bool
) -> CommandStatus | None:
    """The status of an asynchronous command by one run's history, read without a worker.

    None if the run never received it. What the run itself decided only a worker knows: that is
    reported as pending, and so is every command while a workflow task is running, because signals
    enter history after it. With `unprocessed_only`, for a run that a worker was asked about, only
    commands count that no workflow task has processed.
    """
    snapshot = await first_snapshot(history, converter)
    after = last_processed(history) if unprocessed_only else 0
    # As for a worker: a command whose rejection is stored may have been sent again since.
    waiting = {queued.command_id for queued in snapshot.queued}
    if after == 0 and (snapshot.is_incomplete or command_id in waiting):
        return CommandStatus()
    known = idempotency.status_of(
        command_id, snapshot.stored_results(), snapshot.stored_rejections()
    )
    if known is not None and not unprocessed_only:
        return known
    if any(queued.command_id == command_id for queued in await _queued(history, converter, after)):
        return CommandStatus()
    # After a worker has died, its task is taken for running until it times out, seconds later.
    return CommandStatus() if not unprocessed_only and _has_running_task(history) else None


async def unprocessed_commands(
    history: WorkflowHistory, converter: DataConverter
) -> list[QueuedCommands]:
    """The asynchronous commands that no workflow task of this run has processed, in order."""
    return await _queued(history, converter, last_processed(history))


async def received_commands(
    history: WorkflowHistory, converter: DataConverter
) -> list[QueuedCommands]:
    """The asynchronous commands that this run received, in order."""
    return await _queued(history, converter, 0)


async def first_snapshot(history: WorkflowHistory, converter: DataConverter) -> Snapshot:
    """The state with which a run began."""
    started = history.events[0].workflow_execution_started_event_attributes
    (start,) = await converter.decode(started.input.payloads, [WorkflowInput])
    return start.snapshot or Snapshot()


async def first_version(history: WorkflowHistory, converter: DataConverter) -> int | None:
    """The version of the order with which a run began; None if this version cannot find it.

    Another version's is found even if the rest of its order cannot be read.
    """
    started = history.events[0].workflow_execution_started_event_attributes
    match await converter.decode(started.input.payloads):
        case [{"snapshot": {"order": {"version": int(version)}}}]:
            return version
        case [{"snapshot": {}}]:
            return None
        case _:
            return 0


def has_processed(history: WorkflowHistory) -> bool:
    """Whether any workflow task of this run has completed."""
    return last_processed(history) > 0


async def _queued(
    history: WorkflowHistory, converter: DataConverter, after: int
) -> list[QueuedCommands]:
    """The commands in signals after an event."""
    commands: list[QueuedCommands] = []
    for event in history.events:
        signal = event.workflow_execution_signaled_event_attributes
        if (
            event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
            and event.event_id > after
        ):
            for argument in await converter.decode(signal.input.payloads):
                with suppress(ValueError):  # Another signal, which the workflow ignores, too.
                    commands.append(QueuedCommands.read(argument))
    return commands


def _has_running_task(history: WorkflowHistory) -> bool:
    kinds = [event.event_type for event in history.events if event.event_type in _WORKFLOW_TASK]
    return kinds[-1:] == [EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED]


def last_processed(history: WorkflowHistory) -> int:
    """The id of the last event that a completed workflow task has seen."""
    return max(
        (
            event.workflow_task_completed_event_attributes.started_event_id
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
        ),
        default=0,
    )
