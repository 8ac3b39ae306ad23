"""How many orders have not ended, by status."""

from __future__ import annotations

from collections.abc import Mapping

from eventlog.postgres import Reader
from orders.lifecycle import ENDED, Status

COUNTED_MAX = 50_000
"""Of each status: a bound for the time that counting takes."""

_OPEN = [status for status in Status if status not in ENDED]


async def count_open(reader: Reader) -> Mapping[str, int]:
    """The number of orders of each open status, COUNTED_MAX at most."""
    rows = await reader.fetch(
        """
        SELECT status, (
            SELECT count(*) FROM (
                SELECT FROM order_view.orders WHERE orders.status = listed.status LIMIT $2
            ) AS counted
        ) AS orders
        FROM unnest($1::text[]) AS listed (status)
        """,
        _OPEN,
        COUNTED_MAX,
    )
    return {row["status"]: row["orders"] for row in rows}
