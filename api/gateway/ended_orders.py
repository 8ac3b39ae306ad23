"""Commands to orders that have ended: their workflows are closed, and the log has all their events.

The order is folded from the log. A command that changes nothing, or that was executed before, gets
its result from there; for any other the workflow is started again.
"""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
from temporalio.client import Client
from temporalio.service import RPCError

from api.gateway.availability import await_or_unavailable
from api.gateway.command_message import CommandMessage
from api.gateway.retries import raise_rpc_error
from api.gateway.workflow_start import WorkflowStart
from api.problems.errors import StorageUnavailable, UnknownOrder
from eventlog import log
from eventlog.envelope import Envelope
from eventlog.postgres import UNAVAILABLE
from orders.order import Order
from workflows import command_handler, idempotency
from workflows.messages import CommandBatch, CommandResult, Preview, QueuedCommands


class EndedOrders:
    """Decides on commands to ended orders by the log, and reopens the orders that accept one."""

    def __init__(self, client: Client, pool: asyncpg.Pool, task_queue: str) -> None:
        self._client = client
        self._pool = pool
        self._task_queue = task_queue

    async def execute(
        self, message: CommandMessage, queued: QueuedCommands | None = None
    ) -> CommandResult | None:
        """The result according to the log; None if the order had to be reopened.

        A reopened order executes the message as any running one does; it receives `queued` with its
        start. Raises Rejected and UnknownOrder.
        """
        stream = await self._stream(message.order_id)
        if not stream and not message.creates_order:
            raise UnknownOrder(message.order_id)
        order, results = idempotency.from_stream(stream)
        if message.command_id in results:
            return results[message.command_id].result
        now, batch = datetime.now(UTC), message.batch
        events, after = command_handler.decide_batch(batch, order, message.command_id, now)
        if not events:
            return idempotency.result_of(after, events, batch.payload_hash, batch.attempt_id)
        packed = idempotency.pack_results(results, now)
        await self.reopen(message.order_id, order, packed, queued)
        return None

    async def preview(self, order_id: str, batch: CommandBatch) -> Preview:
        """What `batch` would do to the order; raises UnknownOrder."""
        stream = await self._stream(order_id)
        if not stream:
            raise UnknownOrder(order_id)
        order, _ = idempotency.from_stream(stream)
        return command_handler.preview(batch, order, datetime.now(UTC))

    async def reopen(
        self, order_id: str, order: Order, results: str, queued: QueuedCommands | None = None
    ) -> None:
        """Starts the order's workflow again, unless it is running already.

        `order` and the packed `results` are those of the log. If the log has more by the time the
        workflow runs, it ends without a trace.
        """
        start = WorkflowStart.of_reopening(order_id, order, results)
        try:
            call = start.execute(self._client, self._task_queue, queued)
            await await_or_unavailable(self._client, call)
        except RPCError as error:
            raise_rpc_error(error)

    async def _stream(self, order_id: str) -> list[Envelope]:
        """All published events of an order."""
        try:
            async with self._pool.acquire() as connection:
                return await log.read_stream(connection, order_id)
        except UNAVAILABLE as error:
            raise StorageUnavailable from error
