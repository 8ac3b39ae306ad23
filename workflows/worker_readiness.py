"""Whether a worker process executes orders: Temporal has heard of it lately."""

from __future__ import annotations

import asyncio
import time

from temporalio.api.enums.v1 import WorkerStatus
from temporalio.client import Client
from temporalio.service import RPCError

from admin.readiness import OK, Readiness, reasons_of
from background import within
from workflows.client import HEALTH_SECONDS_MAX, health_of
from workflows.worker_heartbeats import (
    ABSENT_AFTER_SECONDS,
    UNVERSIONED,
    list_heartbeats,
    lists_workers,
)

SERVES = ("commands",)
UNHEARD_OF = "Temporal has not heard of this worker lately"


async def read_readiness(client: Client, task_queue: str, build_id: str | None) -> Readiness:
    """The readiness of the worker of this process, which it tells from others by its identity."""
    temporal, worker = await asyncio.gather(health_of(client), _worker(client, task_queue))
    states = {"temporal": temporal, "worker": worker}
    shown = {**states, "task_queue": task_queue, "version": build_id or UNVERSIONED}
    return Readiness({"commands": reasons_of(states)}, shown)


async def _worker(client: Client, task_queue: str) -> str:
    try:
        return await within(HEALTH_SECONDS_MAX, _heard_of(client, task_queue))
    except (RPCError, TimeoutError) as error:
        return f"unknown: {error}"


async def _heard_of(client: Client, task_queue: str) -> str:
    if not await lists_workers(client):
        return OK  # As far as can be known: the process ends with its worker.
    heartbeats = await list_heartbeats(client, task_queue)
    earliest = (time.time() - ABSENT_AFTER_SECONDS) * 1e9  # Both times are of this machine's clock.
    is_heard_of = any(
        beat.worker_identity == client.identity
        and beat.status == WorkerStatus.WORKER_STATUS_RUNNING
        and beat.heartbeat_time.ToNanoseconds() >= earliest
        for beat in heartbeats
    )
    return OK if is_heard_of else UNHEARD_OF
