"""The projector process: keeps read models up to date with the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from admin.readiness import Pulse, Readiness, reasons_of
from eventlog import announcements, log
from eventlog.log import Checkpoint
from eventlog.postgres import UNAVAILABLE, Connection, listening
from readside.engine import batches, checkpoints, generations, parking
from readside.engine.announcements import Announcement, announce
from readside.engine.batches import BatchStatus, project_batch
from readside.engine.checkpoints import CheckpointConflict, SliceGroup
from readside.engine.generations import LIVE
from readside.engine.projection import Projection
from readside.engine.rebuild import adopt_prepared
from readside.engine.slices import SliceLocks

POLL_SECONDS_UNSETTLED = 0.005
POLL_SECONDS_IDLE = 1.0
# The pause after a batch is a multiple of the time that the batch took, so that under load the next
# one is large enough to be worth a transaction. The first event after a quiet moment does not wait.
PAUSE_FACTOR = 2.0
PAUSE_SECONDS_MAX = 0.04
REBALANCE_SECONDS = 1.0
# A projector speaks every second. One that is frozen loses its slices to others after this time.
IDLE_SECONDS_MAX = 12
# A statement of a batch takes milliseconds. After this time its connection must have gone silent.
STATEMENT_SECONDS_MAX = 10
RETRY_SECONDS = 0.5
RETRY_SECONDS_STOPPED = 5.0

logger = logging.getLogger("orderly.projector")


SERVES = ("reads",)


def pulses_of(projections: Sequence[Projection]) -> dict[str, Pulse]:
    """A pulse for each projection, by name."""
    return {projection.name: Pulse() for projection in projections}


async def read_readiness(pulses: Mapping[str, Pulse]) -> Readiness:
    """Whether this process projects; another one may own all slices."""
    states = {name: pulse.state for name, pulse in pulses.items()}
    return Readiness({"reads": reasons_of(states)}, {"projections": states})


async def run(
    dsn: str,
    projections: Sequence[Projection],
    stopped: asyncio.Event,
    pulses: Mapping[str, Pulse],
) -> None:
    """Runs the projections until `stopped`, and logs it."""
    logger.info("projector runs %s", ", ".join(p.name for p in projections))
    await run_projections(dsn, projections, stopped, pulses)
    logger.info("projector stops")


async def run_projections(
    dsn: str,
    projections: Sequence[Projection],
    stopped: asyncio.Event,
    pulses: Mapping[str, Pulse] | None = None,
) -> None:
    """Runs the projections until `stopped`, each at its own speed."""
    pulses = pulses or pulses_of(projections)
    wakeups = [(projection, asyncio.Event()) for projection in projections]

    def wake(_: str) -> None:
        for _projection, woken in wakeups:
            woken.set()

    async with listening(dsn, announcements.CHANNEL, wake):
        await asyncio.gather(
            *(run_projection(dsn, p, woken, stopped, pulses[p.name]) for p, woken in wakeups)
        )


async def run_projection(
    dsn: str,
    projection: Projection,
    woken: asyncio.Event,
    stopped: asyncio.Event,
    pulse: Pulse,
) -> None:
    """Keeps a read model up to date until `stopped`; after an error it records it and retries."""
    while not stopped.is_set():
        try:
            if await adopt_prepared(dsn, projection):
                logger.info("%s version %d is live", projection.name, projection.version)
            async with generations.connected(
                dsn,
                projection,
                statement_seconds_max=STATEMENT_SECONDS_MAX,
                idle_seconds_max=IDLE_SECONDS_MAX,
            ) as connection:
                await _poll(connection, projection, woken, stopped, pulse)
        except UNAVAILABLE as error:
            pulse.fail(f"Postgres is unavailable: {error!r}")
            logger.warning("Postgres is unavailable, retrying: %r", error)
            await _first_of(stopped, seconds=RETRY_SECONDS)
        except Exception as error:  # An operator has to act; the other projections continue.
            pulse.fail(f"stopped: {error}")
            logger.exception("%s has stopped", projection.name)
            await _record_stop(dsn, projection, f"{error}")
            await _first_of(stopped, seconds=RETRY_SECONDS_STOPPED)


async def _poll(
    connection: Connection,
    projection: Projection,
    woken: asyncio.Event,
    stopped: asyncio.Event,
    pulse: Pulse,
) -> None:
    """Projects batches of the slices that this process owns, as events come."""
    clock = asyncio.get_running_loop().time
    slices, rebalanced_at = SliceLocks(connection, projection.name), 0.0
    while not stopped.is_set():
        began = clock()
        if began - rebalanced_at >= REBALANCE_SECONDS:
            await slices.rebalance()
            await parking.retry(connection, projection, slices.owned)
            await _heartbeat(connection, projection, slices.owned)
            rebalanced_at = began
            pulse.beat()
        if not slices.owned:
            await _first_of(stopped, seconds=REBALANCE_SECONDS)
            continue
        woken.clear()
        status = await project_batch(connection, projection, slices.owned)
        if status is BatchStatus.UNSETTLED:
            await _first_of(stopped, seconds=POLL_SECONDS_UNSETTLED)
        elif status is BatchStatus.CAUGHT_UP:
            pause = min(PAUSE_FACTOR * (clock() - began), PAUSE_SECONDS_MAX)
            pause = max(pause, projection.pause_seconds)
            await _first_of(stopped, seconds=pause)
            # The pause counts: heartbeats must not come later than readers expect them.
            await _first_of(woken, stopped, seconds=max(POLL_SECONDS_IDLE - pause, 0))


async def _heartbeat(connection: Connection, projection: Projection, slices: Sequence[int]) -> None:
    """Announces how far the slices have come: to the head, if no event for them is left before."""
    if not slices:
        return
    head = await log.settled_head(connection)
    for group in await checkpoints.slice_groups(connection, projection, LIVE, slices):
        at, lag_seconds = await _progress(connection, projection, group, head)
        lag_ms = round(lag_seconds * 1000)
        with suppress(CheckpointConflict):
            async with connection.transaction():
                if at > group.at:
                    await checkpoints.advance(connection, projection.name, LIVE, group, at)
                announcement = Announcement(projection.name, group.slices, at.position, lag_ms)
                await announce(connection, announcement)


async def _progress(
    connection: Connection, projection: Projection, group: SliceGroup, head: Checkpoint
) -> tuple[Checkpoint, float]:
    """How far slices have come, and for how long the next of their events is in the log, or more.

    The head, and 0 seconds, if there is none.
    """
    scan = await batches.scan_bound(connection, projection, group.at)
    reading = await log.read_settled(
        connection,
        group.at,
        1,
        slices=group.slices,
        types=projection.types,
        until=scan.at if scan else None,
    )
    if reading.events:
        return group.at, reading.left_seconds
    if scan:
        return scan.at, scan.seconds_in_log  # What follows is not older.
    return max(group.at, head), reading.left_seconds


async def _record_stop(dsn: str, projection: Projection, reason: str) -> None:
    try:
        await checkpoints.record_stop(dsn, projection.name, reason)
    except Exception as error:  # What stopped the projection may also prevent this.
        logger.warning("the stop of %s is not recorded: %r", projection.name, error)


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Returns when one of the events is set, or after `seconds`."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
