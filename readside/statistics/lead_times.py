"""Lead times: from placing an order to the departure and arrival of its first shipment."""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple

import asyncpg
from pydantic import BaseModel

from eventlog.log import LoggedEvent
from eventlog.postgres import Connection, Reader
from readside.engine.projection import Projection, ProjectionError, Streams, columns

_TABLES = """
CREATE TABLE orders (
    order_id          text        PRIMARY KEY,
    version           integer     NOT NULL,
    placed_at         timestamptz NOT NULL,
    shipped_seconds   integer,  -- from placing to the first departure; NULL before
    delivered_seconds integer   -- from placing to the first arrival
);
"""
_INDEXES = "CREATE INDEX ON orders (placed_at);"

_PLACED, _SHIPPED, _DELIVERED = "order-placed", "shipment-dispatched", "shipment-delivered"


class DurationStats(BaseModel):
    """Percentiles in seconds, over the orders that have reached this stage; null without any."""

    orders: int
    p50_seconds: int | None
    p90_seconds: int | None
    longest_seconds: int | None


class DailyLeadTimes(BaseModel):
    """The orders that were placed on a day (UTC), and their lead times.

    `shipped` is the time to the first departure, `delivered` to the first arrival.
    """

    day: date
    placed: int
    shipped: DurationStats
    delivered: DurationStats


class _Times(NamedTuple):
    version: int
    placed_at: datetime
    shipped_seconds: int | None = None
    delivered_seconds: int | None = None


async def project(connection: Connection, streams: Streams) -> None:
    """Records the time to the first departure and arrival; raises ProjectionError."""
    rows = await connection.fetch("SELECT * FROM orders WHERE order_id = ANY($1)", list(streams))
    times = {row["order_id"]: _Times(*row[1:]) for row in rows}
    for order_id, stream in streams.items():
        for logged in stream:
            times[order_id] = _after(logged, times.get(order_id))
    await connection.execute(
        """
        INSERT INTO orders
        SELECT * FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::int[], $5::int[])
            AS new (order_id, version, placed_at, shipped_seconds, delivered_seconds)
        ON CONFLICT (order_id) DO UPDATE SET version = excluded.version,
            shipped_seconds = excluded.shipped_seconds,
            delivered_seconds = excluded.delivered_seconds
        """,
        *columns((order_id, *known) for order_id, known in times.items()),
    )


def _after(logged: LoggedEvent, times: _Times | None) -> _Times:
    if logged.type == _PLACED:
        return _Times(logged.version, logged.occurred_at)
    if times is None:
        raise ProjectionError(logged.order_id, logged.version, "its order-placed event is missing")
    times = times._replace(version=logged.version)
    seconds = int((logged.occurred_at - times.placed_at).total_seconds())
    if logged.type == _SHIPPED and times.shipped_seconds is None:
        return times._replace(shipped_seconds=seconds)
    if logged.type == _DELIVERED and times.delivered_seconds is None:
        return times._replace(delivered_seconds=seconds)
    return times


async def by_day(connection: Reader, first: date, last: date) -> list[DailyLeadTimes]:
    """The days with placed orders from `first` to `last`, both included, in order."""
    rows = await connection.fetch(
        """
        SELECT (placed_at AT TIME ZONE 'UTC')::date AS day, count(*) AS placed,
               count(shipped_seconds) AS shipped, count(delivered_seconds) AS delivered,
               percentile_disc(ARRAY[0.5, 0.9, 1]) WITHIN GROUP (ORDER BY shipped_seconds)
                   AS shipped_seconds,
               percentile_disc(ARRAY[0.5, 0.9, 1]) WITHIN GROUP (ORDER BY delivered_seconds)
                   AS delivered_seconds
        FROM lead_times.orders
        WHERE placed_at >= $1::date::timestamp AT TIME ZONE 'UTC'
          AND placed_at < ($2::date + 1)::timestamp AT TIME ZONE 'UTC'
        GROUP BY day ORDER BY day
        """,
        first,
        last,
    )
    return [
        DailyLeadTimes(
            day=row["day"],
            placed=row["placed"],
            shipped=_lead(row, "shipped"),
            delivered=_lead(row, "delivered"),
        )
        for row in rows
    ]


def _lead(row: asyncpg.Record, stage: str) -> DurationStats:
    p50, p90, longest = row[f"{stage}_seconds"] or (None, None, None)
    return DurationStats(
        orders=row[stage], p50_seconds=p50, p90_seconds=p90, longest_seconds=longest
    )


PROJECTION = Projection(
    name="lead_times",
    version=1,
    tables=_TABLES,
    indexes=_INDEXES,
    project=project,
    types=(_PLACED, _SHIPPED, _DELIVERED),
    pause_seconds=1,
)
