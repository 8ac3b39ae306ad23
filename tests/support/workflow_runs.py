"""Waiting for an order's workflow."""

from __future__ import annotations

import asyncio

from temporalio.client import WorkflowExecutionStatus

from eventlog import log
from tests.support.command_builders import OPENING, message
from tests.support.servers import Running
from tests.support.shop import PlacedOrder

WAIT_SECONDS = 30.0


async def ended(orderly: Running, order_id: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await is_running(orderly, order_id):
            await asyncio.sleep(0.02)


async def is_running(orderly: Running, order_id: str) -> bool:
    description = await orderly.client.get_workflow_handle(order_id).describe()
    return description.status is WorkflowExecutionStatus.RUNNING


async def published(orderly: Running, order_id: str, version: int) -> None:
    """Waits until the log has an order up to a version."""
    async with asyncio.timeout(WAIT_SECONDS):
        while await log.head(orderly.pool, order_id) < version:
            await asyncio.sleep(0.02)


async def ends(orderly: Running, order: PlacedOrder) -> str:
    """How the order's workflow ended; by then all that happened is published."""
    async with asyncio.timeout(30):
        ending = await orderly.client.get_workflow_handle(order.order_id).result()
    head = await log.head(orderly.pool, order.order_id)
    status, _, version = str(ending).partition(" at version ")
    assert int(version) == head, "it ended before all was published"
    order.version = head
    assert (await order.document())["status"] == status
    return status


async def continue_as_new(orderly: Running, order_id: str) -> None:
    """Sends no-ops until the order continues in a new run."""
    handle = orderly.client.get_workflow_handle(order_id)
    first_run = (await handle.describe()).run_id
    async with asyncio.timeout(60):
        while (await handle.describe()).run_id == first_run:
            await orderly.gateway.execute(message(order_id, OPENING), WAIT_SECONDS)
