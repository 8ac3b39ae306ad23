"""How to see that a program of the embedded stack serves by now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from dev.stack.programs import Addresses

Check = Callable[[Addresses], Awaitable[bool]]
"""Says whether a program serves by now."""


async def postgres_answers(addresses: Addresses) -> bool:
    """Whether Postgres takes connections."""
    try:
        connection = await asyncpg.connect(addresses.postgres_dsn)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def temporal_answers(addresses: Addresses) -> bool:
    """Whether Temporal answers and knows the namespace."""
    request = DescribeNamespaceRequest(namespace=addresses.temporal_namespace)
    try:
        client = await Client.connect(addresses.temporal_address)
        await client.workflow_service.describe_namespace(request)
    except (RuntimeError, RPCError):
        return False
    return True


async def worker_polls(addresses: Addresses) -> bool:
    """Whether Temporal has seen a worker ask for the tasks of orders."""
    client = await Client.connect(addresses.temporal_address)
    queue = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=addresses.temporal_namespace,
            task_queue=TaskQueue(name=addresses.task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return len(queue.pollers) > 0


async def simulators_answer(addresses: Addresses) -> bool:
    """Whether the simulators respond."""
    return await _is_well(f"{addresses.simulators_url}/healthz")


async def api_is_ready(addresses: Addresses) -> bool:
    """Whether the API says that it can serve: it sees Temporal, Postgres and the projector."""
    return await _is_well(f"{addresses.api_url}/readyz")


async def _is_well(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:  # No proxy on the way to ourselves.
        try:
            answer = await client.get(url)
        except httpx.HTTPError:
            return False
    return answer.is_success
