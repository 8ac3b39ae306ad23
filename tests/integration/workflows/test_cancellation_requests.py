"""A cancellation requested in Temporal: the order continues, and its details say so."""

from __future__ import annotations

import asyncio
import secrets

from temporalio.client import WorkflowExecutionStatus

from api.gateway.gateway import Gateway
from orders.commands import CancelOrder
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.event_log import log_has
from tests.support.histories import assert_replays, current_details, runs_of
from tests.support.servers import Running, run_worker
from tests.support.shop import MILK, MILK_CENTS, SHIPPING, Shop
from tests.support.workflow_runs import continue_as_new, ended, is_running, published
from workflows.web_ui import CANCELLATION_IGNORED

WAIT_SECONDS = 30.0


async def wait_until_details_mention_request(orderly: Running, order_id: str) -> None:
    """Waits until the details of the order say that the request is ignored."""
    async with asyncio.timeout(WAIT_SECONDS):
        while CANCELLATION_IGNORED not in await current_details(orderly.client, order_id):
            await asyncio.sleep(0.05)


async def test_request_in_the_middle_of_a_step_changes_nothing(
    shop: Shop, orderly: Running
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_slow")
    await log_has(orderly.pool, order.order_id, "authorisation-requested")

    await orderly.client.get_workflow_handle(order.order_id).cancel()

    await wait_until_details_mention_request(orderly, order.order_id)
    await order.wait_until_settled(status="confirmed")
    await order.ship()
    ledger = {"authorised": 0, "captured": MILK_CENTS + SHIPPING, "refunded": 0}
    assert await order.payment_ledger() == ledger
    await order.assert_ledgers_agree()


async def test_note_about_a_request_outlives_the_run_and_ends_with_the_order(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    await orderly.client.get_workflow_handle(order_id).cancel()
    await wait_until_details_mention_request(orderly, order_id)

    await continue_as_new(orderly, order_id)

    await wait_until_details_mention_request(orderly, order_id)
    assert (await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)).version == 2
    await gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)
    await ended(orderly, order_id)
    description = await orderly.client.get_workflow_handle(order_id).describe()
    assert description.status is WorkflowExecutionStatus.COMPLETED
    assert CANCELLATION_IGNORED not in await current_details(orderly.client, order_id)
    await assert_replays(await runs_of(orderly.client, order_id))


async def test_requests_while_an_order_continues_as_new_do_not_end_it(orderly: Running) -> None:
    order_id = new_order_id()
    await orderly.gateway.execute(opening(order_id), WAIT_SECONDS)

    async def request() -> None:
        while True:
            await orderly.client.get_workflow_handle(order_id).cancel()
            await asyncio.sleep(0.005)

    requesting = asyncio.create_task(request())
    try:
        for _ in range(3):
            await continue_as_new(orderly, order_id)
    finally:
        requesting.cancel()

    assert await is_running(orderly, order_id)
    assert (await orderly.gateway.execute(message(order_id, bagels()), WAIT_SECONDS)).version == 2
    await wait_until_details_mention_request(orderly, order_id)
    await assert_replays(await runs_of(orderly.client, order_id))


async def test_request_before_the_first_workflow_task_does_not_end_the_order(
    orderly: Running,
) -> None:
    order_id, queue = new_order_id(), f"cancelled-early-{secrets.token_hex(4)}"
    await Gateway(orderly.client, orderly.pool, queue).enqueue(opening(order_id))
    await orderly.client.get_workflow_handle(order_id).cancel()

    async with run_worker(orderly.client, queue, orderly.pool):
        await published(orderly, order_id, 1)
        await wait_until_details_mention_request(orderly, order_id)
    await assert_replays(await runs_of(orderly.client, order_id))
