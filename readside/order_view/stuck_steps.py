"""Orders that wait for external services: their steps are stuck, or have had no result for long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import NamedTuple

from eventlog.postgres import Reader

PAGE_SIZE = 200
COUNTED_MAX = 5_000
# A step has a result within a second. One that is tried for long is stuck in the end.
LATE_AFTER_SECONDS = 8
STUCK_AFTER_SECONDS = 90


class StuckSteps(NamedTuple):
    """The stuck steps of one order."""

    order_id: str
    version: int
    types: dict[str, str]
    """By step id."""


async def count_waiting_orders(reader: Reader, services: Mapping[str, str]) -> dict[str, int]:
    """How many orders wait for each service, up to COUNTED_MAX in all.

    `services` has the service of each type of step.
    """
    rows = await reader.fetch(
        f"""
        SELECT service, count(DISTINCT order_id) AS orders
        FROM (
            (SELECT order_id, document, true AS is_stuck FROM order_view.orders
             WHERE needs_attention AND has_stuck_steps
             ORDER BY opened_at LIMIT {COUNTED_MAX})
            UNION ALL
            (SELECT order_id, document, false FROM order_view.orders
             WHERE has_steps AND NOT has_stuck_steps
             AND updated_at BETWEEN now() - interval '{STUCK_AFTER_SECONDS} s'
                                AND now() - interval '{LATE_AFTER_SECONDS} s'
             ORDER BY updated_at LIMIT {COUNTED_MAX})
        ) AS waiting
        CROSS JOIN json_array_elements(document->'pending') AS step
        JOIN unnest($1::text[], $2::text[]) AS kind (type, service) ON type = step->>'type'
        WHERE step->>'reason' IS NOT NULL OR NOT is_stuck
        GROUP BY service
        """,
        list(services),
        list(services.values()),
    )
    none = dict.fromkeys(services.values(), 0)
    return none | {row["service"]: row["orders"] for row in rows}


async def orders_with_stuck_steps(reader: Reader) -> AsyncIterator[StuckSteps]:
    """All orders with stuck steps, the oldest first."""
    after: tuple[datetime, str] | None = None
    while True:
        rows = await reader.fetch(
            f"""
            SELECT opened_at, order_id, version,
                   array_agg(step->>'step_id') AS step_ids, array_agg(step->>'type') AS types
            FROM (
                SELECT opened_at, order_id, version, document FROM order_view.orders
                WHERE needs_attention AND has_stuck_steps
                {"AND (opened_at, order_id) > ($2, $3)" if after else ""}
                ORDER BY opened_at, order_id LIMIT $1
            ) AS page CROSS JOIN json_array_elements(document->'pending') AS step
            WHERE step->>'reason' IS NOT NULL
            GROUP BY opened_at, order_id, version ORDER BY opened_at, order_id
            """,
            PAGE_SIZE,
            *(after or ()),
        )
        for row in rows:
            types = dict(zip(row["step_ids"], row["types"], strict=True))
            yield StuckSteps(row["order_id"], row["version"], types)
        if not rows:
            return
        after = (rows[-1]["opened_at"], rows[-1]["order_id"])
