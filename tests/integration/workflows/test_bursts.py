"""In a burst of new orders, no task waits in Temporal's backlog until newer ones let it through."""

from __future__ import annotations

import asyncio

from dev.history_waits import longest_waits
from tests.support.histories import runs_of
from tests.support.servers import Running
from tests.support.shop import BREAD, Shop

ORDERS = 30
BACKLOG_SECONDS = 5.0


async def test_burst_waits_for_no_poller(orderly: Running, shop: Shop) -> None:
    orders = await asyncio.gather(*(shop.place_order(BREAD) for _ in range(ORDERS)))
    for order in orders:
        await order.wait_until_settled(status="confirmed")
    runs = [run for order in orders for run in await runs_of(orderly.client, order.order_id)]
    assert max(longest_waits(runs)) < BACKLOG_SECONDS
