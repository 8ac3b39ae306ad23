"""The projector: reads the log in commit order and keeps a read model up with it.

The checkpoint moves in the same transaction as the rows, compare-and-set, so that an event counts
once even if two projectors run, and none is lost if one dies at any moment.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from datetime import UTC, datetime
from enum import Enum, auto

import asyncpg
from opentelemetry.trace import SpanKind

import telemetry
from eventlog import log, migrate
from eventlog.log import Checkpoint, LoggedEvent
from eventlog.postgres import UNAVAILABLE, Connection, connect, connect_pool, listening
from readside import order_view
from readside.projection import Projection
from settings import Settings

ORDER_VIEW = Projection(order_view.NAME, order_view.TABLE, order_view.project)
PROJECTIONS = (ORDER_VIEW,)

BATCH_EVENTS_MAX = 500
POLL_SECONDS_UNSETTLED = 0.005
# After a batch, so that under load the next one is worth its transaction; the first event after a
# quiet moment does not wait.
PAUSE_SECONDS = 0.04
POLL_SECONDS_IDLE = 1.0
RETRY_SECONDS = 0.5

_TABLE = """
CREATE TABLE IF NOT EXISTS projections (
    name           text   PRIMARY KEY,
    transaction_id xid8   NOT NULL DEFAULT '0',
    position       bigint NOT NULL DEFAULT 0,
    stopped_by     text  -- why this projection cannot go on; NULL while it can
)
"""

# Wakes those who wait for the projection, and tells how far it is and how many ms it is late.
ANNOUNCE = "SELECT pg_notify($1, $2)"
# The same when there is nothing to do, so that they know that the projector lives.
HEARTBEAT = "SELECT pg_notify(name, position || ' 0') FROM projections WHERE name = $1"

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
        for table in (_TABLE, *(projection.table for projection in PROJECTIONS)):
            await connection.execute(table)
        await connection.executemany(
            "INSERT INTO projections (name) VALUES ($1) ON CONFLICT DO NOTHING",
            [(projection.name,) for projection in PROJECTIONS],
        )
    finally:
        await connection.close()
    return applied


async def step(connection: Connection, projection: Projection) -> Step:
    """Projects one batch, if there is one; raises Undigestible and leaves everything as it was."""
    checkpoint = await _checkpoint(connection, projection.name)
    reading = await log.read_settled(connection, checkpoint, BATCH_EVENTS_MAX)
    if reading.events and not await _digest(connection, projection, checkpoint, reading.events):
        return Step.MORE
    if len(reading.events) == BATCH_EVENTS_MAX:
        return Step.MORE
    return Step.UNSETTLED if reading.unsettled else Step.CAUGHT_UP


async def _digest(
    connection: Connection,
    projection: Projection,
    checkpoint: Checkpoint,
    events: list[LoggedEvent],
) -> bool:
    """Projects a batch and moves the checkpoint, in one transaction; False if others were first."""
    end = events[-1].checkpoint
    requests = (event.envelope.metadata.traceparent for event in events)
    with telemetry.span_for_many(f"project {projection.name}", SpanKind.CONSUMER, requests):
        async with connection.transaction():
            # A second projector waits here for the first one's commit, and then loses.
            if not await _move(connection, projection.name, checkpoint, end):
                return False
            await projection.project(connection, events)
            lag = datetime.now(UTC) - events[-1].envelope.occurred_at
            lag_ms = max(round(lag.total_seconds() * 1000), 0)
            await connection.execute(ANNOUNCE, projection.name, f"{end.position} {lag_ms}")
    return True


async def follow(
    pool: asyncpg.Pool, projection: Projection, woken: asyncio.Event, stopped: asyncio.Event
) -> None:
    """Keeps a projection up with the log until `stopped`; raises Undigestible if it cannot."""
    while not stopped.is_set():
        woken.clear()
        try:
            async with pool.acquire() as connection:
                found = await step(connection, projection)
            if found is Step.UNSETTLED:
                await _first_of(stopped, seconds=POLL_SECONDS_UNSETTLED)
            elif found is Step.CAUGHT_UP:
                await _first_of(stopped, seconds=PAUSE_SECONDS)
                await _first_of(woken, stopped, seconds=POLL_SECONDS_IDLE)
                if not woken.is_set():
                    await pool.execute(HEARTBEAT, projection.name)
        except UNAVAILABLE as error:
            logger.warning("Postgres is away, trying again: %r", error)
            await _first_of(stopped, seconds=RETRY_SECONDS)
        except Exception as error:  # Undigestible, or a bug: both need a person, who must see it.
            await _record_stop(pool, projection.name, f"{error}")
            raise


async def run(settings: Settings) -> None:
    """The projector process: runs until SIGTERM or SIGINT; raises Undigestible if it must stop."""
    woken, stopped = asyncio.Event(), asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    pool = await connect_pool(settings.postgres_dsn)
    async with pool, listening(settings.postgres_dsn, "order_events", lambda _: woken.set()):
        logger.info("projector keeps up %s", ORDER_VIEW.name)
        await follow(pool, ORDER_VIEW, woken, stopped)
        logger.info("projector stops")


async def _checkpoint(connection: Connection, name: str) -> Checkpoint:
    row = await connection.fetchrow(
        "SELECT transaction_id, position FROM projections WHERE name = $1", name
    )
    if row is None:
        raise LookupError(f"no projection {name} in this database: run `orderly migrate` first")
    return Checkpoint(row["transaction_id"], row["position"])


async def _move(connection: Connection, name: str, old: Checkpoint, new: Checkpoint) -> bool:
    """Compare-and-set: False if somebody else has moved the checkpoint meanwhile."""
    moved = await connection.execute(
        """
        UPDATE projections SET transaction_id = $4, position = $5, stopped_by = NULL
        WHERE name = $1 AND (transaction_id, position) = ($2, $3)
        """,
        name,
        *old,
        *new,
    )
    return bool(moved == "UPDATE 1")


async def _record_stop(pool: asyncpg.Pool, name: str, reason: str) -> None:
    await pool.execute("UPDATE projections SET stopped_by = $2 WHERE name = $1", name, reason)


async def _first_of(*events: asyncio.Event, seconds: float) -> None:
    """Returns when one of the events is set, or when the time is up."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
