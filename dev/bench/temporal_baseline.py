"""Baseline of commands: the least the Temporal SDK can do for one with one consequence.

An entity workflow whose synchronous update handler is followed by exactly one no-op activity per
update from the main loop; no sandbox, the default data converter, and nothing else. An order begins
with an update-with-start, as in orderly. A placed one has three steps, one after the other, each a
no-op activity with one consequence. Its worker is a separate process, this module.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from dev.bench.load_generator import ITEM
from dev.stack import Stack

TASK_QUEUE = "baseline"
STEPS = 3  # As of most orders: reserve stock, authorise payment, book shipment.
DONE = b"."
CACHED = 1_000  # The SDK's default.


@activity.defn
async def no_op() -> None:
    """Does nothing but count: writes one byte to the parent process."""
    os.write(1, DONE)


@workflow.defn
class Entity:
    """Counts its commands."""

    def __init__(self) -> None:
        self.version = 0
        self.pending = 0

    @workflow.run
    async def run(self) -> None:
        while True:
            await workflow.wait_condition(lambda: self.pending > 0)
            self.pending -= 1
            await workflow.execute_activity(no_op, start_to_close_timeout=timedelta(seconds=30))

    @workflow.update
    def execute(self, command: dict[str, Any]) -> int:
        self.version += 1
        self.pending += 1
        return self.version

    @workflow.update
    def place(self) -> int:
        self.version += 1
        self.pending += 1
        self.steps = asyncio.create_task(self.run_steps())
        return self.version

    async def run_steps(self) -> None:
        for _ in range(STEPS):
            await workflow.execute_activity(no_op, start_to_close_timeout=timedelta(seconds=30))
            self.pending += 1


class BaselineClient:
    """Sends commands through the SDK alone."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def open(self) -> str:
        """Opens an order and returns its id."""
        order_id = str(uuid.uuid4())
        await self._client.execute_update_with_start_workflow(
            Entity.execute,
            {"customer_id": "900", "currency": "USD"},
            start_workflow_operation=WithStartWorkflowOperation(
                Entity.run,
                id=order_id,
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            ),
        )
        return order_id

    async def add(self, order_id: str) -> None:
        """Adds ITEM to an order."""
        await self._client.get_workflow_handle(order_id).execute_update(Entity.execute, ITEM)

    async def place_order(self, order_id: str) -> None:
        """Places an order, whose steps follow."""
        await self._client.get_workflow_handle(order_id).execute_update(Entity.place)


@dataclass
class TemporalBaseline:
    """Clients, and the number of their commands, each with its no-op activity."""

    clients: list[BaselineClient]
    pid: int
    events: int
    _done: asyncio.StreamReader

    async def catch_up(self, commands: int) -> None:
        """Returns when the activities of this many further commands were executed."""
        self.events += len(await self._done.readexactly(commands))


@asynccontextmanager
async def temporal_baseline(
    stack: Stack, clients: int, cached: int = CACHED
) -> AsyncIterator[TemporalBaseline]:
    """Starts the worker; the clients share one SDK client, as the SDK recommends.

    The worker keeps `cached` workflows in memory.
    """
    client = await Client.connect(stack.temporal_address, namespace=stack.temporal_namespace)
    worker = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "dev.bench.temporal_baseline",
            stack.temporal_address,
            stack.temporal_namespace,
            str(cached),
        ),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the parent; the worker ends with its input.
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        yield TemporalBaseline([BaselineClient(client)] * clients, worker.pid, 0, worker.stdout)
    finally:
        worker.stdin.close()
        await worker.wait()


async def work(address: str, namespace: str, cached: str) -> None:
    """Runs the worker until standard input ends, at the latest with the parent process."""
    client = await Client.connect(address, namespace=namespace)
    async with Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Entity],
        activities=[no_op],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=int(cached),
    ):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
    os._exit(0)  # The SDK's threads can crash an interpreter that tears itself down.
