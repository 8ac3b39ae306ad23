"""Orphaned orders: workflows that a test ends from outside, and orders that it resumes."""

from __future__ import annotations

import asyncio

import asyncpg
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from cli.resume import resume
from tests.support.histories import runs_of
from tests.support.visibility import listed, unlisted

WAIT_SECONDS = 30.0


async def terminate(client: Client, order_id: str) -> str:
    """Terminates an order's workflow, as a person does in the Web UI; returns the run's id.

    By then visibility shows it, too.
    """
    handle = client.get_workflow_handle(order_id)
    await handle.terminate(reason="by hand")
    description = await handle.describe()
    assert description.status is WorkflowExecutionStatus.TERMINATED
    await listed(client, f"RunId = '{description.run_id}' AND ExecutionStatus = 'Terminated'")
    return description.run_id or ""


async def forget(client: Client, order_id: str) -> None:
    """Deletes an order's runs in Temporal, as the end of their retention does."""
    for run in await runs_of(client, order_id):
        run_id = run.events[0].workflow_execution_started_event_attributes.original_execution_run_id
        await listed(client, f"RunId = '{run_id}'")  # Or visibility could list it later.
        await client.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=order_id, run_id=run_id),
            )
        )
    async with asyncio.timeout(WAIT_SECONDS):
        while await is_known(client, order_id):
            await asyncio.sleep(0.05)
    await unlisted(client, f"WorkflowId = '{order_id}'")


async def is_known(client: Client, order_id: str) -> bool:
    try:
        await client.get_workflow_handle(order_id).describe()
    except RPCError as error:
        return error.status is not RPCStatusCode.NOT_FOUND
    return True


async def resumed(
    client: Client,
    pool: asyncpg.Pool,
    queue: str,
    order_id: str | None,
    *,
    from_log: bool = False,
) -> list[str]:
    """What `orderly resume` prints."""
    return [done async for done in resume(client, pool, queue, order_id, from_log=from_log)]
