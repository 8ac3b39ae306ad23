"""The record of deliveries: every attempt, what came of it, and how far endpoints are behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from eventlog.postgres import Reader

PARKED_SHOWN_MAX = 100
_PURGED_MAX = 20_000


@dataclass(frozen=True)
class RecordedDelivery:
    """One attempt; `error` is None if it was delivered."""

    delivery_id: int
    event_id: str
    event_type: str
    attempted_at: datetime
    latency_ms: int
    status: int | None
    error: str | None
    answer: str
    next_try_at: datetime | None


@dataclass(frozen=True)
class EndpointHealth:
    """How an endpoint answers, and how far it is behind."""

    endpoint_id: str
    failures: int
    failing_since: datetime | None
    next_try_at: datetime | None
    last_error: str | None
    last_success_at: datetime | None
    delivered: int
    failed: int
    parked_orders: int
    replays: int
    lag_seconds: float
    """For how long the first event after its cursor has been in the log; 0 without one."""


@dataclass(frozen=True)
class ShownParkedOrder:
    """An order whose next event, `version`, an endpoint did not accept."""

    order_id: str
    version: int
    attempts: int
    error: str
    parked_at: datetime
    next_try_at: datetime


_COLUMNS = """
    delivery_id, event_id, event_type, attempted_at, latency_ms, status, error, answer, next_try_at
"""


async def find_page(
    reader: Reader, endpoint_id: str, before: int | None, is_failed: bool | None, limit: int
) -> list[RecordedDelivery]:
    """The latest attempts at an endpoint, the newest first, with ids below `before`."""
    outcome = {None: "", True: "AND error IS NOT NULL", False: "AND error IS NULL"}[is_failed]
    rows = await reader.fetch(
        f"""
        SELECT {_COLUMNS} FROM webhook_deliveries
        WHERE endpoint_id = $1 AND ($2::bigint IS NULL OR delivery_id < $2) {outcome}
        ORDER BY delivery_id DESC LIMIT $3
        """,
        endpoint_id,
        before,
        limit,
    )
    return [RecordedDelivery(**row) for row in rows]


async def find(reader: Reader, endpoint_id: str, delivery_id: int) -> RecordedDelivery | None:
    row = await reader.fetchrow(
        f"SELECT {_COLUMNS} FROM webhook_deliveries WHERE endpoint_id = $1 AND delivery_id = $2",
        endpoint_id,
        delivery_id,
    )
    return RecordedDelivery(**row) if row else None


async def purge(reader: Reader, kept: timedelta) -> bool:
    """Deletes some attempts that are older than `kept`; returns whether there may be more."""
    deleted = await reader.execute(
        """
        DELETE FROM webhook_deliveries WHERE delivery_id IN (
            SELECT delivery_id FROM webhook_deliveries ORDER BY delivery_id LIMIT $2
        ) AND attempted_at < now() - $1::interval
        """,
        kept,
        _PURGED_MAX,
    )
    return bool(deleted == f"DELETE {_PURGED_MAX}")


async def read_health(
    reader: Reader, endpoint_ids: Sequence[str] | None = None
) -> dict[str, EndpointHealth]:
    """The health of some endpoints, or of all, by id."""
    rows = await reader.fetch(
        """
        SELECT endpoint_id, failures, failing_since, next_try_at, last_error, last_success_at,
               delivered, failed,
               (SELECT count(*) FROM webhook_parked_orders JOIN webhook_cursors AS of
                USING (cursor_id) WHERE of.endpoint_id = health.endpoint_id) AS parked_orders,
               (SELECT count(*) FROM webhook_cursors AS replay
                WHERE replay.endpoint_id = health.endpoint_id
                  AND replay.until_position IS NOT NULL) AS replays,
               coalesce(extract(epoch FROM clock_timestamp() - next.recorded_at), 0)::float8
                   AS lag_seconds
        FROM webhook_health AS health
        JOIN webhook_cursors AS live USING (endpoint_id)
        LEFT JOIN LATERAL (
            SELECT recorded_at FROM order_events
            WHERE (transaction_id, position) > (live.transaction_id, live.position)
            ORDER BY transaction_id, position LIMIT 1
        ) AS next ON true
        WHERE live.cursor_id = health.endpoint_id
          AND ($1::text[] IS NULL OR endpoint_id = ANY($1))
        """,
        endpoint_ids,
    )
    return {row["endpoint_id"]: EndpointHealth(**row) for row in rows}


async def parked_orders(reader: Reader, endpoint_id: str) -> list[ShownParkedOrder]:
    """The parked orders of an endpoint, the oldest first, at most PARKED_SHOWN_MAX."""
    rows = await reader.fetch(
        """
        SELECT order_id, version, attempts, error, parked_at, parked.next_try_at
        FROM webhook_parked_orders AS parked JOIN webhook_cursors USING (cursor_id)
        WHERE endpoint_id = $1 ORDER BY parked_at, order_id LIMIT $2
        """,
        endpoint_id,
        PARKED_SHOWN_MAX,
    )
    return [ShownParkedOrder(**row) for row in rows]
