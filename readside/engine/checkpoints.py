"""How far each projection has come, slice by slice; and the schemas that hold the read models.

A **generation** of a projection is a schema with its own checkpoints: the live one, which readers
see, the next, which a rebuild fills, and the previous, kept for a rollback.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

import asyncpg

from eventlog.log import SLICES, Checkpoint
from eventlog.postgres import STATEMENT_SECONDS_MAX, Connection, Reader, connect
from readside.engine.projection import Projection

ALL_SLICES = tuple(range(SLICES))

TABLES = """
CREATE TABLE IF NOT EXISTS projection_checkpoints (
    projection     text    NOT NULL,
    generation     text    NOT NULL,
    slice          integer NOT NULL,
    version        integer NOT NULL,            -- of the code that made the tables
    transaction_id xid8    NOT NULL DEFAULT '0',
    position       bigint  NOT NULL DEFAULT 0,
    freshness      bigint[] NOT NULL DEFAULT '{}',  -- events by how late they were: FRESHNESS_MS
    stopped_by     text,                        -- why it cannot go on; NULL while it can
    PRIMARY KEY (projection, generation, slice)
);
CREATE TABLE IF NOT EXISTS parked_orders (
    projection text        NOT NULL,
    generation text        NOT NULL,
    order_id   text        NOT NULL,
    version    integer     NOT NULL,            -- of the first event that waits
    error      text        NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    retry      boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (projection, generation, order_id)
);
CREATE TABLE IF NOT EXISTS rebuilds (
    projection     text    PRIMARY KEY,
    transaction_id xid8    NOT NULL,            -- where filling ends and following begins
    position       bigint  NOT NULL,
    events         bigint  NOT NULL,            -- to be filled in all
    filled         bigint  NOT NULL DEFAULT 0,
    filled_to      text    NOT NULL DEFAULT '', -- the last order that is filled
    is_filled      boolean NOT NULL DEFAULT false
);
"""

# Tells those who wait how far some slices of a projection are, and how many ms they are late. It
# is also sent when there is nothing to do, so that they know that the projector lives.
CHANNEL = "projections"

# Upper bounds, in milliseconds, of the classes in which freshness is counted; one more is open.
FRESHNESS_MS = (5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)


class Generation(StrEnum):
    """Which copy of a read model."""

    LIVE = "live"
    NEXT = "next"
    PREVIOUS = "previous"

    def schema(self, projection: str) -> str:
        return projection if self is Generation.LIVE else f"{projection}_{self}"


LIVE = Generation.LIVE


class SliceGroup(NamedTuple):
    """Slices that have come equally far."""

    at: Checkpoint
    slices: Sequence[int]


class CheckpointConflict(Exception):
    """Another process has moved the same checkpoint; whatever was done meanwhile must not count."""


class WrongVersion(Exception):
    """The tables of a projection were made by another version of the software."""


@asynccontextmanager
async def connected(
    dsn: str,
    projection: Projection,
    generation: Generation = LIVE,
    statement_seconds_max: float | None = STATEMENT_SECONDS_MAX,
) -> AsyncIterator[asyncpg.Connection]:
    """A connection in whose statements the tables of one generation go by their names alone."""
    connection = await connect(dsn, statement_seconds_max)
    try:
        usual = await connection.fetchval("SELECT current_setting('search_path')")
        await enter(connection, f"{generation.schema(projection.name)}, {usual}")
        yield connection
    finally:
        await connection.close()


async def create(connection: Connection, projection: Projection, generation: Generation) -> None:
    """Makes the schema and tables of a generation, which has seen nothing yet, without indexes."""
    schema = generation.schema(projection.name)
    await connection.execute(f"CREATE SCHEMA {schema}")
    await _run_in(schema, connection, projection.tables)
    await connection.executemany(
        "INSERT INTO projection_checkpoints (projection, generation, slice, version)"
        " VALUES ($1, $2, $3, $4)",
        [(projection.name, generation, slice, projection.version) for slice in ALL_SLICES],
    )


async def index(connection: Connection, projection: Projection, generation: Generation) -> None:
    """Makes the indexes of a generation, if it has any."""
    if projection.indexes:
        await _run_in(generation.schema(projection.name), connection, projection.indexes)


async def drop(connection: Connection, projection: str, generation: Generation) -> None:
    """Removes a generation and all that is known of it."""
    await connection.execute(f"DROP SCHEMA IF EXISTS {generation.schema(projection)} CASCADE")
    for table in ("projection_checkpoints", "parked_orders"):
        await connection.execute(
            f"DELETE FROM {table} WHERE projection = $1 AND generation = $2", projection, generation
        )


async def _run_in(schema: str, connection: Connection, statements: str) -> None:
    usual = await connection.fetchval("SELECT current_setting('search_path')")
    await enter(connection, f"{schema}, {usual}")
    await connection.execute(statements)
    await enter(connection, usual)


async def enter(connection: Connection, search_path: str) -> None:
    """From now on, names without a schema are looked for there."""
    await connection.execute("SELECT set_config('search_path', $1, false)", search_path)


async def version_of(connection: Connection, projection: str, generation: Generation) -> int | None:
    """Of the code that made the tables of a generation; None if there are none."""
    version: int | None = await connection.fetchval(
        "SELECT max(version) FROM projection_checkpoints WHERE projection = $1 AND generation = $2",
        projection,
        generation,
    )
    return version


async def groups(
    connection: Connection,
    projection: Projection,
    generation: Generation,
    slices: Sequence[int],
) -> list[SliceGroup]:
    """The slices by how far they have come, the hindmost first; raises WrongVersion."""
    rows = await connection.fetch(
        """
        SELECT slice, version, transaction_id, position FROM projection_checkpoints
        WHERE projection = $1 AND generation = $2 AND slice = ANY($3)
        ORDER BY transaction_id, position
        """,
        projection.name,
        generation,
        slices,
    )
    if len(rows) < len(slices):
        raise LookupError(f"{projection.name} has no tables here: run `orderly migrate` first")
    if (made_by := rows[0]["version"]) != projection.version:
        raise WrongVersion(
            f"the tables of {projection.name} were made by version {made_by} of it, "
            f"and this software has version {projection.version}: "
            + (
                f"run `orderly rebuild {projection.name}`"
                if made_by < projection.version
                else "deploy the newer software"
            )
        )
    by_place = groupby(rows, key=lambda row: Checkpoint(row["transaction_id"], row["position"]))
    return [SliceGroup(at, [row["slice"] for row in same]) for at, same in by_place]


async def move(
    connection: Connection,
    projection: str,
    generation: Generation,
    group: SliceGroup,
    to: Checkpoint,
    freshness: Sequence[int] = (),
) -> None:
    """Compare-and-set, inside the caller's transaction; raises Overtaken if others were first.

    `freshness` are more events for each class of FRESHNESS_MS; the group's first slice counts them.
    """
    moved = await connection.execute(
        """
        UPDATE projection_checkpoints
        SET transaction_id = $6, position = $7, stopped_by = NULL,
            freshness = CASE WHEN slice <> $9 OR $8::bigint[] = '{}' THEN freshness ELSE (
                SELECT array_agg(coalesce(known, 0) + added ORDER BY class)
                FROM unnest(freshness, $8::bigint[]) WITH ORDINALITY AS counts (known, added, class)
            ) END
        WHERE projection = $1 AND generation = $2 AND slice = ANY($3)
          AND (transaction_id, position) = ($4, $5)
        """,
        projection,
        generation,
        group.slices,
        *group.at,
        *to,
        freshness,
        min(group.slices),
    )
    if moved != f"UPDATE {len(group.slices)}":
        raise CheckpointConflict


async def stopped(connection: Reader) -> dict[str, str]:
    """Why projections cannot go on, by name, of those that cannot."""
    rows = await connection.fetch(
        "SELECT projection, max(stopped_by) AS reason FROM projection_checkpoints"
        " WHERE generation = $1 AND stopped_by IS NOT NULL GROUP BY projection",
        LIVE,
    )
    return {row["projection"]: row["reason"] for row in rows}


class OrderProgress(NamedTuple):
    """How far a live projection has digested one order, and why no further if it is parked."""

    version: int
    parked_by: str | None


async def seen_of(connection: Reader, projection: str, order_id: str) -> OrderProgress:
    """How far a live projection has come with an order; version 0 if it has seen nothing of it."""
    row = await connection.fetchrow(
        f"""
        SELECT coalesce((SELECT version FROM {projection}.orders WHERE order_id = $3), 0),
               (SELECT error FROM parked_orders
                WHERE projection = $1 AND generation = $2 AND order_id = $3)
        """,
        projection,
        LIVE,
        order_id,
    )
    assert row is not None
    return OrderProgress(*row)


async def record_stop(dsn: str, projection: str, reason: str) -> None:
    """Says, for all who ask, why a projection cannot go on."""
    connection = await connect(dsn)
    try:
        await connection.execute(
            "UPDATE projection_checkpoints SET stopped_by = $3"
            " WHERE projection = $1 AND generation = $2",
            projection,
            LIVE,
            reason,
        )
    finally:
        await connection.close()
