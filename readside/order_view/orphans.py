"""Orphaned orders, as the running check has found them: no event says that a workflow is gone.

The check marks an order's row, too, so that lists find it under `needs_attention`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from eventlog.postgres import Reader
from orders.lifecycle import ENDED, Status

PAGE_SIZE = 200
LEASE_SECONDS = 15

_OPEN = [status for status in Status if status not in ENDED]


class OrphanMetrics(NamedTuple):
    """How many orphaned orders are known, and how old that knowledge is."""

    orders: int
    age_seconds: float | None
    """Since a search last came to its end; None if none ever has."""


async def acquire_lease(reader: Reader, holder: str) -> bool:
    """Whether this process is the one that searches, for the next LEASE_SECONDS."""
    leased = await reader.fetchval(
        """
        INSERT INTO orphan_check (holder, leased_until)
        VALUES ($1, now() + make_interval(secs => $2))
        ON CONFLICT (is_only_row) DO UPDATE
        SET holder = excluded.holder, leased_until = excluded.leased_until
        WHERE orphan_check.holder = excluded.holder OR orphan_check.leased_until < now()
        RETURNING true
        """,
        holder,
        LEASE_SECONDS,
    )
    return bool(leased)


async def complete_search(reader: Reader) -> None:
    """Records that a search came to its end."""
    await reader.execute("UPDATE orphan_check SET completed_at = now()")


async def open_orders(reader: Reader) -> AsyncIterator[list[str]]:
    """The ids of all orders that have not ended, by pages, oldest first in each status."""
    for status in _OPEN:
        after: tuple[object, str] | None = None
        while True:
            rows = await reader.fetch(
                f"""
                SELECT opened_at, order_id FROM order_view.orders
                WHERE status = $1 {"AND (opened_at, order_id) > ($3, $4)" if after else ""}
                ORDER BY opened_at, order_id LIMIT $2
                """,
                status,
                PAGE_SIZE,
                *(after or ()),
            )
            if not rows:
                break
            yield [row["order_id"] for row in rows]
            after = (rows[-1]["opened_at"], rows[-1]["order_id"])


async def known(reader: Reader, limit: int | None = None) -> list[str]:
    """The ids of known orphaned orders, those first that were checked least recently."""
    rows = await reader.fetch(
        "SELECT order_id FROM orphaned_orders ORDER BY checked_at, order_id LIMIT $1", limit
    )
    return [row["order_id"] for row in rows]


async def record(reader: Reader, order_id: str, reason: str) -> None:
    """Shows an order as orphaned; also again, as a projector may have written its row since."""
    await reader.execute(
        """
        WITH recorded AS (
            INSERT INTO orphaned_orders (order_id, reason) VALUES ($1, $2)
            ON CONFLICT (order_id) DO UPDATE SET reason = excluded.reason, checked_at = now()
        )
        UPDATE order_view.orders SET needs_attention = true
        WHERE order_id = $1 AND NOT needs_attention
        """,
        order_id,
        reason,
    )


async def clear(reader: Reader, order_id: str) -> None:
    """Shows an order as it is by its events, if it was shown as orphaned."""
    await reader.execute(
        """
        WITH cleared AS (
            DELETE FROM orphaned_orders WHERE order_id = $1 RETURNING order_id
        )
        UPDATE order_view.orders AS o
        SET needs_attention = json_array_length(document->'needs_attention') > 0
        FROM cleared WHERE o.order_id = cleared.order_id
        """,
        order_id,
    )


async def read_metrics(reader: Reader) -> OrphanMetrics:
    row = await reader.fetchrow(
        """
        SELECT (SELECT count(*) FROM orphaned_orders),
               (SELECT extract(epoch FROM clock_timestamp() - completed_at)::float8
                FROM orphan_check)
        """
    )
    assert row is not None
    return OrphanMetrics(*row)
