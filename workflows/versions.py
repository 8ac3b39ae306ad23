"""The versions of the workers: which orders run in each, and whether workers run them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus as Status
from temporalio.api.taskqueue.v1 import TaskQueue, TaskQueueVersioningInfo
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeWorkerDeploymentRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from background import in_background
from workflows.failing_orders import count_failing
from workflows.messages import MOVE
from workflows.visibility import RUNNING, orders_query
from workflows.worker_heartbeats import CALL_SECONDS_MAX, UNVERSIONED, Workers

T = TypeVar("T")

FOLLOWED_SECONDS = 4.0
# Of versions to which no new orders go. Temporal hears of the routing before the status changes.
_ROLES = {
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: "draining",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: "draining",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: "draining",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: "drained",
}


class Version(NamedTuple):
    """One version of the workers of a task queue."""

    name: str
    """Deployment and build id, as in "orderly:v2"; or "unversioned"."""
    role: str
    """ "current", "ramping", "draining", "drained" or "inactive"; for unversioned workers empty."""
    percentage: float
    """The share of orders that a ramping version gets, from 0 to 100; 0 for all others."""
    orders: int
    """Running orders that are pinned to it; a drained version has none."""
    workers: int | None
    """Workers that were heard of lately; None if Temporal does not say."""

    @property
    def is_new(self) -> bool:
        """Whether orders come to it."""
        return self.role in ("current", "ramping")

    @property
    def is_deserted(self) -> bool:
        """Whether its orders, or new ones, have no worker."""
        return self.workers == 0 and (self.orders > 0 or self.is_new)


async def find_versions(
    client: Client, task_queue: str, workers: Mapping[str, int] | None
) -> list[Version]:
    """The versions that have orders or workers on a task queue, and those that are to get some.

    `workers` counts those that were heard of lately, by version. Raises RPCError.
    """
    found: list[Version] = []
    orders = await _count_orders(client, task_queue, UNVERSIONED)
    heard_of = None if workers is None else workers.get(UNVERSIONED, 0)
    if orders or heard_of:
        found.append(Version(UNVERSIONED, "", 0, orders, heard_of))
    for deployment in await _deployments(client, task_queue, workers or ()):
        found += await _versions(client, task_queue, deployment, workers or {})
    if workers is None:
        return [version._replace(workers=None) for version in found]
    return [version for version in found if version.orders or version.workers or version.is_new]


def without_current(versions: Iterable[Version]) -> bool:
    """Whether workers wait for orders that no version is current to get."""
    found = list(versions)
    alive = [version for version in found if version.workers]
    is_current = any(version.role == "current" for version in found)
    return bool(alive) and not is_current and all(version.role for version in alive)


async def current_version(client: Client, task_queue: str) -> str:
    """The version to which new orders go, apart from a ramp; or "unversioned". Raises RPCError."""
    current = (await _routing(client, task_queue)).current_deployment_version
    return f"{current.deployment_name}:{current.build_id}" if current.build_id else UNVERSIONED


async def pinned_to(
    client: Client, task_queue: str, version: str, limit: int | None = None
) -> list[str]:
    """The ids of the running orders of a version. Raises RPCError."""
    query = _query(task_queue, version)
    return [run.id async for run in client.list_workflows(query, limit=limit)]


async def may_move(client: Client, task_queue: str, order_id: str) -> bool:
    """Whether orders come to another version than the one that runs an order. Raises RPCError."""
    described = await client.get_workflow_handle(order_id).describe()
    own = described.raw_description.workflow_execution_info.versioning_info.deployment_version
    routing = await _routing(client, task_queue)
    new = (routing.current_deployment_version, routing.ramping_deployment_version)
    return bool(own.build_id) and any(each.build_id and each != own for each in new)


async def ask_to_move(client: Client, order_id: str) -> None:
    """Asks an order, if it still runs, to look whether it is to move. Raises RPCError."""
    try:
        await client.get_workflow_handle(order_id).signal(MOVE)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


def _query(task_queue: str, version: str) -> str:
    is_version = "IS NULL" if version == UNVERSIONED else f"= '{version}'"
    return orders_query(task_queue, RUNNING, f"TemporalWorkerDeploymentVersion {is_version}")


async def _count_orders(client: Client, task_queue: str, version: str) -> int:
    return (await client.count_workflows(_query(task_queue, version))).count


async def _deployments(
    client: Client, task_queue: str, workers: Iterable[str]
) -> list[WorkerDeploymentInfo]:
    """The deployments that the task queue is routed to, and those of its workers."""
    routing = await _routing(client, task_queue)
    names = {
        routing.current_deployment_version.deployment_name,
        routing.ramping_deployment_version.deployment_name,
        *(version.rpartition(":")[0] for version in workers),
    }
    return [
        (
            await client.workflow_service.describe_worker_deployment(
                DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name),
                retry=True,  # Temporal allows few of these calls at a time.
            )
        ).worker_deployment_info
        for name in sorted(names - {""})
    ]


async def _routing(client: Client, task_queue: str) -> TaskQueueVersioningInfo:
    """The versions to which new orders go."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    described = await client.workflow_service.describe_task_queue(request, retry=True)
    return described.versioning_info


async def _versions(
    client: Client, task_queue: str, deployment: WorkerDeploymentInfo, workers: Mapping[str, int]
) -> list[Version]:
    routing = deployment.routing_config
    new = {
        routing.ramping_deployment_version.build_id: "ramping",
        routing.current_deployment_version.build_id: "current",
    }
    found: list[Version] = []
    for summary in deployment.version_summaries:
        build_id = summary.deployment_version.build_id
        name = f"{deployment.name}:{build_id}"
        role = new.get(build_id) or _ROLES.get(summary.status, "inactive")
        # Temporal keeps drained versions, which have no orders: with a call for each, a
        # deployment with many releases would never be answered in time.
        orders = 0 if role == "drained" else await _count_orders(client, task_queue, name)
        share = routing.ramping_version_percentage if role == "ramping" else 0.0
        found.append(Version(name, role, share, orders, workers.get(name, 0)))
    return found


class VersionWatch:
    """What Temporal says of the versions and of failing orders, as it was some seconds ago.

    Both are None where it does not say, or is unavailable.
    """

    def __init__(self, client: Client, workers: Workers) -> None:
        self._client = client
        self._workers = workers
        self.versions: list[Version] | None = None
        self.failing_orders: int | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Follows them inside the `async with`."""
        async with in_background(self._follow()):
            yield

    async def _follow(self) -> None:
        while True:
            client, queue = self._client, self._workers.task_queue
            found = find_versions(client, queue, self._workers.by_version())
            self.versions = await _or_none(found)
            self.failing_orders = await _or_none(count_failing(client, queue))
            await asyncio.sleep(FOLLOWED_SECONDS)


async def _or_none(search: Coroutine[Any, Any, T]) -> T | None:
    try:
        async with asyncio.timeout(CALL_SECONDS_MAX):
            return await search
    except (RPCError, RuntimeError, TimeoutError):  # RuntimeError: it was never connected.
        return None
