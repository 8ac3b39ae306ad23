"""Commands to orders whose workflow does not run: they have ended, or are orphaned.

The log has all events of an order that has ended. An orphaned one may have decided more: its state
is that of its last run. A command that changes nothing, or that was executed before, gets its
result from there; for any other the workflow is started again, and so is never decided on less
than was acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.gateway.availability import await_or_unavailable
from api.gateway.command_message import CommandMessage
from api.gateway.journal import IntentRecorder
from api.gateway.retries import Retry, raise_rpc_error, retry_until
from api.gateway.workflow_start import WorkflowStart
from api.problems.errors import (
    OrderOrphaned,
    OutcomeUnknown,
    StorageUnavailable,
    UnknownOrder,
)
from eventlog import log
from eventlog.journal import read_no_ops
from eventlog.postgres import UNAVAILABLE
from workflows import command_handler, idempotency, orphans
from workflows.messages import CommandBatch, CommandResult, Preview, QueuedCommands
from workflows.orphans import Orphan
from workflows.snapshot import Snapshot, fingerprint
from workflows.stored_results import StoredResults, of_results

logger = logging.getLogger("orderly.api")

# No worker has replayed the run in time, or it was deleted a moment ago.
_NO_ANSWER = (
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.FAILED_PRECONDITION,
    RPCStatusCode.NOT_FOUND,
)


class LastState(NamedTuple):
    """What an order's last run has left."""

    snapshot: Snapshot
    results: StoredResults
    """At least those in the snapshot."""


class EndedOrders:
    """Decides on commands to orders that do not run, and starts those again that accept one."""

    def __init__(
        self,
        client: Client,
        pool: asyncpg.Pool,
        task_queue: str,
        journal: IntentRecorder | None = None,
    ) -> None:
        self._client = client
        self._journal = journal
        self._pool = pool
        self._task_queue = task_queue

    async def execute(
        self, message: CommandMessage, queued: QueuedCommands | None = None
    ) -> CommandResult | None:
        """The result according to the last state; None if the order had to be reopened.

        A reopened order executes the message as any running one does; it receives `queued` with its
        start. Raises Rejected, UnknownOrder, and what `reopen` raises; StorageUnavailable,
        OrderOrphaned and UnreadableEvent if the last state cannot be read.
        """
        snapshot, results = await self._last_state(message.order_id)
        order, now, batch = snapshot.order, datetime.now(UTC), message.batch
        # Otherwise earlier commands come first, or the state of another version is checked first.
        if snapshot.is_own and not snapshot.queued:
            if order.version == 0 and not message.creates_order:
                raise UnknownOrder(message.order_id)
            if message.command_id in results:
                return results[message.command_id].result
            events, after, _ = command_handler.decide_batch(batch, order, message.command_id, now)
            if not events:
                if self._journal is not None:
                    self._journal.add(message, order.version)
                return idempotency.result_of(after, events, batch.payload_hash, batch.attempt_id)
        await self.reopen(message.order_id, snapshot, queued)
        return None

    async def preview(self, order_id: str, batch: CommandBatch) -> Preview:
        """What `batch` would do to the order.

        Raises what `execute` raises, but not Rejected.
        """
        order = (await self._last_state(order_id)).snapshot.order
        if order.version == 0:
            raise UnknownOrder(order_id)
        return command_handler.preview(batch, order, datetime.now(UTC))

    async def resume(self, orphan: Orphan, seconds: float, *, from_log: bool = False) -> None:
        """Starts the workflow of an orphaned order again, unless it is running by now.

        With `from_log`, what its last run decided and did not publish is lost. Raises UnknownOrder
        if there is no last state; OrderOrphaned, UnreadableEvent and StorageUnavailable if it
        cannot be read; and TemporalUnavailable, OutcomeUnknown, TooManyCommands and RPCError.
        """

        async def attempt(_: float) -> None:
            if from_log or orphan.run_id is None:
                snapshot = (await self.logged_state(orphan.order_id)).snapshot
            else:
                snapshot = await self._orphaned_state(orphan)
            if snapshot.order.version == 0 and not snapshot.queued:
                raise UnknownOrder(orphan.order_id)
            await self.reopen(orphan.order_id, snapshot)

        await retry_until(asyncio.get_running_loop().time() + seconds, attempt)

    async def logged_result(self, message: CommandMessage) -> CommandResult | None:
        """The result of a batch by its events in the log; None without any.

        Raises StorageUnavailable and UnreadableEvent.
        """
        if not await self.is_logged(message):
            return None
        return (await self.logged_state(message.order_id)).results[message.command_id].result

    async def is_logged(self, message: CommandMessage) -> bool:
        """Whether the log has events of a batch; raises StorageUnavailable."""
        try:
            version = await log.version_of_command(self._pool, message.order_id, message.command_id)
        except UNAVAILABLE as error:
            raise StorageUnavailable from error
        return version is not None

    async def logged_state(self, order_id: str) -> LastState:
        """The state by the log; raises StorageUnavailable and UnreadableEvent."""
        try:
            async with self._pool.acquire() as connection:
                stream = await log.read_stream(connection, order_id)
                no_ops = await read_no_ops(connection, order_id, 1, len(stream))
        except UNAVAILABLE as error:
            raise StorageUnavailable from error
        order, results = idempotency.from_stream(stream, no_ops=no_ops)
        store = of_results(results)
        packed = store.packed_as_of_last()
        snapshot = Snapshot(
            made_by=fingerprint(),
            order=order,
            results=packed.chunks,
            results_dropped_until=packed.dropped_until,
            reopened=True,
        )
        return LastState(snapshot, store)

    async def _last_state(self, order_id: str) -> LastState:
        try:
            find = orphans.find_orphan(self._client, self._pool, order_id)
            orphan = await await_or_unavailable(self._client, find)
        except RPCError as error:
            raise_rpc_error(error)
            raise
        except UNAVAILABLE as error:
            raise StorageUnavailable from error
        if orphan is None or orphan.run_id is None:
            return await self.logged_state(order_id)
        snapshot = await self._orphaned_state(orphan)
        return LastState(snapshot, StoredResults(snapshot.results))

    async def _orphaned_state(self, orphan: Orphan) -> Snapshot:
        try:
            read = orphans.last_snapshot(self._client, orphan)
            return await await_or_unavailable(self._client, read)
        except orphans.UnreadableRun as error:
            logger.error("order %s is orphaned: %s", orphan.order_id, error)
            raise OrderOrphaned from error
        except RPCError as error:
            if error.status in _NO_ANSWER:
                raise Retry(OutcomeUnknown()) from error
            raise_rpc_error(error)
            raise

    async def reopen(
        self, order_id: str, snapshot: Snapshot, queued: QueuedCommands | None = None
    ) -> None:
        """Starts the order's workflow again, unless it is running already.

        It catches up first if the log has more by the time that it runs. Raises Retry,
        TemporalUnavailable, and any other RPCError.
        """
        start = WorkflowStart.of_reopening(order_id, snapshot)
        try:
            call = start.execute(self._client, self._task_queue, queued)
            await await_or_unavailable(self._client, call)
        except RPCError as error:
            raise_rpc_error(error)
