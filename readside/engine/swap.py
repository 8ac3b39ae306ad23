"""Swaps generations: makes another one live, and the live one the previous."""

from __future__ import annotations

from eventlog.postgres import Connection
from readside.engine import generations
from readside.engine.batches import catch_up
from readside.engine.generations import LIVE, Generation
from readside.engine.projection import Projection

_OUTGOING = "outgoing"


async def make_live(connection: Connection, projection: Projection, incoming: Generation) -> None:
    """Swaps `incoming` with the live generation, in one transaction."""
    name = projection.name
    async with connection.transaction():
        # This lock stops the projectors; `incoming` then catches up with all that they have done.
        live = await connection.fetch(
            "SELECT slice, transaction_id, position FROM projection_checkpoints"
            " WHERE projection = $1 AND generation = $2 ORDER BY slice FOR UPDATE",
            name,
            LIVE,
        )
        await catch_up(connection, projection, incoming)
        await connection.executemany(
            """
            UPDATE projection_checkpoints SET transaction_id = $4, position = $5
            WHERE projection = $1 AND generation = $2 AND slice = $3
              AND (transaction_id, position) < ($4, $5)
            """,
            [(name, incoming, *row) for row in live],
        )
        if incoming is not Generation.PREVIOUS:
            await generations.drop(connection, name, Generation.PREVIOUS)
        await _rename(connection, name, LIVE, _OUTGOING)
        await _rename(connection, name, incoming, LIVE)
        await _rename(connection, name, _OUTGOING, Generation.PREVIOUS)
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
