"""Appends to the log, and reads it in commit order without missing rows that commit late."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import Connection, Reader
from orders.events import OrderEvent
from orders.upcasting import restore

# Slices partition the orders by a hash of their ids, so that readers can share the log.
SLICES = 8
SLICE = f"(hashtextextended(order_id, 0) & {SLICES - 1})::int"


class ConflictingEvent(Exception):
    """The log has another event of this order and version. An operator has to investigate."""


class Checkpoint(NamedTuple):
    """A position in the log in commit order: all events up to it have been read."""

    transaction_id: int
    position: int


START = Checkpoint(0, 0)


class LoggedEvent(NamedTuple):
    """An event as projections read it, without most of its metadata."""

    order_id: str
    version: int
    occurred_at: datetime
    type: str
    schema_version: int
    data: dict[str, Any]
    traceparent: str | None
    checkpoint: Checkpoint

    def event(self) -> OrderEvent:
        """The event; raises UnreadableEvent if this release does not know its type or shape."""
        return restore(self.type, self.schema_version, self.data)


_COLUMNS = """
    order_id, version, occurred_at, type, schema_version, data,
    metadata->>'traceparent' AS traceparent, transaction_id, position
"""


class Reading(NamedTuple):
    """Events after a checkpoint."""

    events: list[LoggedEvent]
    """In commit order and settled: no transaction can commit events before them any more."""
    unsettled: bool
    """More is committed, but an older transaction still runs, whose end sends no notification."""
    left_seconds: float
    """For how long the first event after these has been in the log, or more; 0 if none is left."""


class ScanBound(NamedTuple):
    """The last event of a scan."""

    at: Checkpoint
    seconds_in_log: float


async def append(connection: Connection, order_id: str, events: Sequence[Envelope]) -> None:
    """Appends events of one order, all or none; events that are there already stay unchanged.

    Raises ConflictingEvent if another event holds one of the versions.
    """
    events = sorted(events, key=lambda e: e.version)
    try:
        # One statement: one round trip and one transaction. It takes the order's lock before
        # anything assigns a transaction id: otherwise a retry and a newer batch could commit an
        # order's events in the wrong order.
        await connection.execute(
            """
            WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended($1, 0)))
            INSERT INTO order_events
                (order_id, version, type, schema_version, occurred_at, data, metadata, intent)
            SELECT $1, new.* FROM turn, unnest(
                $2::int[], $3::text[], $4::int[], $5::timestamptz[], $6::jsonb[], $7::jsonb[],
                $8::bytea[]
            ) AS new
            -- The same event again changes nothing; another one makes the trigger raise.
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
            [e.intent and b64decode(e.intent) for e in events],
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
    """The order's version after a command batch; None if the log has no event of the batch."""
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
    commit rows that belong before them. `slices` and `types` restrict the events; `until` is the
    last checkpoint to read.
    """
    last = until or Checkpoint(2**63 - 1, 0)
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS}, transaction_id < pg_snapshot_xmin(pg_current_snapshot()) AS settled,
               extract(epoch FROM clock_timestamp() - recorded_at)::float8 AS seconds_in_log
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
    left = rows[len(settled) :]
    if not left and (len(rows) == limit or until):
        left = rows[-1:]  # What follows was not read, but is not older.
    left_seconds = max(left[0]["seconds_in_log"], 0.0) if left else 0.0
    return Reading(settled, len(settled) < len(rows), left_seconds)


async def scan_bound(connection: Reader, after: Checkpoint, rows: int) -> ScanBound | None:
    """Where a scan of this many settled rows after a checkpoint ends; None if there are fewer."""
    row = await connection.fetchrow(
        """
        SELECT transaction_id, position,
               extract(epoch FROM clock_timestamp() - recorded_at)::float8 AS seconds_in_log
        FROM order_events
        WHERE (transaction_id, position) > ($1, $2)
          AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY transaction_id, position OFFSET $3 LIMIT 1
        """,
        *after,
        rows - 1,
    )
    if row is None:
        return None
    return ScanBound(Checkpoint(row["transaction_id"], row["position"]), row["seconds_in_log"])


async def settled_head(connection: Reader) -> Checkpoint:
    """The last event's checkpoint below the oldest running transaction; START without events."""
    row = await connection.fetchrow(
        """
        SELECT transaction_id, position FROM order_events
        WHERE transaction_id < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY transaction_id DESC, position DESC LIMIT 1
        """
    )
    return Checkpoint(row["transaction_id"], row["position"]) if row else START


async def count(connection: Reader, until: Checkpoint, types: Sequence[str] | None = None) -> int:
    """The number of events up to a checkpoint; takes seconds for each ten million of them."""
    found: int = await connection.fetchval(
        """
        SELECT count(*) FROM order_events
        WHERE (transaction_id, position) <= ($1, $2) AND ($3::text[] IS NULL OR type = ANY($3))
        """,
        *until,
        types,
    )
    return found


async def watermark_age_seconds(connection: Reader) -> float:
    """The age of the oldest transaction that holds back the watermark; 0 without one.

    Transactions of other roles are visible only to members of `pg_read_all_stats`.
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
    """An order's events with a version above `after`, as projections read them."""
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


async def read_before(
    connection: Reader, versions: Mapping[str, int], types: Sequence[str]
) -> list[LoggedEvent]:
    """The events of these types below a version of each order, order by order."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM order_events JOIN unnest($1::text[], $2::int[]) AS wanted (id, below)
          ON order_id = id AND version < below
        WHERE type = ANY($3) ORDER BY order_id, version
        """,
        [*versions],
        [*versions.values()],
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
    """At most `limit` events up to `until` of the orders whose ids follow `after`, order by order.

    If there are `limit` events, the last order may be incomplete.
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
