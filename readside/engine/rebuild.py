"""Makes a read model anew beside the live one, and puts one in the other's place; and back again.

Nobody who reads waits or sees a step back: the new one is filled order by order, follows the log
like a live one until it has caught up, and takes its place in one transaction, in which only the
projectors wait.
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
from readside.engine import checkpoints, parking
from readside.engine.checkpoints import ALL_SLICES, LIVE, Generation, SliceGroup
from readside.engine.projection import Projection
from readside.engine.projector import Step, step

NEXT, PREVIOUS = Generation.NEXT, Generation.PREVIOUS

CHUNK_EVENTS = 10_000  # In a transaction each: a long one would hold back every projector.
EXAMPLES_MAX = 5
_TAKE_TIME = None  # Comparing and indexing millions of rows is no statement that hangs.
_LOCK_SALT = "orderly rebuild of "


class RebuildError(Exception):
    """It cannot be done; the message says what to do about it, and the live one is as it was."""


class Progress(NamedTuple):
    """How far filling has come, in events."""

    filled: int
    events: int


class Comparison(NamedTuple):
    """The new read model beside the live one, order by order, where both had come equally far."""

    orders: int
    different: int
    examples: list[str]


async def rebuild(
    dsn: str, projection: Projection, tell: Callable[[Progress], None] = lambda _: None
) -> Comparison:
    """Fills a new generation, or goes on where that was interrupted, and puts it in place.

    The old one stays for `rollback`. Raises RebuildError, and keeps no half, if the new one cannot
    digest an order that the live one has.
    """
    async with _alone(dsn, projection) as connection:
        target = await _begin(connection, projection)
        async with checkpoints.connected(dsn, projection, NEXT, _TAKE_TIME) as filling:
            await _fill(filling, projection, target, tell)
            await _catch_up(filling, projection, NEXT)
            comparison = await _compared(connection, projection)
            await _refuse_if_worse(connection, projection)
            await _put_in_place(filling, projection, NEXT)
    return comparison


async def rollback(dsn: str, projection: Projection) -> None:
    """Puts the previous generation in place again, as recent as the live one; that one is kept."""
    async with _alone(dsn, projection) as connection:
        made_by = await checkpoints.version_of(connection, projection.name, PREVIOUS)
        if made_by is None:
            raise RebuildError(f"There is no previous {projection.name} to go back to.")
        if made_by != projection.version:
            raise RebuildError(
                f"The previous {projection.name} was made by version {made_by} of it: "
                "roll back with the software that made it."
            )
        async with checkpoints.connected(dsn, projection, PREVIOUS, _TAKE_TIME) as following:
            await _catch_up(following, projection, PREVIOUS)
            await _put_in_place(following, projection, PREVIOUS)


@asynccontextmanager
async def _alone(dsn: str, projection: Projection) -> AsyncIterator[asyncpg.Connection]:
    async with checkpoints.connected(dsn, projection, LIVE, _TAKE_TIME) as connection:
        if not await connection.fetchval(
            "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", _LOCK_SALT + projection.name
        ):
            raise RebuildError(f"Another rebuild or rollback of {projection.name} is under way.")
        yield connection


async def _begin(connection: Connection, projection: Projection) -> Checkpoint:
    """Where in the log filling ends: of a rebuild that was interrupted, or of a new one."""
    begun = await connection.fetchrow(
        "SELECT transaction_id, position FROM rebuilds WHERE projection = $1", projection.name
    )
    made_by = await checkpoints.version_of(connection, projection.name, NEXT)
    if begun and made_by == projection.version:
        return Checkpoint(*begun)
    async with connection.transaction():
        await _forget(connection, projection)
        await checkpoints.create(connection, projection, NEXT)
        target = await log.settled_head(connection)
        await connection.execute(
            """
            INSERT INTO rebuilds (projection, transaction_id, position, events)
            SELECT $1, $2, $3, count(*) FROM order_events
            WHERE (transaction_id, position) <= ($2, $3) AND ($4::text[] IS NULL OR type = ANY($4))
            """,
            projection.name,
            *target,
            projection.types,
        )
    return target


async def _forget(connection: Connection, projection: Projection) -> None:
    await checkpoints.drop(connection, projection.name, NEXT)
    await connection.execute("DELETE FROM rebuilds WHERE projection = $1", projection.name)


async def _fill(
    connection: Connection,
    projection: Projection,
    target: Checkpoint,
    tell: Callable[[Progress], None],
) -> None:
    """Digests order by order what the log had when the rebuild began."""
    while True:
        done = await connection.fetchrow(
            "SELECT filled, events, filled_to, is_filled FROM rebuilds WHERE projection = $1",
            projection.name,
        )
        assert done is not None
        tell(Progress(done["filled"], done["events"]))
        if done["is_filled"]:
            return
        events = await _chunk(connection, projection, done["filled_to"], target)
        async with connection.transaction():
            if not events:
                await checkpoints.index(connection, projection, NEXT)
                start = SliceGroup(log.START, ALL_SLICES)
                await checkpoints.move(connection, projection.name, NEXT, start, target)
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
    """All events of the next orders; how many orders depends on how long they are."""
    limit = CHUNK_EVENTS
    while True:
        events = await log.read_orders(connection, after, target, limit, projection.types)
        if len(events) < limit:
            return events
        orders = [list(stream) for _, stream in groupby(events, key=lambda e: e.order_id)]
        if len(orders) > 1:
            return [event for stream in orders[:-1] for event in stream]
        limit *= 2


async def _catch_up(connection: Connection, projection: Projection, generation: Generation) -> None:
    while await step(connection, projection, ALL_SLICES, generation) is Step.MORE:
        pass


async def _compared(connection: Connection, projection: Projection) -> Comparison:
    """Compares what readers see: all columns, letter for letter."""
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


async def _refuse_if_worse(connection: Connection, projection: Projection) -> None:
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
            await _forget(connection, projection)
        first = worse[0]
        raise RebuildError(
            f"The new {projection.name} cannot digest {len(worse)} orders that the live one has, "
            f"such as {first['order_id']} from version {first['version']} on: {first['error']}. "
            "Nothing was changed; mend the projection and rebuild again."
        )


async def _put_in_place(
    connection: Connection, projection: Projection, incoming: Generation
) -> None:
    """Makes a generation the live one, and the live one the previous, in one transaction."""
    name = projection.name
    async with connection.transaction():
        # From here on no projector moves the live one; what it has done, the incoming one does.
        live = await connection.fetch(
            "SELECT slice, transaction_id, position FROM projection_checkpoints"
            " WHERE projection = $1 AND generation = $2 ORDER BY slice FOR UPDATE",
            name,
            LIVE,
        )
        await _catch_up(connection, projection, incoming)
        await connection.executemany(
            """
            UPDATE projection_checkpoints SET transaction_id = $4, position = $5
            WHERE projection = $1 AND generation = $2 AND slice = $3
              AND (transaction_id, position) < ($4, $5)
            """,
            [(name, incoming, *row) for row in live],
        )
        if incoming is not PREVIOUS:
            await checkpoints.drop(connection, name, PREVIOUS)
        await _rename(connection, name, LIVE, "outgoing")
        await _rename(connection, name, incoming, LIVE)
        await _rename(connection, name, "outgoing", PREVIOUS)
        await connection.execute("DELETE FROM rebuilds WHERE projection = $1", name)


async def _rename(connection: Connection, projection: str, old: str, new: str) -> None:
    schemas = [
        projection if generation == LIVE else f"{projection}_{generation}"
        for generation in (old, new)
    ]
    await connection.execute(f"ALTER SCHEMA {schemas[0]} RENAME TO {schemas[1]}")
    for table in ("projection_checkpoints", "parked_orders"):
        await connection.execute(
            f"UPDATE {table} SET generation = $3 WHERE projection = $1 AND generation = $2",
            projection,
            old,
            new,
        )
