"""Append to the log and read from it, without ever missing a row that commits late."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import Connection, Reader
from orders.events import OrderEvent
from orders.upcasting import restore

# A slice is a part of all orders, by a hash of the order's id; readers can divide the log by it.
SLICES = 8
SLICE = f"(hashtextextended(order_id, 0) & {SLICES - 1})::int"


class ConflictingEvent(Exception):
    """Another event already stands in the log under this order and version. It needs a person."""


class Checkpoint(NamedTuple):
    """A place in the log in commit order; a reader has seen all up to it and nothing after."""

    transaction_id: int
    position: int


START = Checkpoint(0, 0)


class LoggedEvent(NamedTuple):
    """An event as readers of the log need it, without who asked for it and why."""

    order_id: str
    version: int
    occurred_at: datetime
    type: str
    schema_version: int
    data: dict[str, Any]
    traceparent: str | None
    checkpoint: Checkpoint

    def event(self) -> OrderEvent:
        """The fact itself; raises UnreadableEvent if this version cannot know it."""
        return restore(self.type, self.schema_version, self.data)


_COLUMNS = """
    order_id, version, occurred_at, type, schema_version, data,
    metadata->>'traceparent' AS traceparent, transaction_id, position
"""


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


async def version_of_command(connection: Reader, order_id: str, command_id: str) -> int | None:
    """The version that an instruction brought its order to; None if the log has nothing of it."""
    version: int | None = await connection.fetchval(
        """
        SELECT max(version) FROM order_events
        WHERE order_id = $1 AND metadata->>'command_id' = $2
        """,
        order_id,
        command_id,
    )
    return version


async def read_settled(
    connection: Reader,
    after: Checkpoint,
    limit: int,
    *,
    slices: Sequence[int] | None = None,
    types: Sequence[str] | None = None,
    until: Checkpoint | None = None,
) -> Reading:
    """At most `limit` events after a checkpoint, below the oldest transaction still running.

    Rows at or above that watermark are left for later: a transaction with a lower id may still
    commit rows that belong before them. Only events of some slices or types, if they are named, and
    none beyond `until`.
    """
    last = until or Checkpoint(2**63 - 1, 0)
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}, transaction_id < pg_snapshot_xmin(pg_current_snapshot()) AS settled
        FROM order_events
        WHERE (transaction_id, position) > ($1, $2) AND (transaction_id, position) <= ($3, $4)
          AND ($6::int[] IS NULL OR {SLICE} = ANY($6)) AND ($7::text[] IS NULL OR type = ANY($7))
        ORDER BY transaction_id, position LIMIT $5
        """,
        *after,
        *last,
        limit,
        slices if slices is None or len(slices) < SLICES else None,
        types,
    )
    settled = [_logged(row) for row in rows if row["settled"]]
    return Reading(settled, unsettled=len(settled) < len(rows))


async def settled_head(connection: Reader) -> Checkpoint:
    """The place of the last event below the oldest transaction still running; START if none is."""
    row = await connection.fetchrow(
        """
        SELECT transaction_id, position FROM order_events
        WHERE transaction_id < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY transaction_id DESC, position DESC LIMIT 1
        """
    )
    return Checkpoint(row["transaction_id"], row["position"]) if row else START


async def watermark_age_seconds(connection: Reader) -> float:
    """For how long the oldest transaction that holds the watermark back has run; 0 without one.

    Those of other roles count only if ours is a member of `pg_read_all_stats`.
    """
    age: float = await connection.fetchval(
        """
        SELECT coalesce(extract(epoch FROM clock_timestamp() - min(began)), 0)::float8
        FROM (SELECT xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL
              UNION ALL SELECT prepared FROM pg_prepared_xacts) AS writing (began)
        """
    )
    return age


async def read_order(
    connection: Reader, order_id: str, after: int, types: Sequence[str] | None = None
) -> list[LoggedEvent]:
    """An order's events with a version above `after`, as readers of the log need them."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM order_events
        WHERE order_id = $1 AND version > $2 AND ($3::text[] IS NULL OR type = ANY($3))
        ORDER BY version
        """,
        order_id,
        after,
        types,
    )
    return [_logged(row) for row in rows]


async def read_orders(
    connection: Reader,
    after: str,
    until: Checkpoint,
    limit: int,
    types: Sequence[str] | None = None,
) -> list[LoggedEvent]:
    """At most `limit` events of the orders whose ids follow `after`, order by order.

    None beyond `until`. The last order may be cut off, unless there are fewer than `limit`.
    """
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM order_events
        WHERE order_id > $1 AND (transaction_id, position) <= ($2, $3)
          AND ($5::text[] IS NULL OR type = ANY($5))
        ORDER BY order_id, version LIMIT $4
        """,
        after,
        *until,
        limit,
        types,
    )
    return [_logged(row) for row in rows]


def _logged(row: asyncpg.Record) -> LoggedEvent:
    return LoggedEvent._make((*row[:7], Checkpoint(row[7], row[8])))


def _envelope(row: asyncpg.Record) -> Envelope:
    return Envelope(
        version=row["version"],
        occurred_at=row["occurred_at"],
        type=row["type"],
        schema_version=row["schema_version"],
        data=row["data"],
        metadata=Metadata(**row["metadata"]),
    )
