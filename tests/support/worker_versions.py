"""Versioned workers of a deployment of the test's own, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from api.gateway.gateway import Gateway
from cli.moving import Moved, move
from settings import Settings
from tests.support.servers import cut_off
from worker import Activities, running, workers_for
from workflows.versions import Version, pinned_to

WAIT_SECONDS = 60


@dataclass(frozen=True)
class Deployment:
    """A task queue, and the deployment of the same name."""

    client: Client
    pool: asyncpg.Pool
    dsn: str
    name: str

    @property
    def settings(self) -> Settings:
        return Settings(postgres_dsn=self.dsn, task_queue=self.name)

    @property
    def gateway(self) -> Gateway:
        return Gateway(self.client, self.pool, self.name)

    @asynccontextmanager
    async def worker(
        self, build_id: str, activities: Activities | None = None
    ) -> AsyncIterator[None]:
        """A worker of a version; without activities of its own it reaches no external service."""
        versioned = {"deployment_name": self.name, "build_id": build_id}
        settings = self.settings.model_copy(update=versioned)
        workers = workers_for(self.client, settings, activities or cut_off(self.pool))
        async with running(workers, lambda: None):
            yield

    async def make_current(self, build_id: str) -> None:
        """Makes a version current; retries, because the server knows it once a worker polls.

        Returns once orders come to the version.
        """
        request = SetWorkerDeploymentCurrentVersionRequest(
            namespace=self.client.namespace, deployment_name=self.name, build_id=build_id
        )
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    await self.client.workflow_service.set_worker_deployment_current_version(
                        request
                    )
                except RPCError:
                    await asyncio.sleep(0.1)
                else:
                    break
            while await self._current_build() != build_id:  # The task queue hears of it later.
                await asyncio.sleep(0.05)

    async def _current_build(self) -> str:
        """The version to which the task queue gives orders."""
        request = DescribeTaskQueueRequest(
            namespace=self.client.namespace,
            task_queue=TaskQueue(name=self.name),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        described = await self.client.workflow_service.describe_task_queue(request)
        build_id: str = described.versioning_info.current_deployment_version.build_id
        return build_id

    async def move(self, version: Version) -> Moved:
        """What `orderly move-orders` did in the end."""
        moving = move(self.client, self.name, version, rate=100)
        *_, last = [progress async for progress in moving]
        return last

    async def build_of(self, order_id: str) -> str:
        """The version that an order runs in."""
        description = await self.client.get_workflow_handle(order_id).describe()
        versioning = description.raw_description.workflow_execution_info.versioning_info
        build_id: str = versioning.deployment_version.build_id
        return build_id

    async def wait_until_listed(self, build_id: str, *order_ids: str) -> None:
        """Waits until Temporal lists just these orders in a version: its list lags behind."""
        async with asyncio.timeout(WAIT_SECONDS):
            while sorted(await self._listed(build_id)) != sorted(order_ids):
                await asyncio.sleep(0.05)

    async def _listed(self, build_id: str) -> list[str]:
        return await pinned_to(self.client, self.name, f"{self.name}:{build_id}")

    async def wait_until_in(self, build_id: str, *order_ids: str) -> None:
        """Waits until orders run in a version."""
        async with asyncio.timeout(WAIT_SECONDS):
            for order_id in order_ids:
                while await self.build_of(order_id) != build_id:
                    await asyncio.sleep(0.05)
