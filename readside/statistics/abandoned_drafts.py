"""Drafts: how many were opened, placed or abandoned by day, and which are idle longest."""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple

from pydantic import BaseModel

from eventlog.log import SLICE, LoggedEvent
from eventlog.postgres import Connection, Reader
from readside.engine.projection import Projection, ProjectionError, Streams, columns

_TABLES = """
CREATE TABLE orders (
    order_id   text        PRIMARY KEY,
    version    integer     NOT NULL,
    is_draft   boolean     NOT NULL,
    opened_at  timestamptz NOT NULL,
    touched_at timestamptz NOT NULL  -- by the last event while it was a draft
);
-- With the slice in the key, only one process updates a row, so none waits for another.
CREATE TABLE daily (
    day    date    NOT NULL,         -- in UTC
    type   text    NOT NULL,         -- of event
    slice  integer NOT NULL,
    drafts bigint  NOT NULL,
    PRIMARY KEY (day, type, slice)
);
"""
_INDEXES = "CREATE INDEX ON orders (touched_at, order_id) WHERE is_draft;"

_OPENED = "order-opened"
_LAST = ("order-placed", "order-expired", "order-cancelled")
_TOUCHED = (
    "item-added",
    "item-quantity-changed",
    "item-removed",
    "discount-applied",
    "discount-removed",
    "note-added",
    "shipping-charge-set",
    "shipping-address-set",
    "billing-address-set",
)


class DailyDraftStats(BaseModel):
    """How many drafts were opened, placed, expired or cancelled on a day (UTC)."""

    day: date
    opened: int
    placed: int
    expired: int
    cancelled: int


class IdleDraft(BaseModel):
    """An open draft, and how long ago its last event was."""

    order_id: str
    opened_at: datetime
    last_event_at: datetime
    idle_seconds: int


class _Draft(NamedTuple):
    version: int
    is_draft: bool
    opened_at: datetime
    touched_at: datetime


async def project(connection: Connection, streams: Streams) -> None:
    """Tracks drafts until they end, and counts how; raises ProjectionError."""
    rows = await connection.fetch("SELECT * FROM orders WHERE order_id = ANY($1)", list(streams))
    drafts = {row["order_id"]: _Draft(*row[1:]) for row in rows}
    counted = []
    for order_id, stream in streams.items():
        for logged in stream:
            before = drafts.get(order_id)
            drafts[order_id] = now = _after(logged, before)
            if before is None or before.is_draft != now.is_draft:
                counted.append((order_id, logged.occurred_at.date(), logged.type))
    await connection.execute(
        """
        INSERT INTO orders SELECT * FROM unnest(
            $1::text[], $2::int[], $3::boolean[], $4::timestamptz[], $5::timestamptz[])
            AS new (order_id, version, is_draft, opened_at, touched_at)
        ON CONFLICT (order_id) DO UPDATE SET version = excluded.version,
            is_draft = excluded.is_draft, touched_at = excluded.touched_at
        """,
        *columns((order_id, *draft) for order_id, draft in drafts.items()),
    )
    if counted:
        await connection.execute(
            f"""
            INSERT INTO daily SELECT day, type, {SLICE}, count(*)
            FROM unnest($1::text[], $2::date[], $3::text[]) AS counted (order_id, day, type)
            GROUP BY 1, 2, 3
            ON CONFLICT (day, type, slice) DO UPDATE SET drafts = daily.drafts + excluded.drafts
            """,
            *columns(counted),
        )


def _after(logged: LoggedEvent, draft: _Draft | None) -> _Draft:
    """The draft after an event. Notes and addresses may follow after its end, and do not count."""
    at = logged.occurred_at
    if logged.type == _OPENED:
        return _Draft(logged.version, True, at, at)
    if draft is None:
        raise ProjectionError(logged.order_id, logged.version, "its order-opened event is missing")
    if not draft.is_draft:
        return draft._replace(version=logged.version)
    return _Draft(logged.version, logged.type not in _LAST, draft.opened_at, at)


async def by_day(connection: Reader, first: date, last: date) -> list[DailyDraftStats]:
    """The days with counts from `first` to `last`, both included, in order."""
    rows = await connection.fetch(
        """
        SELECT day, coalesce(sum(drafts) FILTER (WHERE type = 'order-opened'), 0) AS opened,
               coalesce(sum(drafts) FILTER (WHERE type = 'order-placed'), 0) AS placed,
               coalesce(sum(drafts) FILTER (WHERE type = 'order-expired'), 0) AS expired,
               coalesce(sum(drafts) FILTER (WHERE type = 'order-cancelled'), 0) AS cancelled
        FROM abandoned_drafts.daily WHERE day BETWEEN $1 AND $2 GROUP BY day ORDER BY day
        """,
        first,
        last,
    )
    return [DailyDraftStats(**row) for row in rows]


async def count_open(connection: Reader) -> int:
    """How many drafts are open: those opened less those ended."""
    open_: int = await connection.fetchval(
        "SELECT coalesce(sum(CASE type WHEN $1 THEN drafts ELSE -drafts END), 0)::bigint"
        " FROM abandoned_drafts.daily",
        _OPENED,
    )
    return open_


async def longest_idle(connection: Reader, limit: int) -> list[IdleDraft]:
    """The open drafts whose last event is the oldest."""
    rows = await connection.fetch(
        """
        SELECT order_id, opened_at, touched_at AS last_event_at,
               greatest(extract(epoch FROM now() - touched_at)::bigint, 0) AS idle_seconds
        FROM abandoned_drafts.orders WHERE is_draft ORDER BY touched_at, order_id LIMIT $1
        """,
        limit,
    )
    return [IdleDraft(**row) for row in rows]


PROJECTION = Projection(
    name="abandoned_drafts",
    version=1,
    tables=_TABLES,
    indexes=_INDEXES,
    project=project,
    types=(_OPENED, *_TOUCHED, *_LAST),
    pause_seconds=1,
)
