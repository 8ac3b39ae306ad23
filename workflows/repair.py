"""Whether an order can be started again from the log without losing anything it acknowledged.

Its workflow cannot be replayed, so all that counts is what history shows. A decision is published
by an activity that the same workflow task schedules, unless an earlier batch is still under way. A
run that began by reading the log decides nothing before it has read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from datetime import UTC
from typing import NamedTuple

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from workflows import history
from workflows.activity_options import HEAD_OF_LOG, LOG_AFTER, PUBLISH_EVENTS
from workflows.command_queue import COMMAND
from workflows.messages import CommandResult, QueuedCommands
from workflows.stored_results import StoredResult
from workflows.unreadable import MARKER

_DECIDING = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
    EventType.EVENT_TYPE_TIMER_FIRED,
)

_UNREADABLE = re.compile(rf'{MARKER}([^"]+)')


class NotLossless(Exception):
    """Why starting an order again from the log might lose something, as the rest of a sentence."""


class Scheduled(NamedTuple):
    """The last activity of some kind that a run scheduled."""

    event: HistoryEvent
    is_finished: bool
    """Whether a workflow task has seen its end."""


async def acknowledged(run: WorkflowHistory, converter: DataConverter) -> list[StoredResult]:
    """The results of all updates that a run completed, oldest first."""
    found: list[StoredResult] = []
    for event in run.events:
        if event.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
            continue
        update = event.workflow_execution_update_completed_event_attributes
        if update.outcome.success.payloads:
            (result,) = await converter.decode(update.outcome.success.payloads, [CommandResult])
            at = event.event_time.ToDatetime(tzinfo=UTC)
            found.append(StoredResult(command_id=update.meta.update_id, at=at, result=result))
    return found


def check(
    run: WorkflowHistory, known_version: int, acknowledged: Sequence[StoredResult], logged: Set[str]
) -> None:
    """Raises NotLossless if a run may have decided more than is known of it up to a version.

    `logged` are the ids of the commands that the known events come from.
    """
    versions = [stored.result.version for stored in acknowledged]
    if max(versions, default=0) > known_version:
        raise NotLossless(
            f"version {known_version + 1} was acknowledged, and only the code that began the "
            "history of the order can decide it again"
        )
    if _has_begun(run) and _unread(run) - logged:
        raise NotLossless("it keeps asynchronous commands that only a newer version can read")
    handed = _last_scheduled(run, PUBLISH_EVENTS)
    if handed is None or handed.is_finished:
        return
    first = _began(run, handed.event) + 1
    processed = history.last_processed(run)
    for event in run.events:
        if first <= event.event_id <= processed and event.event_type in _DECIDING:
            raise NotLossless(
                "it may have decided more while events were being published, which only the code "
                "that began its history can decide again"
            )


async def undecided(
    run: WorkflowHistory, converter: DataConverter, logged: Set[str]
) -> list[QueuedCommands]:
    """The asynchronous commands on which a run that passes `check` has not decided, in order.

    Without an event, what it carried and decided on was a no-op or rejected.
    """
    if _has_begun(run):
        queued = await history.unprocessed_commands(run, converter)
    else:
        carried = await history.first_snapshot(run, converter)
        queued = [*carried.queued, *await history.received_commands(run, converter)]
    return [each for each in queued if each.command_id not in logged]


def _has_begun(run: WorkflowHistory) -> bool:
    """Whether a run may have decided on anything: it read no log first, or has read all of it."""
    last = _last_scheduled(run, HEAD_OF_LOG, LOG_AFTER)
    if last is None:
        return history.has_processed(run)
    attempts = sum(_activity(event) == HEAD_OF_LOG for event in run.events)
    return last.is_finished and f"log {attempts - 1}" not in _unreadable(run)


def _last_scheduled(run: WorkflowHistory, *names: str) -> Scheduled | None:
    scheduled: Scheduled | None = None
    processed = history.last_processed(run)
    for event in run.events:
        if _activity(event) in names:
            scheduled = Scheduled(event, is_finished=False)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            ended = event.activity_task_completed_event_attributes.scheduled_event_id
            if scheduled is not None and ended == scheduled.event.event_id:
                scheduled = scheduled._replace(is_finished=event.event_id <= processed)
    return scheduled


def _activity(event: HistoryEvent) -> str | None:
    """The activity that an event schedules."""
    if event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        return None
    name: str = event.activity_task_scheduled_event_attributes.activity_type.name
    return name


def _began(run: WorkflowHistory, scheduled: HistoryEvent) -> int:
    """The last event that the workflow task had seen which scheduled an activity."""
    activity = scheduled.activity_task_scheduled_event_attributes
    task = run.events[activity.workflow_task_completed_event_id - 1]
    return task.workflow_task_completed_event_attributes.started_event_id


def _unread(run: WorkflowHistory) -> set[str]:
    """The ids of the commands that the run could not read, at least at first."""
    return {what.split()[1] for what in _unreadable(run) if what.startswith(COMMAND)}


def _unreadable(run: WorkflowHistory) -> set[str]:
    """All that the run could not read."""
    found: set[str] = set()
    for event in run.events:
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            details = event.marker_recorded_event_attributes.details
            texts = [p.data.decode() for part in details.values() for p in part.payloads]
            found.update(match[1] for text in texts if (match := _UNREADABLE.search(text)))
    return found
