"""How long the tasks of orders waited for a worker, as their Temporal histories show."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory


class LongestWaits(NamedTuple):
    """The longest time between Scheduled and Started, in seconds; 0 without tasks."""

    workflow_task: float
    activity: float


def longest_waits(histories: Iterable[WorkflowHistory]) -> LongestWaits:
    """The longest waits in these histories.

    Of activities, only first attempts count: history does not show when a later one was due.
    """
    workflow_tasks, activities = [0.0], [0.0]
    for history in histories:
        scheduled_at: dict[int, datetime] = {}
        for event in history.events:
            at = event.event_time.ToDatetime()
            workflow_task = event.workflow_task_started_event_attributes
            activity = event.activity_task_started_event_attributes
            match event.event_type:
                case (
                    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
                    | EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
                ):
                    scheduled_at[event.event_id] = at
                case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                    waited = at - scheduled_at[workflow_task.scheduled_event_id]
                    workflow_tasks.append(waited.total_seconds())
                case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED if activity.attempt == 1:
                    waited = at - scheduled_at[activity.scheduled_event_id]
                    activities.append(waited.total_seconds())
    return LongestWaits(max(workflow_tasks), max(activities))


async def longest_waits_of(client: Client, task_queue: str) -> LongestWaits:
    """The longest waits in the newest run of every order of a task queue."""
    runs = client.list_workflows(f"TaskQueue = '{task_queue}'")
    return longest_waits([history async for history in runs.map_histories()])
