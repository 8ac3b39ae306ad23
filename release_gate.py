"""What the release gate checks: migrations, read models, and the past of open orders.

It runs in a worker of the version that it is about: workflows/release_gate.py.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
from temporalio import activity
from temporalio.client import Client, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from contracts.declaration import read_declaration
from eventlog import migrate
from readside.engine import generations
from readside.engine.generations import LIVE
from readside.registry import PROJECTIONS
from workflows.release_gate import CHECK_RELEASE, GateInput, GateReport
from workflows.replay import begun, reason_of, replayer
from workflows.versions import current_version, pinned_to
from workflows.worker_heartbeats import UNVERSIONED

ROOT = Path(__file__).parent
LISTED_MAX = 10_000


class GateChecks:
    """The activity of the release gate."""

    def __init__(self, client: Client, pool: asyncpg.Pool, task_queue: str) -> None:
        self._client = client
        self._pool = pool
        self._task_queue = task_queue

    @activity.defn(name=CHECK_RELEASE)
    async def check_release(self, given: GateInput) -> GateReport:
        """Raises an ApplicationError that says why the version must not get orders."""
        if reasons := [reason async for reason in self._unprepared()]:
            raise _closed(reasons)
        replayed, rewritten = await self._replay(await self._open_orders(given.sample))
        declaration = read_declaration(ROOT)
        if rewritten and not (declaration.rewrites or declaration.state or declaration.commands):
            order_id, reason = rewritten[0]
            share = f"{len(rewritten)} of {replayed} open orders"
            sentence = f"it rewrites the past of {share}, and declares nothing of it, such as"
            raise _closed([f"{sentence} {order_id}: {reason}"])
        return GateReport(replayed=replayed, rewritten=len(rewritten))

    async def _unprepared(self) -> AsyncIterator[str]:
        """What of steps 1 and 2 of the order of deployment is missing."""
        if pending := await migrate.pending(self._pool):
            yield f"{', '.join(pending)} is not applied: run `orderly migrate`"
            return  # There may be no read models either.
        for projection in PROJECTIONS:
            async with self._pool.acquire() as connection:
                found = await generations.version_of(connection, projection.name, LIVE)
            if found != projection.version:
                yield (
                    f"the read model {projection.name} has version {found}, and this release reads"
                    f" {projection.version}: run `orderly projections rebuild {projection.name}`"
                )

    async def _open_orders(self, sample: int) -> list[str]:
        """A random sample of the orders that run now, without those that stay in older versions."""
        client, queue = self._client, self._task_queue
        order_ids = [
            order_id
            for version in {UNVERSIONED, await current_version(client, queue)}
            for order_id in await pinned_to(client, queue, version, LISTED_MAX)
        ]
        return random.sample(order_ids, min(sample, len(order_ids)))

    async def _replay(self, order_ids: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
        """How many orders were replayed, and why some do not replay."""
        replayed, rewritten = 0, []
        async with replayer().workflow_replay_iterator(
            begun(self._histories(order_ids))
        ) as results:
            async for result in results:
                replayed += 1
                if result.replay_failure is not None:
                    order_id = result.history.workflow_id
                    rewritten.append((order_id, reason_of(result.replay_failure)))
        return replayed, rewritten

    async def _histories(self, order_ids: Sequence[str]) -> AsyncIterator[WorkflowHistory]:
        for order_id in order_ids:
            try:
                yield await self._client.get_workflow_handle(order_id).fetch_history()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:  # Its retention has ended.
                    raise


def _closed(reasons: Sequence[str]) -> ApplicationError:
    message = f"This version must not get orders: {'; '.join(reasons)}."
    return ApplicationError(message, type="GateClosed", non_retryable=True)
