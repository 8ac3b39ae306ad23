"""An order near the limits lives its whole life on real servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.histories import runs_of
from tests.support.servers import Running
from tests.support.shop import SHIPPING, PlacedOrder, Shop, piece

LINES_OF_A_REQUEST = 500


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_order_of_4000_lines_is_shipped_and_another_one_cancelled(
    shop: Shop, orderly: Running
) -> None:
    """No workflow task fails: Temporal gives each ten seconds, and the SDK two."""
    kept, dropped = [await placed(shop, 4_000) for _ in range(2)]
    await dropped.execute("cancel-order")
    await dropped.wait_until_settled(status="cancelled")

    await kept.execute("cancel-lines", lines=[piece(f"line-{n}", 1) for n in range(500)])
    await kept.wait_until_settled(status="confirmed")
    await kept.ship()
    await kept.deliver()
    await kept.return_pieces("line-0", 1)
    await kept.wait_until_settled(return_status="partly_returned")

    for order in (kept, dropped):
        payment = (await order.wait_until_settled())["payment"]
        assert payment["captured"] - payment["refunded"] == payment["earned"]
        recorded = await order.payment_ledger()
        assert (recorded["captured"], recorded["refunded"]) == (
            payment["captured"],
            payment["refunded"],
        )
        for run in await runs_of(orderly.client, order.order_id):
            failed = [e.workflow_task_failed_event_attributes for e in run.events]
            assert [str(f.failure) for f in failed if f.failure.message] == []


async def placed(shop: Shop, lines: int) -> PlacedOrder:
    """A confirmed order of many lines of three pieces, whose lines come in several requests."""
    order = await shop.place_order(*(item(n) for n in range(LINES_OF_A_REQUEST)), place=False)
    for first in range(LINES_OF_A_REQUEST, lines, LINES_OF_A_REQUEST):
        commands = [
            {"type": "add-item-to-order", **item(n)}
            for n in range(first, min(lines, first + LINES_OF_A_REQUEST))
        ]
        added = await shop.http.post(f"{order.path}/commands", json={"commands": commands})
        assert added.status_code == 200, added.text
        order.version = added.json()["version"]
    await order.execute("place-order", payment_method="pm_card")
    await order.wait_until_settled(status="confirmed", total=lines * 300 + SHIPPING)
    return order


def item(number: int) -> dict[str, Any]:
    """A line; all are at one stock location."""
    return {
        "line_id": f"line-{number}",
        "sku": "MILK",
        "title": "Milk",
        "quantity": 3,
        "unit_price": 100,
    }
