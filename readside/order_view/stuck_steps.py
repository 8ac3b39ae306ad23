"""Orders that wait for external services: their steps are stuck, or have had no result for long."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import NamedTuple

from eventlog.postgres import Reader

PAGE_SIZE = 200
COUNTED_MAX = 5_000
# A step has a result within a second. One that is tried for long is stuck in the end.
LATE_AFTER_SECONDS = 8
STUCK_AFTER_SECONDS = 90
_IS_LATE = (
    f"updated_at BETWEEN now() - interval '{STUCK_AFTER_SECONDS} s'"
    f" AND now() - interval '{LATE_AFTER_SECONDS} s'"
)


class StuckSteps(NamedTuple):
    """The stuck steps of one order."""

    order_id: str
    version: int
    types: dict[str, str]
    """By step id."""


class Waiting(NamedTuple):
    """Orders that wait for one service."""

    stuck: int
    """A step has failed, and is tried again and again."""
    late: int
    """A step has had no result for long."""

    @property
    def orders(self) -> int:
        return self.stuck + self.late


async def count_waiting_orders(reader: Reader, services: Mapping[str, str]) -> dict[str, Waiting]:
    """How many orders wait for each service, up to COUNTED_MAX in all.

    `services` has the service of each type of step.
    """
    rows = await reader.fetch(
        f"""
        SELECT service,
            count(DISTINCT order_id) FILTER (WHERE step->>'reason' IS NOT NULL) AS stuck,
            count(DISTINCT order_id) FILTER (WHERE step->>'reason' IS NULL) AS late
        FROM (
            (SELECT order_id, document, updated_at FROM order_view.orders
             WHERE needs_attention ORDER BY opened_at LIMIT {COUNTED_MAX})
            UNION ALL
            (SELECT order_id, document, updated_at FROM order_view.orders
             WHERE {_IS_LATE} ORDER BY updated_at LIMIT {COUNTED_MAX})
        ) AS candidate
        CROSS JOIN json_array_elements(document->'pending') AS step
        JOIN unnest($1::text[], $2::text[]) AS kind (type, service) ON type = step->>'type'
        WHERE step->>'reason' IS NOT NULL OR {_IS_LATE}
        GROUP BY service
        """,
        list(services),
        list(services.values()),
    )
    none = dict.fromkeys(services.values(), Waiting(0, 0))
    return none | {row["service"]: Waiting(row["stuck"], row["late"]) for row in rows}


async def orders_with_stuck_steps(reader: Reader) -> AsyncIterator[StuckSteps]:
    """All orders with stuck steps, the oldest first."""
    after: tuple[datetime, str] | None = None
    while True:
        rows = await reader.fetch(
            f"""
            SELECT opened_at, order_id, version, document->'pending' AS pending
            FROM order_view.orders WHERE needs_attention
            {"AND (opened_at, order_id) > ($2, $3)" if after else ""}
            ORDER BY opened_at, order_id LIMIT $1
            """,
            PAGE_SIZE,
            *(after or ()),
        )
        for row in rows:
            pending = json.loads(row["pending"])
            types = {step["step_id"]: step["type"] for step in pending if step["reason"]}
            if types:
                yield StuckSteps(row["order_id"], row["version"], types)
        if not rows:
            return
        after = (rows[-1]["opened_at"], rows[-1]["order_id"])
