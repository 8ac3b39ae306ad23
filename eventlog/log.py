"""Append to the log and read from it, without ever missing a row that commits late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import Connection, Reader


class ConflictingEvent(Exception):
    """Another event already stands in the log under this order and version. It needs a person."""


class Checkpoint(NamedTuple):
    """A place in the log in commit order; a reader has seen all up to it and nothing after."""

    transaction_id: int
    position: int


START = Checkpoint(0, 0)


class LoggedEvent(NamedTuple):
    """An event as it stands in the log."""

    order_id: str
    checkpoint: Checkpoint
    envelope: Envelope


class Reading(NamedTuple):
    """What one look at the log found after a checkpoint."""

    events: list[LoggedEvent]
    """In commit order, and settled: nothing can commit before any of them any more."""
    unsettled: bool
    """More is committed, but an older transaction still runs; no notification will say when."""


async def append(connection: Connection, order_id: str, events: Sequence[Envelope]) -> None:
    """Appends events of one order, all or none; those already there are left as they are.

    Raises ConflictingEvent if another event holds one of the versions.
    """
    events = sorted(events, key=lambda e: e.version)
    try:
        # One statement, so one round trip and one transaction. It takes the order's lock before
        # anything assigns a transaction id: otherwise a retry and a newer batch could commit an
        # order's events in the wrong order.
        await connection.execute(
            """
            WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended($1, 0)))
            INSERT INTO order_events
                (order_id, version, type, schema_version, occurred_at, data, metadata)
            SELECT $1, new.* FROM turn, unnest(
                $2::int[], $3::text[], $4::int[], $5::timestamptz[], $6::jsonb[], $7::jsonb[]
            ) AS new
            -- The same event again changes nothing; another one runs into the trigger.
            ON CONFLICT (order_id, version) DO UPDATE SET type = excluded.type
            WHERE (order_events.type, order_events.data)
                  IS DISTINCT FROM (excluded.type, excluded.data)
            """,
            order_id,
            [e.version for e in events],
            [e.type for e in events],
            [e.schema_version for e in events],
            [e.occurred_at for e in events],
            [e.data for e in events],
            [e.metadata.model_dump(exclude_none=True) for e in events],
        )
    except asyncpg.UniqueViolationError as error:
        raise ConflictingEvent(error.message) from error


async def read_stream(
    connection: Reader, order_id: str, after: int = 0, limit: int | None = None
) -> list[Envelope]:
    """An order's events with a version above `after`, in order; empty for an unknown order."""
    rows = await connection.fetch(
        """
        SELECT version, occurred_at, type, schema_version, data, metadata FROM order_events
        WHERE order_id = $1 AND version > $2 ORDER BY version LIMIT $3
        """,
        order_id,
        after,
        limit,
    )
    return [_envelope(row) for row in rows]


async def head(connection: Reader, order_id: str) -> int:
    """The version of an order's last published event; 0 if there is none."""
    found = await connection.fetchval(
        "SELECT max(version) FROM order_events WHERE order_id = $1", order_id
    )
    return found or 0


async def read_settled(connection: Connection, after: Checkpoint, limit: int) -> Reading:
    """At most `limit` events after a checkpoint, below the oldest transaction still running.

    Rows at or above that watermark are left for later: a transaction with a lower id may still
    commit rows that belong before them.
    """
    rows = await connection.fetch(
        """
        SELECT order_id, transaction_id, position,
               version, occurred_at, type, schema_version, data, metadata,
               transaction_id < pg_snapshot_xmin(pg_current_snapshot()) AS settled
        FROM order_events WHERE (transaction_id, position) > ($1, $2)
        ORDER BY transaction_id, position LIMIT $3
        """,
        after.transaction_id,
        after.position,
        limit,
    )
    settled = [row for row in rows if row["settled"]]
    events = [
        LoggedEvent(
            row["order_id"], Checkpoint(row["transaction_id"], row["position"]), _envelope(row)
        )
        for row in settled
    ]
    return Reading(events, unsettled=len(settled) < len(rows))


def _envelope(row: asyncpg.Record) -> Envelope:
    return Envelope(
        version=row["version"],
        occurred_at=row["occurred_at"],
        type=row["type"],
        schema_version=row["schema_version"],
        data=row["data"],
        metadata=Metadata(**row["metadata"]),
    )
