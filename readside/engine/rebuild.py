"""Rebuilds a read model from the log in a new generation beside the live one, and rolls back.

The new generation is filled order by order, catches up with the log as a live one does, and
replaces the live one in one transaction: readers neither wait nor see an older state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from typing import NamedTuple

import asyncpg

from eventlog import log
from eventlog.log import Checkpoint, LoggedEvent
from eventlog.postgres import Connection
from readside.engine import checkpoints, generations, parking, swap
from readside.engine.batches import catch_up
from readside.engine.checkpoints import ALL_SLICES, SliceGroup
from readside.engine.generations import LIVE, Generation
from readside.engine.projection import Projection

NEXT, PREVIOUS = Generation.NEXT, Generation.PREVIOUS

CHUNK_EVENTS = 10_000  # Per transaction: a long one would hold back every projector's watermark.
EXAMPLES_MAX = 5
_NO_TIMEOUT = None  # Comparing and indexing millions of rows takes long without hanging.
_LOCK_SALT = "orderly rebuild of "


class RebuildError(Exception):
    """A rebuild or rollback is impossible; nothing was changed, and the message says what to do."""


class RebuildProgress(NamedTuple):
    """How many events are filled, of how many."""

    filled: int
    events: int


class Comparison(NamedTuple):
    """How many orders differ between the new and the live read model, of those at one version."""

    orders: int
    different: int
    examples: list[str]


async def rebuild(
    dsn: str, projection: Projection, report: Callable[[RebuildProgress], None] = lambda _: None
) -> Comparison:
    """Fills a new generation, or continues an interrupted rebuild, and makes it the live one.

    The old generation is kept for `rollback`. Raises RebuildError, and drops the new generation, if
    that parks an order that the live one has projected.
    """
    async with (
        _exclusive(dsn, projection) as connection,
        _filled(dsn, connection, projection, report) as filled,
    ):
        comparison = await _compare(connection, projection)
        await swap.make_live(filled, projection, NEXT)
    return comparison


async def prepare(
    dsn: str, projection: Projection, report: Callable[[RebuildProgress], None] = lambda _: None
) -> None:
    """Fills a new generation, which projectors of this version make live when they start.

    Raises RebuildError if the live one has this version already, and as `rebuild` does.
    """
    async with _exclusive(dsn, projection) as connection:
        if await generations.version_of(connection, projection.name, LIVE) == projection.version:
            raise RebuildError(
                f"The live {projection.name} has version {projection.version} already: rebuild it"
                " without --prepare."
            )
        async with _filled(dsn, connection, projection, report):
            pass


async def adopt_prepared(dsn: str, projection: Projection) -> bool:
    """Makes a prepared generation of this version live, if there is one; returns whether it did.

    Of several processes one does, and the others wait for it. Raises RebuildError.
    """
    async with generations.connected(dsn, projection) as connection:
        if not await _is_prepared(connection, projection):
            return False
    async with _exclusive(dsn, projection, waits=True) as connection:
        if not await _is_prepared(connection, projection):
            return False
        async with _filled(dsn, connection, projection, lambda _: None) as filled:
            await swap.make_live(filled, projection, NEXT)
    return True


async def _is_prepared(connection: Connection, projection: Projection) -> bool:
    name = projection.name
    if await generations.version_of(connection, name, LIVE) == projection.version:
        return False
    made_by = await generations.version_of(connection, name, NEXT)
    is_filled = await connection.fetchval(
        "SELECT is_filled FROM rebuilds WHERE projection = $1", name
    )
    return made_by == projection.version and bool(is_filled)


async def rollback(dsn: str, projection: Projection) -> None:
    """Brings the previous generation up to date and makes it the live one; keeps the other."""
    async with _exclusive(dsn, projection) as connection:
        made_by = await generations.version_of(connection, projection.name, PREVIOUS)
        if made_by is None:
            raise RebuildError(f"There is no previous {projection.name} to go back to.")
        if made_by != projection.version:
            raise RebuildError(
                f"The previous {projection.name} was made by version {made_by} of it: "
                "roll back with the software that made it."
            )
        async with generations.connected(dsn, projection, PREVIOUS, _NO_TIMEOUT) as previous:
            await catch_up(previous, projection, PREVIOUS)
            await swap.make_live(previous, projection, PREVIOUS)


@asynccontextmanager
async def _exclusive(
    dsn: str, projection: Projection, *, waits: bool = False
) -> AsyncIterator[asyncpg.Connection]:
    """A connection that holds the projection's rebuild lock; it may wait for it."""
    lock = "pg_advisory_lock" if waits else "pg_try_advisory_lock"
    async with generations.connected(dsn, projection, LIVE, _NO_TIMEOUT) as connection:
        is_locked = await connection.fetchval(
            f"SELECT {lock}(hashtextextended($1, 0))", _LOCK_SALT + projection.name
        )
        if is_locked is False:
            raise RebuildError(f"Another rebuild or rollback of {projection.name} is running.")
        yield connection


@asynccontextmanager
async def _filled(
    dsn: str,
    connection: Connection,
    projection: Projection,
    report: Callable[[RebuildProgress], None],
) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a new generation that has caught up, and projects what the live one does."""
    target = await _begin(connection, projection)
    async with generations.connected(dsn, projection, NEXT, _NO_TIMEOUT) as filling:
        await _fill(filling, projection, target, report)
        await catch_up(filling, projection, NEXT)
        await _reject_if_worse(connection, projection)
        yield filling


async def _begin(connection: Connection, projection: Projection) -> Checkpoint:
    """The checkpoint at which filling ends: an interrupted rebuild's, or that of a new one."""
    begun = await connection.fetchrow(
        "SELECT transaction_id, position FROM rebuilds WHERE projection = $1", projection.name
    )
    made_by = await generations.version_of(connection, projection.name, NEXT)
    if begun and made_by == projection.version:
        return Checkpoint(*begun)
    target = await log.settled_head(connection)
    # Before the transaction, which would hold back every projector's watermark meanwhile.
    events = await log.count(connection, target, projection.types)
    async with connection.transaction():
        await _discard(connection, projection)
        await generations.create(connection, projection, NEXT)
        await connection.execute(
            "INSERT INTO rebuilds (projection, transaction_id, position, events)"
            " VALUES ($1, $2, $3, $4)",
            projection.name,
            *target,
            events,
        )
    return target


async def _discard(connection: Connection, projection: Projection) -> None:
    await generations.drop(connection, projection.name, NEXT)
    await connection.execute("DELETE FROM rebuilds WHERE projection = $1", projection.name)


async def _fill(
    connection: Connection,
    projection: Projection,
    target: Checkpoint,
    report: Callable[[RebuildProgress], None],
) -> None:
    """Projects, order by order, the events up to `target`."""
    while True:
        done = await connection.fetchrow(
            "SELECT filled, events, filled_to, is_filled FROM rebuilds WHERE projection = $1",
            projection.name,
        )
        assert done is not None
        report(RebuildProgress(done["filled"], done["events"]))
        if done["is_filled"]:
            return
        events = await _chunk(connection, projection, done["filled_to"], target)
        async with connection.transaction():
            if not events:
                await generations.create_indexes(connection, projection, NEXT)
                start = SliceGroup(log.START, ALL_SLICES)
                await checkpoints.advance(connection, projection.name, NEXT, start, target)
            await parking.project(connection, projection, NEXT, events)
            await connection.execute(
                """
                UPDATE rebuilds SET filled = filled + $2, filled_to = $3, is_filled = $4
                WHERE projection = $1
                """,
                projection.name,
                len(events),
                events[-1].order_id if events else done["filled_to"],
                not events,
            )


async def _chunk(
    connection: Connection, projection: Projection, after: str, target: Checkpoint
) -> list[LoggedEvent]:
    """All events of the next orders: about CHUNK_EVENTS, or more for an order that has more."""
    limit = CHUNK_EVENTS
    while True:
        events = await log.read_orders(connection, after, target, limit, projection.types)
        if len(events) < limit:
            return events
        orders = [list(stream) for _, stream in groupby(events, key=lambda e: e.order_id)]
        if len(orders) > 1:
            return [event for stream in orders[:-1] for event in stream]
        limit *= 2


async def _compare(connection: Connection, projection: Projection) -> Comparison:
    """Compares all columns of `orders`, as text."""
    live, new = (g.schema(projection.name) for g in (LIVE, NEXT))
    rows = await connection.fetch(
        f"""
        SELECT count(*) AS orders, count(*) FILTER (WHERE differs) AS different,
               (array_agg(order_id ORDER BY order_id) FILTER (WHERE differs))[:{EXAMPLES_MAX}]
               AS examples
        FROM (SELECT order_id, ours::text <> theirs::text AS differs
              FROM {new}.orders AS ours JOIN {live}.orders AS theirs USING (order_id, version))
             AS both_have
        """
    )
    (row,) = rows
    return Comparison(row["orders"], row["different"], row["examples"] or [])


async def _reject_if_worse(connection: Connection, projection: Projection) -> None:
    """Raises RebuildError if the new generation parks an order that the live one does not."""
    worse = await connection.fetch(
        """
        SELECT order_id, version, error FROM parked_orders AS new
        WHERE projection = $1 AND generation = $2 AND NOT EXISTS (
            SELECT FROM parked_orders AS live
            WHERE live.projection = $1 AND live.generation = $3
              AND live.order_id = new.order_id AND live.version <= new.version)
        ORDER BY order_id
        """,
        projection.name,
        NEXT,
        LIVE,
    )
    if worse:
        async with connection.transaction():
            await _discard(connection, projection)
        first = worse[0]
        raise RebuildError(
            f"The new {projection.name} cannot project {len(worse)} orders that the live one has, "
            f"such as {first['order_id']} from version {first['version']} on: {first['error']}. "
            "Nothing was changed; fix the projection and rebuild again."
        )
