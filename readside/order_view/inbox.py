"""The orders that wait for a person: to settle something, to release, to answer, or to look at."""

from __future__ import annotations

from datetime import timedelta

from eventlog.postgres import Reader
from readside.order_view.queries import COLUMNS, row_of
from readside.order_view.row import OrderRow

DEADLINE_WITHIN = timedelta(hours=24)


async def waiting_orders(reader: Reader, limit: int) -> list[OrderRow]:
    """Up to `limit` orders, each once: the oldest of each kind of wait."""
    records = await reader.fetch(
        f"""
        SELECT DISTINCT ON (order_id) * FROM (
            (SELECT {COLUMNS} FROM order_view.orders AS o WHERE needs_attention
             ORDER BY opened_at, order_id LIMIT $1)
            UNION ALL
            (SELECT {COLUMNS} FROM order_view.orders AS o WHERE status = 'on_hold'
             ORDER BY opened_at, order_id LIMIT $1)
            UNION ALL
            (SELECT {COLUMNS} FROM order_view.orders AS o WHERE status = 'awaiting_customer'
             ORDER BY opened_at, order_id LIMIT $1)
            UNION ALL
            (SELECT {COLUMNS} FROM order_view.orders AS o
             WHERE deadline_at < now() + $2 AND status <> 'draft'
                AND fulfilment_status <> 'delivered'
             ORDER BY deadline_at, order_id LIMIT $1)
        ) AS found ORDER BY order_id
        """,
        limit,
        DEADLINE_WITHIN,
    )
    return [row_of(record) for record in records]
