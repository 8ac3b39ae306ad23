"""Compares an order's events in the log with all histories that Temporal retains of it.

Temporal records each event before the log has it. So, if nothing was restored, all that Temporal
shows as published is in the log, and the log has nothing that Temporal does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter

from eventlog import log
from eventlog.envelope import Batch, Envelope
from eventlog.postgres import Reader
from workflows.activity_options import HEAD_OF_LOG, LOG_AFTER, PUBLISH_EVENTS
from workflows.history import all_runs_of, first_snapshot, first_version
from workflows.snapshot import Snapshot

Logged = Mapping[int, tuple[str, dict[str, Any]]]
"""Type and data of an order's events in the log, by version."""

_CLOSINGS = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
)


class Run(NamedTuple):
    """What the history of one run says of its order's events."""

    run_id: str
    is_closed: bool
    published: Sequence[Envelope]
    pending: Sequence[Envelope]
    """Decided, and not known to be published."""
    base: int
    """The version up to which all was published before the run began, as far as is known."""
    head: int | None
    """The last version that it knows; None if it has yet to read the log, or if only the version
    of the software that made its snapshot can tell."""


class Comparison(NamedTuple):
    """How the log and Temporal differ about one order; what is on its way is no difference."""

    missing: Sequence[Envelope]
    """Published according to Temporal, and not in the log; in order."""
    lost: Sequence[int]
    """Versions that were published, and that neither has."""
    forked: Sequence[Envelope]
    """Temporal's events of which the log has another one under the same version."""
    ahead: int
    """The number of events in the log that the newest run does not know: Temporal is older."""
    newest: Run | None
    """None if Temporal has no run."""


async def read_runs(client: Client, order_id: str) -> list[Run]:
    """All retained runs of an order, the newest first."""
    return [
        await read_run(each, client.data_converter) async for each in all_runs_of(client, order_id)
    ]


def compare(logged: Logged, runs: Sequence[Run], logged_later: Logged | None = None) -> Comparison:
    """Compares what was in the log before the runs were read, and `logged_later` after it.

    Without `logged_later`, an event that was published in between is taken for missing.
    """
    newest = runs[0] if runs else None
    now = logged if logged_later is None else logged_later
    published = {e.version: e for run in reversed(runs) for e in run.published}
    known = [e for run in runs for e in run.published] + list(newest.pending if newest else ())
    missing = [published[version] for version in sorted(published.keys() - now.keys())]
    return Comparison(
        missing=missing,
        lost=_lost(now, published.keys(), runs),
        forked=_forked(now, known),
        ahead=_ahead(logged, newest),
        newest=newest,
    )


async def compare_order(
    reader: Reader, client: Client, order_id: str, logged: Logged | None = None
) -> Comparison:
    """Compares an order; `logged` is what the log has of it, if that was read already."""
    if logged is None:
        logged = await _logged(reader, order_id)
    runs = await read_runs(client, order_id)
    found = compare(logged, runs)
    if found.missing or found.lost:  # Unless they were published since the log was read.
        found = compare(logged, runs, await _logged(reader, order_id))
    return found


async def _logged(reader: Reader, order_id: str) -> Logged:
    return by_version(await log.read_order(reader, order_id, after=0))


def by_version(events: Iterable[Any]) -> Logged:
    """An order's events from the log, by version."""
    return {event.version: (event.type, event.data) for event in events}


def _lost(logged: Logged, published: Iterable[int], runs: Sequence[Run]) -> list[int]:
    have = logged.keys() | set(published)
    if runs:
        have |= {event.version for event in runs[0].pending}
    end = max([*have, *(run.base for run in runs)], default=0)
    return [version for version in range(1, end + 1) if version not in have]


def _forked(logged: Logged, known: Iterable[Envelope]) -> list[Envelope]:
    other = {
        event.version: event
        for event in known
        if logged.get(event.version, (event.type, event.data)) != (event.type, event.data)
    }
    return [other[version] for version in sorted(other)]


def _ahead(logged: Logged, newest: Run | None) -> int:
    if newest is None or newest.head is None:
        return 0
    return max(max(logged, default=0) - newest.head, 0)


async def read_run(history: WorkflowHistory, converter: DataConverter) -> Run:
    """What one history says."""
    snapshot = await first_snapshot(history, converter)
    first = await first_version(history, converter)
    scheduled, results = _activities(history)
    published: dict[int, Envelope] = {}
    pending = {event.version: event for event in snapshot.unpublished}
    head: int | None = None
    caught_up = first or 0
    for key, (name, arguments) in scheduled.items():
        if name == PUBLISH_EVENTS:
            (batch,) = await converter.decode(arguments, [Batch])
            events = {event.version: event for event in batch.events}
            pending |= events
            published |= events if key in results else {}
        elif name == HEAD_OF_LOG and key in results:
            (head,) = await converter.decode(results[key], [int])
        elif name == LOG_AFTER and key in results:
            (batch,) = await converter.decode(results[key], [Batch])
            caught_up = max([caught_up, *(event.version for event in batch.events)])
    is_closed = history.events[-1].event_type in _CLOSINGS
    may_read = snapshot.reopened or snapshot.is_incomplete
    is_reading = not is_closed and (may_read if head is None else head > caught_up)
    known = max([caught_up, *pending])
    started = history.events[0].workflow_execution_started_event_attributes
    return Run(
        run_id=started.original_execution_run_id,
        is_closed=is_closed,
        published=[published[version] for version in sorted(published)],
        pending=[pending[version] for version in sorted(pending.keys() - published.keys())],
        base=_base(snapshot, first),
        head=None if is_reading or (first is None and known == 0) else known,
    )


def _base(snapshot: Snapshot, version: int | None) -> int:
    """The version up to which all was published before a run; 0 if that cannot be known."""
    if snapshot.unpublished:
        return min(event.version for event in snapshot.unpublished) - 1
    return 0 if version is None or snapshot.is_incomplete else version


def _activities(
    history: WorkflowHistory,
) -> tuple[dict[int, tuple[str, Sequence[Payload]]], dict[int, Sequence[Payload]]]:
    """By event id, the name and input of each activity; likewise the results of the completed."""
    scheduled: dict[int, tuple[str, Sequence[Payload]]] = {}
    results: dict[int, Sequence[Payload]] = {}
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            begun = event.activity_task_scheduled_event_attributes
            scheduled[event.event_id] = (begun.activity_type.name, begun.input.payloads)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            ended = event.activity_task_completed_event_attributes
            results[ended.scheduled_event_id] = ended.result.payloads
    return scheduled, results
