"""How often the services have been called for the steps of an order, and when they are next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client
from temporalio.exceptions import ApplicationError

from workflows.activity_options import STEP_ACTIVITIES, STEP_RETRY

_ACTIVITY_OF_TYPE = {
    step.model_fields["type"].default: activity for step, activity in STEP_ACTIVITIES.items()
}


class Attempts(NamedTuple):
    """The calls of a service for one step, in the series that is under way."""

    begun: int
    """Including the one that runs, if one does."""
    next_at: datetime | None
    """None while one runs, and while one that is due waits for its turn."""
    error: str | None
    """Why the last one failed."""


async def read_attempts(
    client: Client, order_id: str, steps: Mapping[str, str]
) -> dict[str, Attempts]:
    """By step id, the attempts of those of `steps` (type by id) whose calls Temporal repeats.

    A step whose call has not begun is missing, as is one that a service has rejected, and one that
    cannot be told from another of its type. Raises RPCError.
    """
    described = await client.get_workflow_handle(order_id).describe()
    pending = described.raw_description.pending_activities
    errors = [
        await client.data_converter.decode_failure(each.last_failure)
        if each.HasField("last_failure")
        else None
        for each in pending
    ]
    return attempts_of(list(zip(pending, errors, strict=True)), steps, datetime.now(UTC))


def attempts_of(
    pending: Sequence[tuple[PendingActivityInfo, BaseException | None]],
    steps: Mapping[str, str],
    now: datetime,
) -> dict[str, Attempts]:
    """The attempts by step, of pending activities with their last failures; pure.

    A failure has the id of its step. Of those without one, such as a first attempt, only the single
    one of its type is told from the others.
    """
    found: dict[str, Attempts] = {}
    unnamed: defaultdict[str, list[Attempts]] = defaultdict(list)
    for info, error in pending:
        attempts = _attempts(info, error, now)
        step_id = next(iter(error.details), None) if isinstance(error, ApplicationError) else None
        if isinstance(step_id, str) and step_id in steps:
            found[step_id] = attempts
        else:
            unnamed[info.activity_type.name].append(attempts)
    for activity, calls in unnamed.items():
        others = [
            step_id
            for step_id, type_ in steps.items()
            if step_id not in found and _ACTIVITY_OF_TYPE[type_] == activity
        ]
        if len(others) == len(calls) == 1:
            found[others[0]] = calls[0]
    return found


def _attempts(info: PendingActivityInfo, error: BaseException | None, now: datetime) -> Attempts:
    waits = info.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    # An attempt is counted when it is scheduled. A stuck step is called without a limit, after a
    # first series that had one.
    begun = info.attempt - waits
    earlier = 0 if info.maximum_attempts else STEP_RETRY.maximum_attempts
    message = str(error.message if isinstance(error, ApplicationError) else error or "") or None
    at = _scheduled_at(info) if waits else None
    return Attempts(begun + earlier, at if at and at > now else None, message)


def _scheduled_at(info: PendingActivityInfo) -> datetime | None:
    for name in ("next_attempt_schedule_time", "scheduled_time"):
        if info.HasField(name):
            at: datetime = getattr(info, name).ToDatetime(tzinfo=UTC)
            return at
    return None
