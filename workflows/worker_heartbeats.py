"""Whether workers run orders: each tells Temporal every few seconds that it is alive.

Temporal's list of pollers does not show it: a poll takes a minute, and a dead poller stays listed
for five.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import NamedTuple

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, ListWorkersRequest
from temporalio.client import Client
from temporalio.service import RPCError

from background import in_background

UNVERSIONED = "unversioned"
INTERVAL = timedelta(seconds=4)
ABSENT_AFTER_SECONDS = 10.0
POLL_SECONDS = 2.0
CALL_SECONDS_MAX = 2.0
WORKERS_MAX = 1_000


class _Heartbeat(NamedTuple):
    """The last one of a worker, by the worker's clock, and when it was first seen, by ours."""

    sent_at: int
    seen_at: float
    version: str


class Workers:
    """The workers of a task queue, by their heartbeats; times are by the monotonic clock."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self.task_queue = task_queue
        self._heartbeats: dict[str, _Heartbeat] = {}
        self._listed_at: float | None = None
        self._heard_at = 0.0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Follows the heartbeats inside the `async with`."""
        async with in_background(self._follow()):
            yield

    def present(self) -> int | None:
        """How many were heard of lately; None if Temporal does not say, or is an older version."""
        by_version = self.by_version()
        return None if by_version is None else by_version.total()

    def by_version(self) -> Counter[str] | None:
        """Like `present`, by version; see workflows/versions.py."""
        now = time.monotonic()
        if self._listed_at is None or now - self._listed_at > ABSENT_AFTER_SECONDS:
            return None
        return Counter(
            heartbeat.version
            for heartbeat in self._heartbeats.values()
            if now - heartbeat.seen_at <= ABSENT_AFTER_SECONDS
        )

    def silence_seconds(self) -> float:
        """For how long no worker has been heard of, as far as Temporal was available."""
        return time.monotonic() - self._heard_at

    def remember(self, heartbeats: Iterable[WorkerHeartbeat]) -> None:
        """Notes which workers have sent a heartbeat since the last call.

        Temporal forgets all of them when it restarts, and keeps those of dead workers for minutes.
        """
        now, known = time.monotonic(), self._heartbeats
        if self.present() is None:
            self._heard_at = now  # Workers could not reach Temporal either.
        self._listed_at = now
        self._heartbeats = {
            key: heartbeat
            for key, heartbeat in known.items()
            if now - heartbeat.seen_at <= ABSENT_AFTER_SECONDS
        }
        for heartbeat in heartbeats:
            key, sent_at = heartbeat.worker_instance_key, heartbeat.heartbeat_time.ToNanoseconds()
            if heartbeat.status != WorkerStatus.WORKER_STATUS_RUNNING:
                self._heartbeats.pop(key, None)
            elif key in known and known[key].sent_at == sent_at:
                self._heartbeats[key] = known[key]
            else:
                self._heartbeats[key] = _Heartbeat(sent_at, now, version_of(heartbeat))
                self._heard_at = now

    async def list_once(self) -> None:
        """Notes the workers that Temporal lists now. Raises RPCError."""
        self.remember(await list_heartbeats(self._client, self.task_queue))

    async def _follow(self) -> None:
        is_supported = False
        while True:
            with suppress(RPCError, RuntimeError):  # RuntimeError: it was never connected.
                is_supported = is_supported or await lists_workers(self._client)
                if is_supported:
                    await self.list_once()
            await asyncio.sleep(POLL_SECONDS)


def version_of(heartbeat: WorkerHeartbeat) -> str:
    """The version of a worker, as Temporal's search attribute names it.

    Workers without versions have a build id, too: the SDK's own, of no deployment.
    """
    version = heartbeat.deployment_version
    if not version.deployment_name:
        return UNVERSIONED
    return f"{version.deployment_name}:{version.build_id}"


async def lists_workers(client: Client) -> bool:
    """Whether the server is new enough to list workers. Raises RPCError."""
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace),
        timeout=timedelta(seconds=CALL_SECONDS_MAX),
    )
    return described.namespace_info.capabilities.worker_heartbeats


async def list_heartbeats(client: Client, task_queue: str) -> list[WorkerHeartbeat]:
    """The last heartbeat of each worker that Temporal remembers. Raises RPCError."""
    request = ListWorkersRequest(
        namespace=client.namespace, page_size=WORKERS_MAX, query=f"TaskQueue = '{task_queue}'"
    )
    timeout = timedelta(seconds=CALL_SECONDS_MAX)
    listed = await client.workflow_service.list_workers(request, timeout=timeout)
    return [worker.worker_heartbeat for worker in listed.workers_info]


async def heard_of(client: Client, task_queue: str) -> Counter[str] | None:
    """Listens for a few seconds, and counts the workers by version; None if Temporal lists none.

    Raises RPCError.
    """
    if not await lists_workers(client):
        return None
    times = {
        beat.worker_instance_key: beat.heartbeat_time.ToNanoseconds()
        for beat in await list_heartbeats(client, task_queue)
    }
    await asyncio.sleep(INTERVAL.total_seconds() + 1)
    return Counter(
        version_of(beat)
        for beat in await list_heartbeats(client, task_queue)
        if beat.status == WorkerStatus.WORKER_STATUS_RUNNING
        and times.get(beat.worker_instance_key) != beat.heartbeat_time.ToNanoseconds()
    )
