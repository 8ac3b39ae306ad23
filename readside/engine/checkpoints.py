"""Checkpoints: how far each slice of a projection has come, moved by compare-and-set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from eventlog.log import SLICES, Checkpoint
from eventlog.postgres import Connection, Reader, connect
from readside.engine.generations import LIVE, Generation
from readside.engine.projection import Projection

ALL_SLICES = tuple(range(SLICES))

# Upper bounds, in milliseconds, of the freshness histogram's classes; one more class is open.
FRESHNESS_MS = (5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000)


class SliceGroup(NamedTuple):
    """Slices at the same checkpoint."""

    at: Checkpoint
    slices: Sequence[int]


class CheckpointConflict(Exception):
    """Another process has moved the same checkpoint: the current transaction must roll back."""


class WrongVersion(Exception):
    """The tables of a projection were made by another version of the software."""


async def slice_groups(
    connection: Connection,
    projection: Projection,
    generation: Generation,
    slices: Sequence[int],
) -> list[SliceGroup]:
    """The slices grouped by checkpoint, the hindmost first; raises WrongVersion."""
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
                f"run `orderly projections rebuild {projection.name}`"
                if made_by < projection.version
                else "deploy the newer software"
            )
        )
    groups = groupby(rows, key=lambda row: Checkpoint(row["transaction_id"], row["position"]))
    return [SliceGroup(at, [row["slice"] for row in same]) for at, same in groups]


async def advance(
    connection: Connection,
    projection: str,
    generation: Generation,
    group: SliceGroup,
    to: Checkpoint,
    freshness: Sequence[int] = (),
) -> None:
    """Moves a group's checkpoint in the caller's transaction; raises CheckpointConflict.

    `freshness` adds to the count of each class of FRESHNESS_MS, in the group's first slice.
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


class OrderProgress(NamedTuple):
    """The version up to which a live projection has projected an order."""

    version: int
    parked_by: str | None
    """The error that parked the order; None if it is not parked."""


async def order_progress(connection: Reader, projection: str, order_id: str) -> OrderProgress:
    """How far a live projection has come with an order; version 0 if it has no event of it."""
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
    """Records why a projection has stopped, for health checks and metrics."""
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


async def stop_reasons(connection: Reader) -> dict[str, str]:
    """By name of each stopped projection, why it has stopped."""
    rows = await connection.fetch(
        "SELECT projection, max(stopped_by) AS reason FROM projection_checkpoints"
        " WHERE generation = $1 AND stopped_by IS NOT NULL GROUP BY projection",
        LIVE,
    )
    return {row["projection"]: row["reason"] for row in rows}
