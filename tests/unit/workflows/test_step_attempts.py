"""How often services were called for steps, from what Temporal describes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.exceptions import ApplicationError

from workflows.step_attempts import Attempts, attempts_of

AT = datetime(2026, 12, 4, 7, 43, tzinfo=UTC)
BEFORE = AT - timedelta(seconds=1)
STEPS = {"book-1": "book", "book-2": "book", "capture-3": "capture"}
DOWN = "the shipping service answered 503: down"


def call(activity: str, attempt: int, *, waits: bool, limit: int = 5) -> PendingActivityInfo:
    state = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    if waits:
        state = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    info = PendingActivityInfo(state=state, attempt=attempt, maximum_attempts=limit)
    info.activity_type.name = activity
    if waits:
        info.scheduled_time.FromDatetime(AT)
    return info


def failed(step_id: str) -> ApplicationError:
    return ApplicationError(DOWN, step_id)


def test_failure_names_its_step() -> None:
    pending = [
        (call("book_shipment", 3, waits=True), failed("book-2")),
        (call("book_shipment", 2, waits=False), failed("book-1")),
        (call("capture_payment", 1, waits=False), None),
    ]
    assert attempts_of(pending, STEPS, BEFORE) == {
        "book-2": Attempts(2, AT, DOWN),
        "book-1": Attempts(2, None, DOWN),
        "capture-3": Attempts(1, None, None),
    }


def test_stuck_step_was_called_in_a_first_series_too() -> None:
    pending = [(call("book_shipment", 8, waits=True, limit=0), failed("book-1"))]
    assert attempts_of(pending, STEPS, BEFORE) == {"book-1": Attempts(5 + 7, AT, DOWN)}


def test_call_that_is_due_has_no_time_of_its_own() -> None:
    pending = [(call("book_shipment", 8, waits=True, limit=0), failed("book-1"))]
    assert attempts_of(pending, STEPS, AT) == {"book-1": Attempts(5 + 7, None, DOWN)}


@pytest.mark.parametrize("step_id", ["book-9", "", None])
def test_call_that_cannot_be_told_from_another_is_left_out(step_id: str | None) -> None:
    pending = [
        (call("book_shipment", 2, waits=True), ApplicationError(DOWN, step_id)),
        (call("publish_events", 9, waits=True, limit=0), ApplicationError("the log is down")),
    ]
    assert attempts_of(pending, STEPS, BEFORE) == {}
    one = {"book-1": "book"}
    assert attempts_of(pending, one, BEFORE) == {"book-1": Attempts(1, AT, DOWN)}


def test_failure_of_a_worker_is_one_without_a_step() -> None:
    pending = [(call("capture_payment", 2, waits=True), RuntimeError("activity timed out"))]
    assert attempts_of(pending, STEPS, BEFORE) == {
        "capture-3": Attempts(1, AT, "activity timed out")
    }
