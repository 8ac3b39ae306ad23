"""Lead times: from placing an order to its first departure and arrival, and to its completion."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, NamedTuple

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
    delivered_seconds integer,  -- from placing to the first arrival
    completed_seconds integer   -- from placing to the first completion
);
"""
_INDEXES = "CREATE INDEX ON orders (placed_at);"

_PLACED = "order-placed"
# By stage, the event whose first occurrence reaches it.
_STAGES = {
    "shipped": "shipment-dispatched",
    "delivered": "shipment-delivered",
    "completed": "order-completed",
}
_STAGE_OF = {type_: stage for stage, type_ in _STAGES.items()}


class DurationStats(BaseModel):
    """Percentiles in seconds, over the orders that have reached this stage; null without any."""

    orders: int
    p50_seconds: int | None
    p90_seconds: int | None
    longest_seconds: int | None


class PeriodLeadTimes(BaseModel):
    """The orders that were placed in a period, and their lead times.

    `shipped` is the time to the first departure, `delivered` to the first arrival, and `completed`
    until all is delivered and can no longer be returned.
    """

    placed: int
    shipped: DurationStats
    delivered: DurationStats
    completed: DurationStats


class DailyLeadTimes(PeriodLeadTimes):
    """Those of the orders that were placed on a day (UTC)."""

    day: date


class _Times(NamedTuple):
    version: int
    placed_at: datetime
    shipped_seconds: int | None = None
    delivered_seconds: int | None = None
    completed_seconds: int | None = None


async def project(connection: Connection, streams: Streams) -> None:
    """Records the time until each stage is first reached; raises ProjectionError."""
    rows = await connection.fetch("SELECT * FROM orders WHERE order_id = ANY($1)", list(streams))
    times = {row["order_id"]: _Times(*row[1:]) for row in rows}
    for order_id, stream in streams.items():
        for logged in stream:
            times[order_id] = _after(logged, times.get(order_id))
    await connection.execute(
        """
        INSERT INTO orders
        SELECT * FROM unnest(
            $1::text[], $2::int[], $3::timestamptz[], $4::int[], $5::int[], $6::int[]
        ) AS new (order_id, version, placed_at, shipped_seconds, delivered_seconds,
                  completed_seconds)
        ON CONFLICT (order_id) DO UPDATE SET version = excluded.version,
            shipped_seconds = excluded.shipped_seconds,
            delivered_seconds = excluded.delivered_seconds,
            completed_seconds = excluded.completed_seconds
        """,
        *columns((order_id, *known) for order_id, known in times.items()),
    )


def _after(logged: LoggedEvent, times: _Times | None) -> _Times:
    if logged.type == _PLACED:
        return _Times(logged.version, logged.occurred_at)
    if times is None:
        raise ProjectionError(logged.order_id, logged.version, "its order-placed event is missing")
    times = times._replace(version=logged.version)
    field = f"{_STAGE_OF[logged.type]}_seconds"
    if getattr(times, field) is not None:  # Another shipment, or completed again.
        return times
    seconds: Any = int((logged.occurred_at - times.placed_at).total_seconds())
    return times._replace(**{field: seconds})


async def by_day(reader: Reader, first: date, last: date) -> list[DailyLeadTimes]:
    """The days with placed orders from `first` to `last`, both included, in order."""
    rows = await reader.fetch(
        _sql("(placed_at AT TIME ZONE 'UTC')::date AS day", "day"), first, last
    )
    return [DailyLeadTimes(day=row["day"], **_lead_times(row)) for row in rows]


async def of_period(reader: Reader, first: date, last: date) -> PeriodLeadTimes:
    """All orders that were placed from `first` to `last`, both included."""
    (row,) = await reader.fetch(_sql("NULL AS day", "()"), first, last)
    return PeriodLeadTimes(**_lead_times(row))


def _sql(day: str, group: str) -> str:
    stages = ", ".join(
        f"count({stage}_seconds) AS {stage}, percentile_disc(ARRAY[0.5, 0.9, 1])"
        f" WITHIN GROUP (ORDER BY {stage}_seconds) AS {stage}_seconds"
        for stage in _STAGES
    )
    return f"""
        SELECT {day}, count(*) AS placed, {stages}
        FROM lead_times.orders
        WHERE placed_at >= $1::date::timestamp AT TIME ZONE 'UTC'
          AND placed_at < ($2::date + 1)::timestamp AT TIME ZONE 'UTC'
        GROUP BY {group} ORDER BY day
    """


def _lead_times(row: asyncpg.Record) -> dict[str, Any]:
    return {"placed": row["placed"], **{stage: _lead(row, stage) for stage in _STAGES}}


def _lead(row: asyncpg.Record, stage: str) -> DurationStats:
    p50, p90, longest = row[f"{stage}_seconds"] or (None, None, None)
    return DurationStats(
        orders=row[stage], p50_seconds=p50, p90_seconds=p90, longest_seconds=longest
    )


PROJECTION = Projection(
    name="lead_times",
    version=2,
    tables=_TABLES,
    indexes=_INDEXES,
    project=project,
    types=(_PLACED, *_STAGE_OF),
    pause_seconds=1,
)
