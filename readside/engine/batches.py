"""Projects the log batch by batch, in commit order.

A batch's rows and its checkpoint are written in one transaction, the checkpoint by compare-and-set:
an event counts once even if two projectors run, and none is lost if one dies at any moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from opentelemetry.trace import SpanKind
from prometheus_client import Counter

import telemetry
from eventlog import log
from eventlog.log import Checkpoint, LoggedEvent, Reading, ScanBound
from eventlog.postgres import Connection
from readside.engine import checkpoints, parking
from readside.engine.announcements import Announcement, announce
from readside.engine.checkpoints import ALL_SLICES, FRESHNESS_MS, CheckpointConflict, SliceGroup
from readside.engine.generations import LIVE, Generation
from readside.engine.projection import Projection

BATCH_EVENTS_MAX = 2_000
# Of a projection of rare types, one statement would otherwise scan the whole log.
SCANNED_EVENTS_MAX = 20_000

_EVENTS = Counter(
    "orderly_projected_events_total",
    "Events that this process has projected; `rate` says how fast a projection catches up.",
    ["projection"],
)
_MILLISECOND = timedelta(milliseconds=1)


class BatchStatus(Enum):
    """What is left to project after a batch."""

    MORE = auto()
    UNSETTLED = auto()
    """More, but not before an older transaction ends, which sends no notification."""
    CAUGHT_UP = auto()


async def project_batch(
    connection: Connection,
    projection: Projection,
    slices: Sequence[int] = ALL_SLICES,
    generation: Generation = LIVE,
) -> BatchStatus:
    """Projects one batch of the hindmost slices, if there is one.

    An error that an order's events raise parks that order; any other error changes nothing.
    """
    hindmost, *others = await checkpoints.slice_groups(connection, projection, generation, slices)
    scan = await scan_bound(connection, projection, hindmost.at)
    bounds = [bound.at for bound in (*others[:1], scan) if bound]
    bound = min(bounds, default=None)
    reading = await log.read_settled(
        connection,
        hindmost.at,
        BATCH_EVENTS_MAX,
        slices=hindmost.slices,
        types=projection.types,
        until=bound,
    )
    is_full = len(reading.events) == BATCH_EVENTS_MAX
    end = reading.events[-1].checkpoint if reading.events else None
    if bound and not is_full:
        end = bound  # If other slices are there, they continue together.
    if end is not None:
        try:
            await _project(connection, projection, generation, hindmost, end, reading)
        except CheckpointConflict:
            return BatchStatus.MORE
    if is_full or bound:
        return BatchStatus.MORE
    return BatchStatus.UNSETTLED if reading.unsettled else BatchStatus.CAUGHT_UP


async def scan_bound(
    connection: Connection, projection: Projection, after: Checkpoint
) -> ScanBound | None:
    """Where to stop looking for events, as a projection of rare types may find none for long."""
    if projection.types is None:
        return None
    return await log.scan_bound(connection, after, SCANNED_EVENTS_MAX)


async def catch_up(connection: Connection, projection: Projection, generation: Generation) -> None:
    """Projects all slices of a generation until no settled event is left."""
    more = BatchStatus.MORE
    while await project_batch(connection, projection, ALL_SLICES, generation) is more:
        pass


async def _project(
    connection: Connection,
    projection: Projection,
    generation: Generation,
    group: SliceGroup,
    end: Checkpoint,
    reading: Reading,
) -> None:
    """Projects events and advances the checkpoint to `end`; raises CheckpointConflict."""
    events = reading.events
    requests = (event.traceparent for event in events)
    name, attributes = f"project {projection.name}", _messaging(projection.name, len(events))
    with telemetry.span_for_many(name, SpanKind.CONSUMER, requests, attributes):
        async with connection.transaction():
            # A second projector waits here for the first one's commit, and then conflicts.
            await checkpoints.advance(
                connection, projection.name, generation, group, end, _histogram(events)
            )
            await parking.project(connection, projection, generation, events)
            if generation is LIVE and events:  # Without events, nothing is known of what is left.
                lag_ms = round(reading.left_seconds * 1000)
                announcement = Announcement(projection.name, group.slices, end.position, lag_ms)
                await announce(connection, announcement)
    _EVENTS.labels(projection.name).inc(len(events))


def _messaging(consumer: str, events: int) -> dict[str, str | int]:
    """By OpenTelemetry's semantic conventions."""
    return {
        "messaging.system": "orderly",
        "messaging.destination.name": "order_events",
        "messaging.consumer.group.name": consumer,
        "messaging.operation.name": "project",
        "messaging.operation.type": "process",
        "messaging.batch.message_count": events,
    }


def _histogram(events: Sequence[LoggedEvent]) -> list[int]:
    """The counts of the classes of FRESHNESS_MS and of the open class; empty without events."""
    if not events:
        return []
    counts, now = [0] * (len(FRESHNESS_MS) + 1), datetime.now(UTC)
    for event in events:
        counts[bisect_left(FRESHNESS_MS, (now - event.occurred_at) / _MILLISECOND)] += 1
    return counts
