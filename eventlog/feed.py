"""The log as the public feed reads it: in commit order, filtered, page by page.

The cost of a page does not depend on the length of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from asyncpg import Record

from eventlog.envelope import Envelope
from eventlog.log import START, Checkpoint, settled_head
from eventlog.postgres import Reader

# The cost limit of one read, however rare the matching events are; the next read continues.
SCANNED_ROWS_MAX = 10_000
# A customer with more orders has events everywhere in the log, so they are found by scanning it.
READ_ORDERS_MAX = 500

# An event is in the log at most this long after one that precedes it there.
OVERLAP = timedelta(minutes=1)

_COLUMNS = """
    order_id, transaction_id, position,
    version, occurred_at, type, schema_version, data, metadata
"""
# The customer of the order of a row `event`.
_CUSTOMER_ID = """(
    SELECT opening.data->>'customer_id' FROM order_events AS opening
    WHERE opening.order_id = event.order_id AND opening.version = 1)
"""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to read; None does not restrict."""

    types: tuple[str, ...] | None = None
    order_id: str | None = None
    customer_id: str | None = None
    """The customer of the order."""

    @property
    def names_orders(self) -> bool:
        """Whether only certain orders can match."""
        return self.order_id is not None or self.customer_id is not None


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
    page = await _read_orders(reader, after, filter, limit) if filter.names_orders else None
    return page or await _scan(reader, after, filter, limit)


async def _read_orders(
    reader: Reader, after: Checkpoint, filter: EventFilter, limit: int
) -> Page | None:
    """The page, from the streams of the orders that the filter names; None if they are many."""
    head, unsettled = await _head(reader)
    # Read after the head: it contains each order that has an event up to it.
    order_ids = await _order_ids(reader, filter)
    if len(order_ids) > READ_ORDERS_MAX:
        return None
    end = max(after, head)
    found = await reader.fetch(
        f"""
        WITH matching AS MATERIALIZED (  -- Or a scan of the whole log could seem cheaper.
            SELECT order_id, version, transaction_id, position FROM order_events
            WHERE order_id = ANY($1) AND ($2::text[] IS NULL OR type = ANY($2))
              AND (transaction_id, position) > ($3, $4) AND (transaction_id, position) <= ($5, $6)
        )
        SELECT {_COLUMNS} FROM order_events AS event JOIN (
            SELECT order_id, version FROM matching ORDER BY transaction_id, position LIMIT $7
        ) AS first USING (order_id, version)
        ORDER BY transaction_id, position
        """,
        order_ids,
        filter.types,
        *after,
        *end,
        limit,
    )
    return _page(found, end, unsettled, limit)


async def _scan(reader: Reader, after: Checkpoint, filter: EventFilter, limit: int) -> Page:
    """The page, from the next rows of the log, matching or not."""
    rows = limit if filter == EventFilter() else SCANNED_ROWS_MAX
    end, unsettled = await _end(reader, after, rows)
    if end == after:
        return Page([], after, unsettled)
    # Settled rows never change, so this query may use another snapshot.
    found = await reader.fetch(
        f"""
        SELECT {_COLUMNS} FROM order_events AS event
        WHERE (transaction_id, position) > ($1, $2) AND (transaction_id, position) <= ($3, $4)
          AND ($5::text[] IS NULL OR type = ANY($5))
          AND ($6::text IS NULL OR $6 = {_CUSTOMER_ID})
        ORDER BY transaction_id, position LIMIT $7
        """,
        *after,
        *end,
        filter.types,
        filter.customer_id,
        limit,
    )
    return _page(found, end, unsettled, limit)


def _page(found: Sequence[Record], end: Checkpoint, unsettled: bool, limit: int) -> Page:
    events = [_published(row) for row in found]
    return Page(events, events[-1].checkpoint if len(events) == limit else end, unsettled)


def _published(row: Record) -> PublishedEvent:
    return PublishedEvent(
        row["order_id"],
        Checkpoint(row["transaction_id"], row["position"]),
        Envelope.model_validate(dict(row)),
    )


async def read_with_customers(
    reader: Reader, after: Checkpoint, limit: int
) -> tuple[Page, list[str | None]]:
    """At most `limit` events of any kind, as `read` does, and the customer of each one's order."""
    found = await reader.fetch(
        f"""
        SELECT {_COLUMNS}, {_CUSTOMER_ID} AS customer_id,
               transaction_id < pg_snapshot_xmin(pg_current_snapshot()) AS settled
        FROM order_events AS event WHERE (transaction_id, position) > ($1, $2)
        ORDER BY transaction_id, position LIMIT $3
        """,
        *after,
        limit,
    )
    settled = [row for row in found if row["settled"]]  # The first of them, if any.
    events = [_published(row) for row in settled]
    end = events[-1].checkpoint if events else after
    return Page(events, end, len(settled) < len(found)), [row["customer_id"] for row in settled]


async def read_order_after(
    reader: Reader, order_id: str, version: int, until: Checkpoint, filter: EventFilter, limit: int
) -> list[PublishedEvent]:
    """At most `limit` matching events of an order from a version on, up to a checkpoint."""
    found = await reader.fetch(
        f"""
        SELECT {_COLUMNS} FROM order_events AS event
        WHERE order_id = $1 AND version >= $2 AND (transaction_id, position) <= ($3, $4)
          AND ($5::text[] IS NULL OR type = ANY($5))
          AND ($6::text IS NULL OR $6 = {_CUSTOMER_ID})
        ORDER BY version LIMIT $7
        """,
        order_id,
        version,
        *until,
        filter.types,
        filter.customer_id,
        limit,
    )
    return [_published(row) for row in found]


async def find_events(
    reader: Reader, ids: Sequence[tuple[str, int]], filter: EventFilter
) -> list[PublishedEvent]:
    """The events with these order ids and versions that match a filter, in commit order."""
    found = await reader.fetch(
        f"""
        SELECT {_COLUMNS} FROM order_events AS event
        WHERE (order_id, version) IN (SELECT * FROM unnest($1::text[], $2::int[]))
          AND ($3::text[] IS NULL OR type = ANY($3)) AND ($4::text IS NULL OR order_id = $4)
          AND ($5::text IS NULL OR $5 = {_CUSTOMER_ID})
          AND transaction_id < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY transaction_id, position
        """,
        [order_id for order_id, _ in ids],
        [version for _, version in ids],
        filter.types,
        filter.order_id,
        filter.customer_id,
    )
    return [_published(row) for row in found]


async def position_before(reader: Reader, instant: datetime) -> Checkpoint:
    """A checkpoint that no event recorded at or after an instant precedes.

    By bisection, since no index has the times: they grow along the log, but for transactions that
    took longer than others, and never longer than OVERLAP.
    """
    head = await settled_head(reader)
    low, high = START, head
    while low.transaction_id < high.transaction_id:
        middle = Checkpoint((low.transaction_id + high.transaction_id) // 2 + 1, 0)
        row = await reader.fetchrow(
            "SELECT transaction_id, recorded_at FROM order_events"
            " WHERE (transaction_id, position) >= ($1, $2)"
            " ORDER BY transaction_id, position LIMIT 1",
            *middle,
        )
        if row is None or row["recorded_at"] + OVERLAP >= instant:
            high = Checkpoint(middle.transaction_id - 1, 0)
        else:
            low = Checkpoint(row["transaction_id"], 0)
    first = await reader.fetchrow(
        """
        SELECT transaction_id, position FROM order_events
        WHERE (transaction_id, position) > ($1, $2) AND recorded_at >= $3
        ORDER BY transaction_id, position LIMIT 1
        """,
        *low,
        instant,
    )
    # An event that is not settled yet may still be preceded by others.
    return min(Checkpoint(first[0], first[1] - 1), head) if first else head


async def _order_ids(reader: Reader, filter: EventFilter) -> list[str]:
    """The orders that the filter names, or the first of them if they are many."""
    if filter.customer_id is None:
        assert filter.order_id is not None
        return [filter.order_id]
    only = "" if filter.order_id is None else "AND order_id = $3"
    rows = await reader.fetch(
        f"""
        SELECT order_id FROM order_events
        WHERE version = 1 AND data->>'customer_id' = $1 {only} LIMIT $2
        """,
        filter.customer_id,
        READ_ORDERS_MAX + 1,
        *([filter.order_id] if only else []),
    )
    return [row["order_id"] for row in rows]


async def _head(reader: Reader) -> tuple[Checkpoint, bool]:
    """The checkpoint of the last settled row, and whether unsettled ones follow."""
    rows = await reader.fetch(
        """
        (SELECT transaction_id, position, true AS settled FROM order_events
         WHERE transaction_id < pg_snapshot_xmin(pg_current_snapshot())
         ORDER BY transaction_id DESC, position DESC LIMIT 1)
        UNION ALL
        (SELECT transaction_id, position, false FROM order_events
         WHERE transaction_id >= pg_snapshot_xmin(pg_current_snapshot())
         ORDER BY transaction_id, position LIMIT 1)  -- Otherwise it may scan the table for one.
        """
    )
    heads = [Checkpoint(row["transaction_id"], row["position"]) for row in rows if row["settled"]]
    return heads[0] if heads else START, len(rows) > len(heads)


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
