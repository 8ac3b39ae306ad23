"""Parked orders: an order that cannot be projected is set aside, and the others continue."""

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
from orders.upcasting import UnreadableEvent
from readside.engine.generations import LIVE, Generation
from readside.engine.projection import Projection, ProjectionError, Streams

PARKED_MAX = 1_000
RETRIES_MAX = 50
ERROR_CHARACTERS_MAX = 500

logger = logging.getLogger("orderly.projector")


class TooManyParked(Exception):
    """More than PARKED_MAX orders fail, so the projection stops: it is not about single orders."""


class ParkedOrder(NamedTuple):
    """An order that a projection has set aside from its event `version` on."""

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
    """Projects the events that are new, in the caller's transaction; parks orders that fail."""
    by_order = sorted(events, key=lambda e: (e.order_id, e.version))
    streams = {
        order_id: list(stream) for order_id, stream in groupby(by_order, key=lambda e: e.order_id)
    }
    parked, versions = await _progress(connection, projection, generation, list(streams))
    new: dict[str, list[LoggedEvent]] = {}
    errors: list[ProjectionError] = []
    for order_id, stream in streams.items():
        after = versions.get(order_id, 0)
        stream = [event for event in stream if event.version > after]
        if order_id in parked:
            continue
        if projection.types is None and (gap := _gap(stream, after)) is not None:
            errors.append(gap)
            stream = _before(gap, stream)
        if stream:
            new[order_id] = stream
    if new:
        errors += await _project(connection, projection, new)
    if errors:
        await _park(connection, projection, generation, errors)


async def _progress(
    connection: Connection, projection: Projection, generation: Generation, order_ids: list[str]
) -> tuple[set[str], dict[str, int]]:
    """Which of the orders are parked, and the projected version of each."""
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


def _before(error: ProjectionError, stream: Sequence[LoggedEvent]) -> list[LoggedEvent]:
    return [event for event in stream if event.version < error.version]


async def _project(
    connection: Connection, projection: Projection, streams: Streams
) -> list[ProjectionError]:
    """Projects the streams; bisects those that fail, down to single orders, and returns the errors.

    Of an order that fails, it projects the events before the one that fails.
    """
    try:
        async with connection.transaction():
            await projection.project(connection, streams)
    except (*UNAVAILABLE, asyncpg.exceptions.TransactionRollbackError):
        raise
    except asyncpg.exceptions.SyntaxOrAccessError:
        raise  # The tables are not as the code expects: no order causes that.
    except Exception as error:
        if len(streams) == 1:
            return await _project_before(error, connection, projection, streams)
        halves = _halves(streams)
        return [bad for half in halves for bad in await _project(connection, projection, half)]
    return []


async def _project_before(
    error: Exception, connection: Connection, projection: Projection, streams: Streams
) -> list[ProjectionError]:
    """Projects what precedes the error in a single order's stream; returns the first error."""
    ((order_id, stream),) = streams.items()
    failure = _projection_error(stream, error)
    good = _before(failure, stream)
    earlier = await _project(connection, projection, {order_id: good}) if good else []
    return earlier or [failure]


def _halves(streams: Streams) -> list[Streams]:
    order_ids = list(streams)
    middle = len(order_ids) // 2
    return [
        {key: streams[key] for key in half} for half in (order_ids[:middle], order_ids[middle:])
    ]


def _projection_error(stream: Sequence[LoggedEvent], error: Exception) -> ProjectionError:
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
    errors: Sequence[ProjectionError],
) -> None:
    for error in errors:
        logger.error("%s parks %s; the other orders continue", projection.name, error)
    await connection.executemany(
        "INSERT INTO parked_orders (projection, generation, order_id, version, error)"
        " VALUES ($1, $2, $3, $4, $5)",
        [
            (projection.name, generation, e.order_id, e.version, e.reason[:ERROR_CHARACTERS_MAX])
            for e in errors
        ],
    )
    count = await connection.fetchval(
        "SELECT count(*) FROM parked_orders WHERE projection = $1 AND generation = $2",
        projection.name,
        generation,
    )
    if count > PARKED_MAX:
        raise TooManyParked(f"more than {PARKED_MAX:,} orders cannot be projected")


async def retry(connection: Connection, projection: Projection, slices: Sequence[int]) -> None:
    """Projects parked orders whose retry was requested; those that fail again stay parked."""
    requested = await connection.fetch(
        f"""
        SELECT order_id FROM parked_orders
        WHERE retry AND projection = $1 AND generation = $2 AND {SLICE} = ANY($3)
        ORDER BY parked_at LIMIT $4
        """,
        projection.name,
        LIVE,
        slices,
        RETRIES_MAX,
    )
    for row in requested:
        async with connection.transaction():
            await connection.execute(
                "DELETE FROM parked_orders"
                " WHERE projection = $1 AND generation = $2 AND order_id = $3",
                projection.name,
                LIVE,
                row["order_id"],
            )
            # Events beyond the checkpoint will come again in a batch, which skips them then.
            stream = await log.read_order(connection, row["order_id"], 0, projection.types)
            await project(connection, projection, LIVE, stream)


async def parked_orders(connection: Reader) -> list[ParkedOrder]:
    """All parked orders of the live generations, the oldest first."""
    rows = await connection.fetch(
        "SELECT projection, order_id, version, error, parked_at FROM parked_orders"
        " WHERE generation = $1 ORDER BY parked_at, order_id",
        LIVE,
    )
    return [ParkedOrder(**row) for row in rows]


async def request_retry(connection: Reader, order_id: str | None = None) -> int:
    """Requests that projectors retry one parked order, or all; returns how many there are."""
    requested = await connection.execute(
        "UPDATE parked_orders SET retry = true"
        " WHERE generation = $1 AND ($2::text IS NULL OR order_id = $2)",
        LIVE,
        order_id,
    )
    return int(requested.split()[-1])
