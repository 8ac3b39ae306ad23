"""The log as the public feed reads it: in commit order, filtered, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from eventlog.envelope import Envelope
from eventlog.log import Checkpoint
from eventlog.postgres import Reader

# The cost limit of one read, however rare the matching events are; the next read continues.
SCANNED_ROWS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to read; None does not restrict."""

    types: tuple[str, ...] | None = None
    order_id: str | None = None
    customer_id: str | None = None
    """The customer of the order."""


class PublishedEvent(NamedTuple):
    """An event with its order, its position and its metadata."""

    order_id: str
    checkpoint: Checkpoint
    envelope: Envelope


class Page(NamedTuple):
    """Matching events, and where the next page begins."""

    events: list[PublishedEvent]
    """In commit order and settled: no transaction can commit events before them any more."""
    end: Checkpoint
    """All events up to it are read, matching or not; `after` itself if there are no more yet."""
    unsettled: bool
    """More is committed, but an older transaction still runs, whose end sends no notification."""


async def read(reader: Reader, after: Checkpoint, filter: EventFilter, limit: int) -> Page:
    """At most `limit` matching events after a checkpoint, below the oldest running transaction."""
    rows = limit if filter == EventFilter() else SCANNED_ROWS_MAX
    end, unsettled = await _end(reader, after, rows)
    if end == after:
        return Page([], after, unsettled)
    # Settled rows never change, so this query may use another snapshot.
    found = await reader.fetch(
        """
        SELECT order_id, transaction_id, position,
               version, occurred_at, type, schema_version, data, metadata
        FROM order_events
        WHERE (transaction_id, position) > ($1, $2) AND (transaction_id, position) <= ($3, $4)
          AND ($5::text[] IS NULL OR type = ANY($5)) AND ($6::text IS NULL OR order_id = $6)
          AND ($7::text IS NULL OR $7 = (
              SELECT opening.data->>'customer_id' FROM order_events AS opening
              WHERE opening.order_id = order_events.order_id AND opening.version = 1))
        ORDER BY transaction_id, position LIMIT $8
        """,
        *after,
        *end,
        filter.types,
        filter.order_id,
        filter.customer_id,
        limit,
    )
    events = [
        PublishedEvent(
            row["order_id"],
            Checkpoint(row["transaction_id"], row["position"]),
            Envelope.model_validate(dict(row)),
        )
        for row in found
    ]
    return Page(events, events[-1].checkpoint if len(events) == limit else end, unsettled)


async def _end(reader: Reader, after: Checkpoint, rows: int) -> tuple[Checkpoint, bool]:
    """The checkpoint of the last of `rows` settled rows, and whether unsettled ones follow."""
    ahead = await reader.fetch(
        """
        WITH ahead AS MATERIALIZED (
            SELECT transaction_id, position,
                   transaction_id < pg_snapshot_xmin(pg_current_snapshot()) AS settled
            FROM order_events WHERE (transaction_id, position) > ($1, $2)
            ORDER BY transaction_id, position LIMIT $3
        )
        (SELECT * FROM ahead WHERE settled ORDER BY transaction_id DESC, position DESC LIMIT 1)
        UNION ALL
        (SELECT * FROM ahead WHERE NOT settled LIMIT 1)
        """,
        *after,
        rows,
    )
    ends = [Checkpoint(row["transaction_id"], row["position"]) for row in ahead if row["settled"]]
    return ends[0] if ends else after, len(ahead) > len(ends)


async def is_reachable(reader: Reader, checkpoint: Checkpoint) -> bool:
    """Whether a cursor can be from this log; after a restore from a dump it may not be."""
    return bool(
        await reader.fetchval(
            "SELECT $1::xid8 < pg_snapshot_xmin(pg_current_snapshot())", checkpoint.transaction_id
        )
    )
