"""Orders whose events cannot be published, as they say themselves by a search attribute."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from temporalio.client import Client

from workflows.order import UNPUBLISHED_SINCE
from workflows.visibility import RUNNING, orders_query

ORDERS_LOOKED_AT = 1_000


class Unpublished(NamedTuple):
    """Orders that have acknowledged what the log does not have."""

    orders: int
    age_seconds: float
    """For how long the oldest of the first ORDERS_LOOKED_AT has failed; 0 without one."""


async def find_unpublished(client: Client, task_queue: str) -> Unpublished:
    """Counts the orders that have failed to publish for some ten seconds. Raises RPCError."""
    query = orders_query(task_queue, RUNNING, f"{UNPUBLISHED_SINCE.name} IS NOT NULL")
    orders = (await client.count_workflows(query)).count
    if not orders:
        return Unpublished(0, 0.0)
    oldest = now = datetime.now(UTC)
    async for run in client.list_workflows(query, limit=ORDERS_LOOKED_AT):
        oldest = min(oldest, run.typed_search_attributes.get(UNPUBLISHED_SINCE, now))
    return Unpublished(orders, (now - oldest).total_seconds())
