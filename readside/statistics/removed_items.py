"""Items that were removed from drafts before the order was placed, by SKU and day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from itertools import groupby
from typing import NamedTuple

from pydantic import BaseModel

from eventlog.log import SLICE, LoggedEvent
from eventlog.postgres import Connection, Reader
from orders.events import ItemAdded, ItemQuantityChanged, ItemRemoved
from readside.engine.projection import Projection, ProjectionError, Streams, columns

_TABLES = """
CREATE TABLE orders (
    order_id text    PRIMARY KEY,
    version  integer NOT NULL
);
-- The lines of open drafts; they are deleted when a draft ends.
CREATE TABLE lines (
    order_id text    NOT NULL,
    line_id  text    NOT NULL,
    sku      text    NOT NULL,
    quantity integer NOT NULL,  -- 0 once it was removed
    PRIMARY KEY (order_id, line_id)
);
-- With the slice in the key, only one process updates a row, so none waits for another.
CREATE TABLE daily (
    day    date    NOT NULL,    -- in UTC
    sku    text    NOT NULL,
    slice  integer NOT NULL,
    times  bigint  NOT NULL,
    pieces bigint  NOT NULL,
    PRIMARY KEY (day, sku, slice)
);
"""

_LAST = ("order-placed", "order-expired", "order-cancelled")
Key = tuple[str, str]


class _Line(NamedTuple):
    sku: str
    quantity: int


class DailyRemovals(BaseModel):
    """How often a SKU was removed or its quantity reduced on a day, and by how many pieces."""

    day: date
    times: int
    pieces: int


class RemovedItem(BaseModel):
    """How often a SKU was removed or its quantity reduced, and by how many pieces."""

    sku: str
    times: int
    pieces: int
    days: list[DailyRemovals]


async def project(connection: Connection, streams: Streams) -> None:
    """Tracks the lines of drafts, and counts removals; raises ProjectionError."""
    events = [logged for stream in streams.values() for logged in stream]
    lines = await _load(connection, events)
    removed = []
    for logged in events:
        if logged.type in _LAST:
            continue
        key, line = _changed(logged, lines)
        fewer = lines[key].quantity - line.quantity if key in lines else 0
        if fewer > 0:
            removed.append((logged.order_id, logged.occurred_at.date(), line.sku, fewer))
        lines[key] = line
    await connection.execute(
        """
        INSERT INTO orders SELECT * FROM unnest($1::text[], $2::int[])
        ON CONFLICT (order_id) DO UPDATE SET version = excluded.version
        """,
        *columns((key, stream[-1].version) for key, stream in streams.items()),
    )
    await _save(connection, lines, {e.order_id for e in events if e.type in _LAST})
    if removed:
        await connection.execute(
            f"""
            INSERT INTO daily SELECT day, sku, {SLICE}, count(*), sum(pieces)
            FROM unnest($1::text[], $2::date[], $3::text[], $4::int[])
                 AS removed (order_id, day, sku, pieces)
            GROUP BY 1, 2, 3
            ON CONFLICT (day, sku, slice) DO UPDATE
            SET times = daily.times + excluded.times, pieces = daily.pieces + excluded.pieces
            """,
            *columns(removed),
        )


def _changed(logged: LoggedEvent, lines: dict[Key, _Line]) -> tuple[Key, _Line]:
    """The key of the line that an event changes, and the line after it."""
    event = logged.event()
    assert isinstance(event, ItemAdded | ItemQuantityChanged | ItemRemoved)
    key = (logged.order_id, event.line_id)
    if isinstance(event, ItemAdded):
        return key, _Line(event.sku, event.quantity)
    if key not in lines:
        raise ProjectionError(logged.order_id, logged.version, "the line was never added")
    left = event.quantity if isinstance(event, ItemQuantityChanged) else 0
    return key, _Line(lines[key].sku, left)


async def _load(connection: Connection, events: Iterable[LoggedEvent]) -> dict[Key, _Line]:
    changed = {(e.order_id, e.data["line_id"]) for e in events if e.type not in _LAST}
    if not changed:
        return {}
    rows = await connection.fetch(
        "SELECT * FROM lines JOIN unnest($1::text[], $2::text[]) AS changed (order_id, line_id)"
        " USING (order_id, line_id)",
        *columns(changed),
    )
    return {(row["order_id"], row["line_id"]): _Line(row["sku"], row["quantity"]) for row in rows}


async def _save(connection: Connection, lines: dict[Key, _Line], ended: set[str]) -> None:
    if open_ := [(*key, *line) for key, line in lines.items() if key[0] not in ended]:
        await connection.execute(
            """
            INSERT INTO lines SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::int[])
            ON CONFLICT (order_id, line_id) DO UPDATE SET quantity = excluded.quantity
            """,
            *columns(open_),
        )
    if ended:
        await connection.execute("DELETE FROM lines WHERE order_id = ANY($1)", list(ended))


async def most_removed(
    connection: Reader, first: date, last: date, sku: str | None, limit: int
) -> list[RemovedItem]:
    """The SKUs with the most pieces removed from `first` to `last`, both included."""
    rows = await connection.fetch(
        """
        WITH most AS (
            SELECT sku, sum(pieces) AS of_it FROM removed_items.daily
            WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR sku = $3)
            GROUP BY sku ORDER BY of_it DESC, sku LIMIT $4
        )
        SELECT sku, day, sum(times) AS times, sum(pieces) AS pieces
        FROM most JOIN removed_items.daily USING (sku) WHERE day BETWEEN $1 AND $2
        GROUP BY of_it, sku, day ORDER BY of_it DESC, sku, day
        """,
        first,
        last,
        sku,
        limit,
    )
    return [
        RemovedItem(
            sku=sku,
            times=sum(day.times for day in days),
            pieces=sum(day.pieces for day in days),
            days=days,
        )
        for sku, group in groupby(rows, key=lambda row: row["sku"])
        if (days := [DailyRemovals(**row) for row in group])
    ]


PROJECTION = Projection(
    name="removed_items",
    version=1,
    tables=_TABLES,
    project=project,
    types=("item-added", "item-quantity-changed", "item-removed", *_LAST),
    pause_seconds=1,
)
