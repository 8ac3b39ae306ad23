"""Checks whether a program of the embedded stack is ready."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg
import httpx
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from dev.stack.programs import DEPLOYMENT_NAME, Addresses
from outbound.webhooks.ownership import count_processes

Check = Callable[[Addresses], Awaitable[bool]]
"""Returns whether a program is ready."""


async def postgres_is_ready(addresses: Addresses) -> bool:
    """Whether Postgres accepts connections."""
    try:
        connection = await asyncpg.connect(addresses.postgres_dsn)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


async def temporal_is_ready(addresses: Addresses) -> bool:
    """Whether Temporal responds and has the namespace."""
    request = DescribeNamespaceRequest(namespace=addresses.temporal_namespace)
    try:
        client = await Client.connect(addresses.temporal_address)
        await client.workflow_service.describe_namespace(request)
    except (RuntimeError, RPCError):
        return False
    return True


async def worker_is_ready(addresses: Addresses) -> bool:
    """Whether a worker polls the task queue."""
    client = await Client.connect(addresses.temporal_address)
    queue = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=addresses.temporal_namespace,
            task_queue=TaskQueue(name=addresses.task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return len(queue.pollers) > 0


def version_is_current(build_id: str) -> Check:
    """Makes a version of the workers the current one; it can be once one of them polls."""

    async def is_current(addresses: Addresses) -> bool:
        client = await Client.connect(addresses.temporal_address)
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=addresses.temporal_namespace,
            deployment_name=DEPLOYMENT_NAME,
            build_id=build_id,
        )
        try:
            await client.workflow_service.set_worker_deployment_current_version(request)
        except RPCError:
            return False
        return True

    return is_current


async def deliverer_is_ready(addresses: Addresses) -> bool:
    """Whether a deliverer owns its share of the webhook endpoints."""
    connection = await asyncpg.connect(addresses.postgres_dsn)
    try:
        return await count_processes(connection) > 0
    finally:
        await connection.close()


async def simulators_are_ready(addresses: Addresses) -> bool:
    """Whether the simulators respond."""
    return await responds(f"{addresses.simulators_url}/healthz")


async def api_is_ready(addresses: Addresses) -> bool:
    """Whether the API is ready, and with it Temporal, Postgres and the projector."""
    return await responds(f"{addresses.api_url}/readyz")


async def responds(url: str) -> bool:
    """Whether there is a response at a URL, and it is a success."""
    # No proxy for loopback addresses; loading certificates would take longer than the request.
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        try:
            response = await client.get(url)
        except httpx.HTTPError:
            return False
    return response.is_success
