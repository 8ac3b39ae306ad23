"""The projector: reads the log in commit order and keeps the read models up with it.

A checkpoint moves in the same transaction as the rows, compare-and-set, so that an event counts
once even if two projectors run, and none is lost if one dies at any moment.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum, auto

from opentelemetry.trace import SpanKind

import telemetry
from eventlog import log, migrate
from eventlog.log import Checkpoint, LoggedEvent
from eventlog.postgres import UNAVAILABLE, Connection, connect, listening
from readside.engine import checkpoints, parking
from readside.engine.checkpoints import (
    ALL_SLICES,
    FRESHNESS_MS,
    LIVE,
    CheckpointConflict,
    Generation,
    SliceGroup,
)
from readside.engine.projection import Projection
from readside.engine.slices import Slices
from readside.registry import PROJECTIONS
from settings import Settings

BATCH_EVENTS_MAX = 2_000
POLL_SECONDS_UNSETTLED = 0.005
POLL_SECONDS_IDLE = 1.0
# After a batch, so that under load the next one is worth its transaction: so many times as long as
# the batch took. The first event after a quiet moment does not wait.
PAUSE_FACTOR = 2.0
PAUSE_SECONDS_MAX = 0.04
SHARE_SECONDS = 1.0
RETRY_SECONDS = 0.5
RETRY_SECONDS_STOPPED = 5.0

logger = logging.getLogger("orderly.projector")


class Step(Enum):
    """What is left to do after one step of a projection."""

    MORE = auto()
    UNSETTLED = auto()
    """More, but not before an older transaction ends, which nobody will announce."""
    CAUGHT_UP = auto()


async def prepare(dsn: str) -> list[str]:
    """Brings all tables up to date, the log's and the projections'; returns what was applied."""
    applied = await migrate.migrate(dsn)
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await migrate.one_at_a_time(connection)
            await connection.execute(checkpoints.TABLES)
            for projection in PROJECTIONS:
                if await checkpoints.version_of(connection, projection.name, LIVE) is None:
                    await checkpoints.create(connection, projection, LIVE)
                    await checkpoints.index(connection, projection, LIVE)
                    applied.append(f"projection {projection.name}")
    finally:
        await connection.close()
    return applied


async def step(
    connection: Connection,
    projection: Projection,
    slices: Sequence[int] = ALL_SLICES,
    generation: Generation = LIVE,
) -> Step:
    """Projects one batch of the hindmost slices, if there is one.

    What an order's events raise parks that order; whatever else it raises has changed nothing.
    """
    hindmost, *others = await checkpoints.groups(connection, projection, generation, slices)
    bound = others[0].at if others else None
    reading = await log.read_settled(
        connection,
        hindmost.at,
        BATCH_EVENTS_MAX,
        slices=hindmost.slices,
        types=projection.types,
        until=bound,
    )
    is_full = len(reading.events) == BATCH_EVENTS_MAX
    # What reaches the others' place goes on together with them.
    end = (
        bound
        if bound and not is_full
        else reading.events[-1].checkpoint
        if reading.events
        else None
    )
    if end is not None:
        try:
            await _digest(connection, projection, generation, hindmost, end, reading.events)
        except CheckpointConflict:
            return Step.MORE
    if is_full or others:
        return Step.MORE
    return Step.UNSETTLED if reading.unsettled else Step.CAUGHT_UP


async def _digest(
    connection: Connection,
    projection: Projection,
    generation: Generation,
    group: SliceGroup,
    end: Checkpoint,
    events: Sequence[LoggedEvent],
) -> None:
    """Projects a batch and moves the checkpoint, in one transaction; raises Overtaken."""
    requests = (event.traceparent for event in events)
    with telemetry.span_for_many(f"project {projection.name}", SpanKind.CONSUMER, requests):
        async with connection.transaction():
            # A second projector waits here for the first one's commit, and then loses.
            late = _lateness_ms(events)
            freshness = _classes(late)
            await checkpoints.move(connection, projection.name, generation, group, end, freshness)
            await parking.project(connection, projection, generation, events)
            if generation is LIVE:
                lag_ms = late[-1] if late else 0
                await _announce(connection, projection, group.slices, end.position, lag_ms)


async def _announce(
    connection: Connection, projection: Projection, slices: Sequence[int], position: int, lag: int
) -> None:
    told = f"{projection.name} {','.join(map(str, slices))} {position} {lag}"
    await connection.execute("SELECT pg_notify($1, $2)", checkpoints.CHANNEL, told)


def _lateness_ms(events: Sequence[LoggedEvent]) -> list[int]:
    now = datetime.now(UTC)
    return [max(round((now - e.occurred_at).total_seconds() * 1000), 0) for e in events]


def _classes(late_ms: Sequence[int]) -> list[int]:
    """How many fall into each class of FRESHNESS_MS and into the open one above."""
    counts = [0] * (len(FRESHNESS_MS) + 1)
    for ms in late_ms:
        counts[bisect_left(FRESHNESS_MS, ms)] += 1
    return counts if late_ms else []


async def follow(
    dsn: str, projection: Projection, woken: asyncio.Event, stopped: asyncio.Event
) -> None:
    """Keeps a projection up with the log until `stopped`, whatever happens to it meanwhile."""
    while not stopped.is_set():
        try:
            async with checkpoints.connected(dsn, projection) as connection:
                await _follow(connection, projection, woken, stopped)
        except UNAVAILABLE as error:
            logger.warning("Postgres is away, trying again: %r", error)
            await _first_of(stopped, seconds=RETRY_SECONDS)
        except Exception as error:  # For a person, who must see it; other projections go on.
            logger.exception("%s has stopped", projection.name)
            await _record_stop(dsn, projection, f"{error}")
            await _first_of(stopped, seconds=RETRY_SECONDS_STOPPED)


async def _follow(
    connection: Connection, projection: Projection, woken: asyncio.Event, stopped: asyncio.Event
) -> None:
    clock = asyncio.get_running_loop().time
    slices, seen_to_at = Slices(connection, projection.name), 0.0
    while not stopped.is_set():
        began = clock()
        if began - seen_to_at >= SHARE_SECONDS:
            await slices.share()
            await parking.retry(connection, projection, slices.owned)
            await _show_life(connection, projection, slices.owned)
            seen_to_at = began
        if not slices.owned:
            await _first_of(stopped, seconds=SHARE_SECONDS)
            continue
        woken.clear()
        found = await step(connection, projection, slices.owned)
        if found is Step.UNSETTLED:
            await _first_of(stopped, seconds=POLL_SECONDS_UNSETTLED)
        elif found is Step.CAUGHT_UP:
            pause = min(PAUSE_FACTOR * (clock() - began), PAUSE_SECONDS_MAX)
            pause = max(pause, projection.pause_seconds)
            await _first_of(stopped, seconds=pause)
            # Not a second one on top of the pause: readers must hear of it before they worry.
            await _first_of(woken, stopped, seconds=max(POLL_SECONDS_IDLE - pause, 0))


async def _show_life(connection: Connection, projection: Projection, slices: Sequence[int]) -> None:
    """Says that the slices are up to date, if they are, past all that is not theirs to digest."""
    if not slices:
        return
    head = await log.settled_head(connection)
    group, *others = await checkpoints.groups(connection, projection, LIVE, slices)
    if others:
        return
    if group.at < head:
        left = await log.read_settled(
            connection, group.at, 1, slices=slices, types=projection.types, until=head
        )
        if left.events:
            return
        with suppress(CheckpointConflict):
            async with connection.transaction():
                await checkpoints.move(connection, projection.name, LIVE, group, head)
    await _announce(connection, projection, slices, max(group.at, head).position, 0)


async def run(settings: Settings) -> None:
    """The projector process: runs until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    logger.info("projector keeps up %s", ", ".join(p.name for p in PROJECTIONS))
    await follow_all(settings.postgres_dsn, stopped)
    logger.info("projector stops")


async def follow_all(dsn: str, stopped: asyncio.Event) -> None:
    """Keeps all projections up with the log until `stopped`; none waits for another."""
    followed = [(projection, asyncio.Event()) for projection in PROJECTIONS]

    def wake(_: str) -> None:
        for _projection, woken in followed:
            woken.set()

    async with listening(dsn, "order_events", wake):
        await asyncio.gather(*(follow(dsn, p, woken, stopped) for p, woken in followed))


async def _record_stop(dsn: str, projection: Projection, reason: str) -> None:
    try:
        await checkpoints.record_stop(dsn, projection.name, reason)
    except UNAVAILABLE as error:
        logger.warning("Postgres is away, so nobody is told: %r", error)


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Returns when one of the events is set, or when the time is up."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
