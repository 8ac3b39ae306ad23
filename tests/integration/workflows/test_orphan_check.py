"""The periodic check finds and reports orphaned orders, without false alarms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

import orphan_check
from orders.commands import CancelOrder
from readside.order_view import orphans as shown
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.orphans import forget, resumed, terminate
from tests.support.servers import Running, run_orderly
from tests.support.visibility import listed
from tests.support.webhook_receiver import until
from tests.support.workflow_runs import continue_as_new, ended, published

WAIT_SECONDS = 30.0


@pytest.fixture
async def own(
    temporal: WorkflowEnvironment, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """All of orderly, on a database of its own; the check does not pause."""
    monkeypatch.setattr(orphan_check, "PAUSE_SECONDS", 0.0)
    async with run_orderly(temporal.client, dsn) as running:
        yield running


async def search(own: Running, holder: str = "test") -> list[str]:
    """The known orphans after one search."""
    await orphan_check.search(own.client, own.pool, own.task_queue, holder)
    return await shown.known(own.pool)


async def open_order(own: Running) -> str:
    """A new order that is in the read model."""
    order_id = new_order_id()
    await own.gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
    response = await own.http.get(f"/v1/orders/{order_id}", params={"min_version": 2})
    assert response.status_code == 200, response.text
    return order_id


async def needing_attention(own: Running) -> list[str]:
    listed = await own.http.get("/v1/orders", params={"needs_attention": True})
    return [order["order_id"] for order in listed.json()["items"]]


async def attention(own: Running, order_id: str) -> list[dict[str, Any]]:
    """What needs attention; it changes without the version, so ETags must not hide it."""
    read = await own.http.get(f"/v1/orders/{order_id}", headers={"If-None-Match": '"2"'})
    if read.status_code == 304:
        return []
    needs: list[dict[str, Any]] = read.json()["needs_attention"]
    return needs


async def metric(own: Running, name: str) -> float | None:
    lines = (await own.http.admin.get("/metrics")).text.splitlines()
    found = [line.split()[1] for line in lines if line.split()[0] == name]
    return float(found[0]) if found else None


async def test_orphan_is_shown_everywhere_until_it_is_resumed(own: Running) -> None:
    order_id, other = await open_order(own), await open_order(own)
    assert await metric(own, "orderly_orphan_check_age_seconds") is None
    assert await search(own) == []
    assert (await metric(own, "orderly_orphan_check_age_seconds") or 0) < WAIT_SECONDS

    await terminate(own.client, order_id)
    for _ in range(2):  # Again, it changes nothing.
        assert await search(own) == [order_id]

    (needs,) = await attention(own, order_id)
    assert (needs["kind"], needs["reason"]) == ("orphaned", "its workflow was terminated")
    assert "orderly resume" in needs["remedy"]
    assert await needing_attention(own) == [order_id]
    assert await attention(own, other) == []
    assert await metric(own, "orderly_orphaned_orders") == 1

    assert len(await resumed(own.client, own.pool, own.task_queue, None)) == 1
    assert await search(own) == []
    assert await attention(own, order_id) == []
    assert await needing_attention(own) == []
    assert await metric(own, "orderly_orphaned_orders") == 0


async def test_orphan_resumed_by_a_command_is_cleared(own: Running) -> None:
    order_id = await open_order(own)
    await terminate(own.client, order_id)
    assert await search(own) == [order_id]

    await own.gateway.execute(message(order_id, bagels()), WAIT_SECONDS)

    assert await search(own) == []
    assert await needing_attention(own) == []


async def test_vanished_workflow_is_found(own: Running) -> None:
    order_id = await open_order(own)
    await forget(own.client, order_id)

    assert await search(own) == [order_id]

    (needs,) = await attention(own, order_id)
    assert needs["reason"] == "Temporal has no workflow of it"


async def test_orphans_are_found_on_every_page(
    own: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "PAGE_SIZE", 2)
    order_ids = [await open_order(own) for _ in range(5)]
    for order_id in order_ids:
        await forget(own.client, order_id)

    assert sorted(await search(own)) == sorted(order_ids)


async def test_ended_order_without_history_and_with_a_late_view_is_no_orphan(
    own: Running,
) -> None:
    order_id = await open_order(own)
    await own.gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)
    await ended(own, order_id)
    await listed(own.client, f"WorkflowId = '{order_id}' AND ExecutionStatus = 'Completed'")
    await forget(own.client, order_id)
    async with asyncio.timeout(WAIT_SECONDS):
        while await own.pool.execute(
            "UPDATE order_view.orders SET status = 'draft' WHERE status = 'cancelled'"
        ) == ("UPDATE 0"):
            await asyncio.sleep(0.02)

    assert await search(own) == []


async def test_orders_that_begin_continue_and_end_raise_no_alarm(
    own: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[str] = []

    async def record(_reader: object, order_id: str, reason: str) -> None:
        recorded.append(f"{order_id}: {reason}")

    monkeypatch.setattr(shown, "record", record)

    async def live() -> None:
        order_id = new_order_id()
        await own.gateway.execute(opening(order_id), WAIT_SECONDS)
        await published(own, order_id, 1)
        await continue_as_new(own, order_id)
        await own.gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)

    lives = asyncio.gather(*(live() for _ in range(4)))
    searches = 0
    while searches < 6 or not lives.done():
        await search(own)
        searches += 1
    await lives

    assert recorded == []


async def test_one_process_searches_at_a_time(own: Running) -> None:
    order_id = await open_order(own)
    await terminate(own.client, order_id)
    assert await shown.acquire_lease(own.pool, "other")

    assert await search(own) == []

    await own.pool.execute("UPDATE orphan_check SET leased_until = now() - interval '1 second'")
    assert await search(own) == [order_id]


async def test_check_continues_after_an_error(
    own: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    order_id = await open_order(own)
    await terminate(own.client, order_id)
    monkeypatch.setattr(orphan_check, "PAUSE_SECONDS", 0.05)
    await own.pool.execute("ALTER TABLE orphan_check RENAME TO elsewhere")

    async with orphan_check.running(own.client, own.pool, own.task_queue):
        await until(lambda: "the search for orphaned orders is interrupted" in caplog.text)
        await own.pool.execute("ALTER TABLE elsewhere RENAME TO orphan_check")
        async with asyncio.timeout(WAIT_SECONDS):
            while await shown.known(own.pool) != [order_id]:
                await asyncio.sleep(0.05)
