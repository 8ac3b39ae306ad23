"""Generations: the copies of a read model, each a Postgres schema with its own checkpoints.

Readers see the live generation. A rebuild fills the next one; the previous one is kept for a
rollback.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum

import asyncpg

from eventlog.log import SLICES
from eventlog.postgres import STATEMENT_SECONDS_MAX, Connection, connect
from readside.engine.projection import Projection

CLOSE_SECONDS_MAX = 3


class Generation(StrEnum):
    """Which copy of a read model."""

    LIVE = "live"
    NEXT = "next"
    PREVIOUS = "previous"

    def schema(self, projection: str) -> str:
        """The name of the Postgres schema that holds this generation of a projection."""
        return projection if self is Generation.LIVE else f"{projection}_{self}"


LIVE = Generation.LIVE


@asynccontextmanager
async def connected(
    dsn: str,
    projection: Projection,
    generation: Generation = LIVE,
    statement_seconds_max: float | None = STATEMENT_SECONDS_MAX,
    idle_seconds_max: int = 0,
) -> AsyncIterator[asyncpg.Connection]:
    """A connection whose search path begins with the schema of one generation."""
    connection = await connect(dsn, statement_seconds_max, idle_seconds_max)
    try:
        default = await connection.fetchval("SELECT current_setting('search_path')")
        await set_search_path(connection, f"{generation.schema(projection.name)}, {default}")
        yield connection
    finally:
        with suppress(TimeoutError):  # The server may have vanished.
            await connection.close(timeout=CLOSE_SECONDS_MAX)


async def create(connection: Connection, projection: Projection, generation: Generation) -> None:
    """Creates the schema, tables and checkpoints of an empty generation, without its indexes."""
    schema = generation.schema(projection.name)
    await connection.execute(f"CREATE SCHEMA {schema}")
    await _execute_in(schema, connection, projection.tables)
    await connection.executemany(
        "INSERT INTO projection_checkpoints (projection, generation, slice, version)"
        " VALUES ($1, $2, $3, $4)",
        [(projection.name, generation, slice, projection.version) for slice in range(SLICES)],
    )


async def create_indexes(
    connection: Connection, projection: Projection, generation: Generation
) -> None:
    """Creates the indexes of a generation, if the projection has any."""
    if projection.indexes:
        await _execute_in(generation.schema(projection.name), connection, projection.indexes)


async def drop(connection: Connection, projection: str, generation: Generation) -> None:
    """Drops a generation with its checkpoints and parked orders, if it exists."""
    await connection.execute(f"DROP SCHEMA IF EXISTS {generation.schema(projection)} CASCADE")
    for table in ("projection_checkpoints", "parked_orders"):
        await connection.execute(
            f"DELETE FROM {table} WHERE projection = $1 AND generation = $2", projection, generation
        )


async def _execute_in(schema: str, connection: Connection, statements: str) -> None:
    default = await connection.fetchval("SELECT current_setting('search_path')")
    await set_search_path(connection, f"{schema}, {default}")
    await connection.execute(statements)
    await set_search_path(connection, default)


async def set_search_path(connection: Connection, search_path: str) -> None:
    """Sets where this session looks for names without a schema."""
    await connection.execute("SELECT set_config('search_path', $1, false)", search_path)


async def version_of(connection: Connection, projection: str, generation: Generation) -> int | None:
    """The version of the code that made a generation's tables; None if it does not exist."""
    version: int | None = await connection.fetchval(
        "SELECT max(version) FROM projection_checkpoints WHERE projection = $1 AND generation = $2",
        projection,
        generation,
    )
    return version
