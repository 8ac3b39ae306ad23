"""`orderly verify` finds what differs between the log, its views and Temporal's own history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from cli.verify import Report, verify
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.processes import run as run_alone
from tests.support.servers import Running, run_orderly


@pytest.fixture
async def own(temporal: WorkflowEnvironment, dsn: str) -> AsyncIterator[Running]:
    """All of orderly, on a database that may be damaged."""
    async with run_orderly(temporal.client, dsn) as running:
        yield running


@pytest.fixture
async def order_id(own: Running) -> str:
    """An order of two items, in the view."""
    order_id = new_order_id()
    await own.gateway.execute(opening(order_id, bagels()), 10)
    await own.gateway.execute(message(order_id, bagels()), 10)
    answer = await own.http.get(f"/v1/orders/{order_id}", params={"min_version": 3})
    assert answer.status_code == 200, answer.text
    return order_id


async def verified(own: Running, sample: int | None = None) -> Report:
    *_, report = [report async for report in verify(own.pool, own.client, sample)]
    return report


async def test_undamaged_orders_have_no_differences(own: Running, order_id: str) -> None:
    other = new_order_id()
    await own.gateway.execute(opening(other), 10)
    await own.http.get(f"/v1/orders/{other}", params={"min_version": 1})
    assert await verified(own) == Report(orders=2, histories=2)
    assert await verified(own, sample=1) == Report(orders=1, histories=1)


async def test_damaged_row_is_found(own: Running, order_id: str) -> None:
    await own.pool.execute(
        "UPDATE order_view.orders SET document = jsonb_set(document::jsonb, '{total}', '7')"
        " WHERE order_id = $1",
        order_id,
    )
    (found,) = (await verified(own)).differences
    assert found == f"order {order_id}: total is 7 in its view, 100 by its events"


async def test_missing_row_is_found(own: Running, order_id: str) -> None:
    await own.pool.execute("DELETE FROM order_view.orders WHERE order_id = $1", order_id)
    (found,) = (await verified(own)).differences
    assert "version 0, and the projection has passed version 3" in found


async def test_log_that_differs_from_temporal_history_is_found(own: Running, order_id: str) -> None:
    await own.pool.execute("ALTER TABLE order_events DISABLE TRIGGER USER")
    await own.pool.execute(
        "UPDATE order_events SET data = jsonb_set(data, '{quantity}', '9')"
        " WHERE order_id = $1 AND version = 3",
        order_id,
    )
    await own.pool.execute("ALTER TABLE order_events ENABLE TRIGGER USER")
    found = (await verified(own)).differences
    assert any("version 3 is item-added in Temporal's history" in one for one in found), found
    assert any(one.startswith(f"order {order_id}: total") for one in found), found


async def test_command_prints_each_difference_and_exits_with_1(own: Running, order_id: str) -> None:
    async def run() -> tuple[int, str]:
        ended = await asyncio.to_thread(
            run_alone, "verify", "--no-history", ORDERLY_POSTGRES_DSN=own.dsn
        )
        return ended.returncode, ended.stdout

    code, printed = await run()
    assert (code, printed.rpartition(": ")[2]) == (0, "0 differences\n")
    await own.pool.execute("UPDATE order_view.orders SET version = 2")
    code, printed = await run()
    assert code == 1
    assert f"order {order_id}: version is 3 in its view, 2 by its events\n" in printed
