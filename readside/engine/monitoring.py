"""Metrics of the live projections, read from Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from eventlog.log import SLICE
from eventlog.postgres import Reader
from readside.engine.generations import LIVE, Generation


@dataclass(frozen=True)
class ProjectionMetrics:
    """Metrics of one live projection."""

    projection: str
    freshness: Sequence[int]
    """Counts of projected events by lateness: the classes of FRESHNESS_MS and the open class."""
    position: int
    """The position in the log up to which it has projected all events."""
    lag_seconds: float
    """For how long the first event after its checkpoints, of any type, has been in the log; 0
    without one. It counts events that an older transaction holds back."""
    parked_orders: int
    is_stopped: bool


async def read_metrics(connection: Reader, projections: Sequence[str]) -> list[ProjectionMetrics]:
    """The metrics of these projections, by name."""
    rows = await connection.fetch(
        f"""
        SELECT projection, freshness, c.position, stopped_by IS NOT NULL AS is_stopped,
               coalesce(extract(epoch FROM clock_timestamp() - next.recorded_at), 0)::float8
                   AS lag_seconds,
               (SELECT count(*) FROM parked_orders AS p
                WHERE (p.projection, p.generation) = (c.projection, c.generation)) AS parked_orders
        FROM projection_checkpoints AS c LEFT JOIN LATERAL (
            SELECT recorded_at FROM order_events
            WHERE (transaction_id, position) > (c.transaction_id, c.position) AND {SLICE} = c.slice
            ORDER BY transaction_id, position LIMIT 1
        ) AS next ON true
        WHERE generation = $1 AND projection = ANY($2) ORDER BY projection
        """,
        LIVE,
        projections,
    )
    metrics = []
    for projection, group in groupby(rows, key=lambda row: row["projection"]):
        slices = list(group)
        counts = [row["freshness"] for row in slices if row["freshness"]]
        metrics.append(
            ProjectionMetrics(
                projection=projection,
                freshness=[sum(of_class) for of_class in zip(*counts, strict=True)],
                position=min(row["position"] for row in slices),
                lag_seconds=max(row["lag_seconds"] for row in slices),
                parked_orders=slices[0]["parked_orders"],
                is_stopped=any(row["is_stopped"] for row in slices),
            )
        )
    return metrics


class Generations(NamedTuple):
    """The generations of a read model beside its live tables."""

    version: int | None
    """Of the code that made the live tables; None: there are none."""
    previous_version: int | None
    """Of the code that made what a rollback restores."""
    filled: int | None
    """How many events a rebuild has projected so far; None without a rebuild."""
    events: int | None
    is_filled: bool | None


async def read_generations(connection: Reader) -> dict[str, Generations]:
    """The generations of each read model, by its name."""
    rows = await connection.fetch(
        """
        SELECT c.projection, max(version) FILTER (WHERE generation = $1) AS version,
               max(version) FILTER (WHERE generation = $2) AS previous_version,
               max(filled) AS filled, max(events) AS events, bool_or(is_filled) AS is_filled
        FROM projection_checkpoints AS c LEFT JOIN rebuilds USING (projection)
        GROUP BY c.projection
        """,
        LIVE,
        Generation.PREVIOUS,
    )
    return {row["projection"]: Generations(*list(row.values())[1:]) for row in rows}
