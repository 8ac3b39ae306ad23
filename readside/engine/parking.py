"""Orders that a projection cannot digest: each waits in line, visibly, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

import asyncpg

from eventlog import log
from eventlog.log import SLICE, LoggedEvent
from eventlog.postgres import UNAVAILABLE, Connection, Reader
from orders.events import UnreadableEvent
from readside.engine.checkpoints import LIVE, Generation
from readside.engine.projection import Projection, ProjectionError, Streams

PARKED_MAX = 1_000
RETRIES_AT_ONCE_MAX = 50
ERROR_CHARACTERS_MAX = 500

logger = logging.getLogger("orderly.projector")


class TooManyParked(Exception):
    """So many orders cannot be digested that it is no accident: the projection stops instead."""


class Parked(NamedTuple):
    """An order that a projection could not digest, from its event `version` on."""

    projection: str
    order_id: str
    version: int
    error: str
    parked_at: datetime


async def project(
    connection: Connection,
    projection: Projection,
    generation: Generation,
    events: Iterable[LoggedEvent],
) -> None:
    """Digests what is new among the events, in the caller's transaction; parks what it cannot."""
    by_order = sorted(events, key=lambda e: (e.order_id, e.version))
    streams = {
        order_id: list(stream) for order_id, stream in groupby(by_order, key=lambda e: e.order_id)
    }
    waiting, seen = await _where_they_are(connection, projection, generation, list(streams))
    new: dict[str, list[LoggedEvent]] = {}
    gaps: list[ProjectionError] = []
    for order_id, stream in streams.items():
        after = seen.get(order_id, 0)
        stream = [event for event in stream if event.version > after]
        if order_id in waiting:
            continue
        if projection.types is None and (gap := _gap(stream, after)) is not None:
            gaps.append(gap)
            stream = _before(gap, stream)
        if stream:
            new[order_id] = stream
    undigestible = gaps + (await _digest(connection, projection, new) if new else [])
    if undigestible:
        await _park(connection, projection, generation, undigestible)


async def _where_they_are(
    connection: Connection, projection: Projection, generation: Generation, order_ids: list[str]
) -> tuple[set[str], dict[str, int]]:
    """Which of the orders are parked, and how far each has been digested."""
    rows = await connection.fetch(
        """
        SELECT order_id, version, false AS is_parked FROM orders WHERE order_id = ANY($3)
        UNION ALL
        SELECT order_id, version, true FROM parked_orders
        WHERE projection = $1 AND generation = $2 AND order_id = ANY($3)
        """,
        projection.name,
        generation,
        order_ids,
    )
    parked = {row["order_id"] for row in rows if row["is_parked"]}
    return parked, {row["order_id"]: row["version"] for row in rows if not row["is_parked"]}


def _gap(stream: Sequence[LoggedEvent], after: int) -> ProjectionError | None:
    for expected, event in enumerate(stream, after + 1):
        if event.version != expected:
            return ProjectionError(event.order_id, event.version, f"expected version {expected}")
    return None


def _before(bad: ProjectionError, stream: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    return [event for event in stream if event.version < bad.version]


async def _digest(
    connection: Connection, projection: Projection, streams: Streams
) -> list[ProjectionError]:
    """Digests all that can be; where something cannot, halves it until it is one order.

    Of that, it digests what comes before the event that cannot be digested.
    """
    try:
        async with connection.transaction():
            await projection.project(connection, streams)
    except (*UNAVAILABLE, asyncpg.exceptions.TransactionRollbackError):
        raise
    except asyncpg.exceptions.SyntaxOrAccessError:
        raise  # The tables are not as they should be: that is no order's fault.
    except Exception as error:
        if len(streams) == 1:
            ((order_id, stream),) = streams.items()
            bad = _undigestible(stream, error)
            good = _before(bad, stream)
            return (await _digest(connection, projection, {order_id: good}) if good else []) or [
                bad
            ]
        halves = _halves(streams)
        return [bad for half in halves for bad in await _digest(connection, projection, half)]
    return []


def _halves(streams: Streams) -> list[Streams]:
    order_ids = list(streams)
    middle = len(order_ids) // 2
    return [
        {key: streams[key] for key in half} for half in (order_ids[:middle], order_ids[middle:])
    ]


def _undigestible(stream: Sequence[LoggedEvent], error: Exception) -> ProjectionError:
    if isinstance(error, ProjectionError):
        return error
    for event in stream:
        try:
            event.event()
        except UnreadableEvent as unreadable:
            return ProjectionError(event.order_id, event.version, str(unreadable))
    first = stream[0]
    return ProjectionError(first.order_id, first.version, f"{type(error).__name__}: {error}")


async def _park(
    connection: Connection,
    projection: Projection,
    generation: Generation,
    undigestible: Sequence[ProjectionError],
) -> None:
    for one in undigestible:
        logger.error("%s parks %s; the other orders go on", projection.name, one)
    await connection.executemany(
        "INSERT INTO parked_orders (projection, generation, order_id, version, error)"
        " VALUES ($1, $2, $3, $4, $5)",
        [
            (projection.name, generation, p.order_id, p.version, p.reason[:ERROR_CHARACTERS_MAX])
            for p in undigestible
        ],
    )
    count = await connection.fetchval(
        "SELECT count(*) FROM parked_orders WHERE projection = $1 AND generation = $2",
        projection.name,
        generation,
    )
    if count > PARKED_MAX:
        raise TooManyParked(f"more than {PARKED_MAX:,} orders cannot be digested")


async def retry(connection: Connection, projection: Projection, slices: Sequence[int]) -> None:
    """Tries parked orders again that somebody asked for; those that fail again stay parked."""
    asked = await connection.fetch(
        f"""
        SELECT order_id FROM parked_orders
        WHERE retry AND projection = $1 AND generation = $2 AND {SLICE} = ANY($3)
        ORDER BY parked_at LIMIT $4
        """,
        projection.name,
        LIVE,
        slices,
        RETRIES_AT_ONCE_MAX,
    )
    for row in asked:
        async with connection.transaction():
            await connection.execute(
                "DELETE FROM parked_orders"
                " WHERE projection = $1 AND generation = $2 AND order_id = $3",
                projection.name,
                LIVE,
                row["order_id"],
            )
            # What the log has of it beyond our checkpoint will come once more and be passed over.
            stream = await log.read_order(connection, row["order_id"], 0, projection.types)
            await project(connection, projection, LIVE, stream)


async def parked(connection: Reader) -> list[Parked]:
    """All orders that the live read models wait with, the oldest first."""
    rows = await connection.fetch(
        "SELECT projection, order_id, version, error, parked_at FROM parked_orders"
        " WHERE generation = $1 ORDER BY parked_at, order_id",
        LIVE,
    )
    return [Parked(**row) for row in rows]


async def ask_to_retry(connection: Reader, order_id: str | None = None) -> int:
    """Has the projectors try one parked order again, or all; returns how many."""
    asked = await connection.execute(
        "UPDATE parked_orders SET retry = true"
        " WHERE generation = $1 AND ($2::text IS NULL OR order_id = $2)",
        LIVE,
        order_id,
    )
    return int(asked.split()[-1])
