"""The waits for a worker, as histories show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from dev.history_waits import LongestWaits, longest_waits

BEGAN = datetime(2026, 11, 28, tzinfo=UTC)


def event(
    number: int, seconds: float, kind: str, scheduled: int = 0, attempt: int = 0
) -> HistoryEvent:
    """An event; a Started one names the Scheduled one and its attempt."""
    made = HistoryEvent(event_id=number, event_type=EventType.Value(f"EVENT_TYPE_{kind}"))
    made.event_time.FromDatetime(BEGAN + timedelta(seconds=seconds))
    if kind == "WORKFLOW_TASK_STARTED":
        made.workflow_task_started_event_attributes.scheduled_event_id = scheduled
    if kind == "ACTIVITY_TASK_STARTED":
        made.activity_task_started_event_attributes.scheduled_event_id = scheduled
        made.activity_task_started_event_attributes.attempt = attempt
    return made


def test_longest_wait_of_each_kind_is_found() -> None:
    first = [
        event(1, 0, "WORKFLOW_TASK_SCHEDULED"),
        event(2, 0.5, "WORKFLOW_TASK_STARTED", scheduled=1),
        event(3, 1, "ACTIVITY_TASK_SCHEDULED"),
        event(4, 1, "ACTIVITY_TASK_SCHEDULED"),
        event(5, 1.25, "ACTIVITY_TASK_STARTED", scheduled=4, attempt=1),
        event(6, 8, "ACTIVITY_TASK_STARTED", scheduled=3, attempt=2),
    ]
    second = [
        event(1, 10, "WORKFLOW_TASK_SCHEDULED"),
        event(2, 12, "WORKFLOW_TASK_STARTED", scheduled=1),
        event(3, 12, "WORKFLOW_TASK_SCHEDULED"),
    ]
    histories = [WorkflowHistory("ord_1", first), WorkflowHistory("ord_2", second)]
    assert longest_waits(histories) == LongestWaits(workflow_task=2, activity=0.25)


def test_history_without_started_tasks_has_no_wait() -> None:
    history = WorkflowHistory("ord_1", [event(1, 0, "WORKFLOW_TASK_SCHEDULED")])
    assert longest_waits([history]) == LongestWaits(0, 0)
