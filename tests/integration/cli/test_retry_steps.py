"""`orderly retry-steps`: all that waited for a service continues at once, and nothing else does."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from typer.testing import CliRunner

from cli import main as cli
from cli import retry_steps
from cli.retry_steps import Interrupted, retry, stuck_orders
from readside.order_view.stuck_steps import StuckSteps
from tests.support.api_requests import until_ready
from tests.support.processes import assert_one_sentence, run_inside
from tests.support.servers import Running
from tests.support.shop import MILK, PlacedOrder, Shop

OUT_OF_REACH = {
    "name": "Ada Lovelace",
    "line1": "St James's Sq 12",
    "city": "London",
    "country": "GB",
    "postal_code": "00000",
}


async def orderly_retries(orderly: Running, *options: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        run_inside,
        *("retry-steps", *options),
        ORDERLY_POSTGRES_DSN=orderly.dsn,
        ORDERLY_TASK_QUEUE=orderly.task_queue,
        TEMPORAL_ADDRESS=orderly.client.service_client.config.target_host,
    )


async def retried(orderly: Running, orders: list[StuckSteps]) -> list[bool]:
    retries = retry(orderly.client, orderly.pool, orderly.task_queue, orders)
    return [was_stuck async for was_stuck in retries]


async def stuck(orderly: Running, orders: list[PlacedOrder], service: str) -> list[StuckSteps]:
    wanted = {order.order_id for order in orders}
    return [o for o in await stuck_orders(orderly.pool, service) if o.order_id in wanted]


async def retries_of(order: PlacedOrder) -> int:
    return len(await order.event_data("step-retried"))


async def until_retried(orders: list[PlacedOrder], expected: list[int]) -> None:
    """Waits until the log has these numbers of retries: it follows what is acknowledged."""
    async with asyncio.timeout(60):
        while [await retries_of(order) for order in orders] != expected:
            await asyncio.sleep(0.1)


async def test_stuck_steps_of_a_service_are_counted_and_retried(
    shop: Shop, orderly: Running
) -> None:
    unpaid = [await shop.place_order(MILK, payment_method="pm_down") for _ in range(2)]
    unbooked = await shop.place_order(MILK, shipping_address=OUT_OF_REACH)
    for order in (*unpaid, unbooked):
        await order.wait_for(needs_attention=1)

    waiting = (await until_ready(orderly.http.admin))["waiting_orders"]
    assert waiting["payments"] >= 2 and waiting["shipping"] >= 1
    metrics = (await orderly.http.admin.get("/metrics")).text
    counted = re.search(
        r'^orderly_waiting_orders\{reason="stuck",service="payments"\} (\S+)', metrics, re.MULTILINE
    )
    assert counted is not None and float(counted[1]) >= 2
    planned = await orderly_retries(orderly)
    assert planned.returncode == 0, planned.stderr
    assert re.search(r"\d+ at payments", planned.stdout) and "--yes" in planned.stdout
    await unbooked.execute("add-note", text="A retry would come before this.")
    assert await retries_of(unbooked) == 0

    done = await orderly_retries(orderly, "--service", "shipping", "--yes")
    assert (done.returncode, done.stderr) == (0, ""), done
    assert re.search(r"^[1-9]\d* orders are retried", done.stdout, re.MULTILINE), done.stdout
    await unbooked.recover("shipping")
    await unbooked.wait_until_settled(needs_attention=[])
    await until_retried([unbooked], [1])
    for order in unpaid:
        await order.execute("add-note", text="A retry would come before this.")
    assert [await retries_of(order) for order in unpaid] == [0, 0]


async def stuck_again(
    orderly: Running, orders: list[PlacedOrder], before: list[StuckSteps]
) -> list[StuckSteps]:
    """The orders, once the read model shows what came after they were retried."""
    versions = {order.order_id: order.version for order in before}
    async with asyncio.timeout(60):
        while True:
            again = await stuck(orderly, orders, "payments")
            newer = {o.order_id for o in again if o.version > versions[o.order_id]}
            if newer == versions.keys():
                return again
            await asyncio.sleep(0.1)


async def test_repeated_retry_does_nothing_and_changed_orders_are_skipped(
    shop: Shop, orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_steps, "ORDERS_PER_SECOND", 4.0)
    orders = [await shop.place_order(MILK, payment_method="pm_down") for _ in range(3)]
    for order in orders:
        await order.wait_for(needs_attention=1)
    found = await stuck(orderly, orders, "payments")
    assert [order.order_id for order in found] == [order.order_id for order in orders]
    (step_id,) = found[2].types
    await orders[2].execute("settle-step", step_id=step_id, outcome="failed", reason="they said so")

    began = time.monotonic()
    assert await retried(orderly, found) == [True, True, False]
    assert time.monotonic() - began >= 2 / 4.0, "a service that is back is not overrun"
    assert await retried(orderly, found) == [True, True, False]
    await until_retried(orders, [1, 1, 0])

    again = await stuck_again(orderly, orders, found[:2])
    assert await retried(orderly, again) == [True, True], "a later retry is another command"
    await until_retried(orders, [2, 2, 0])
    for order in orders[:2]:
        await order.recover("payments")
    for order in orders[:2]:
        await order.wait_until_settled(status="confirmed", needs_attention=[])
    for order in orders:
        await order.assert_ledgers_agree()
    assert [await retries_of(order) for order in orders] == [2, 2, 0]
    assert await stuck(orderly, orders, "payments") == []


async def test_unavailable_temporal_interrupts_the_retries(orderly: Running) -> None:
    unreachable = await Client.connect(
        "127.0.0.1:1", lazy=True, data_converter=pydantic_data_converter
    )
    orders = [StuckSteps("ord_x", 3, {"authorise-1": "authorise"})]
    with pytest.raises(Interrupted, match="Temporal cannot be reached"):
        async for _ in retry(unreachable, orderly.pool, orderly.task_queue, orders):
            pass


def test_unknown_service_is_rejected_with_the_known_ones() -> None:
    ended = CliRunner().invoke(cli.app, ["retry-steps", "--service", "carrier"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "payments" in ended.stderr
    assert_one_sentence(ended.stderr)
