"""The gateway to Temporal: delivers command batches to orders, exactly once.

A batch is executed synchronously, as a Temporal update, or queued, as a signal. Orders that have
ended have no running workflow: see `ended_orders.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import asyncpg
from opentelemetry.trace import SpanKind
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

import telemetry
from api.gateway.availability import await_or_unavailable
from api.gateway.command_message import CommandMessage
from api.gateway.command_metrics import counted
from api.gateway.ended_orders import EndedOrders
from api.gateway.journal import IntentRecorder
from api.gateway.moves import MoveRequests
from api.gateway.retries import Retry, raise_rpc_error, retry_until
from api.gateway.workflow_start import WorkflowStart
from api.limits.concurrency import AdaptiveLimit, ConcurrencyLimiter, FixedLimit
from api.problems.errors import (
    IdempotencyKeyReused,
    OutcomeUnknown,
    StorageUnavailable,
    TemporalUnavailable,
    TooManyCommands,
)
from orders.order import Order
from workflows import command_handler
from workflows.command_handler import Rejected
from workflows.messages import REOPENING, RESULT_DROPPED, CommandResult, Preview, Rejection
from workflows.order import OrderWorkflow

ENQUEUE_SECONDS = 5.0

# Without a worker, queued commands accumulate in the workflow's history, which Temporal terminates
# at 50 MB; that of an order with a worker stays below some 1,000 events or 4 MB.
HISTORY_EVENTS_MAX = 8_000
HISTORY_BYTES_MAX = 16_000_000

# The server's type for the failure of an update whose workflow ended before it responded.
_WORKFLOW_ENDED = "AcceptedUpdateCompletedWorkflow"
# Its type for an update that came with a task which a worker completed without looking at it, as
# one that stops may do. The update has not reached the order.
_UNPROCESSED = "UnprocessedUpdate"


class Gateway:
    """Delivers command batches through one Temporal client."""

    def __init__(
        self, client: Client, pool: asyncpg.Pool, task_queue: str, max_concurrent: int | None = None
    ) -> None:
        self._client = client
        self.task_queue = task_queue
        self.journal = IntentRecorder(pool)
        self.ended_orders = EndedOrders(client, pool, task_queue, self.journal)
        self._moves = MoveRequests(client, task_queue)
        # Apart, because enqueueing is faster, and the limits adapt to measured latencies.
        self._executing = _limiter(max_concurrent)
        self._enqueueing = _limiter(max_concurrent)

    async def execute(self, message: CommandMessage, wait_seconds: float) -> CommandResult:
        """The result of the batch, once it is durable.

        The same message again gets the same result, from any process and at any time. Raises
        Rejected, or a ServiceError if the result is not known in time.
        """
        with telemetry.TRACER.start_as_current_span("execute", kind=SpanKind.CLIENT):
            traced = message.traced()

            async def attempt(seconds: float) -> CommandResult | None:
                try:
                    result = await self._execute_running(traced, seconds)
                except _ResultDropped:
                    result = await self.ended_orders.logged_result(traced)
                    result = result or await self._execute_running(
                        traced.looked_up(in_log=False), seconds
                    )
                return result or await self.ended_orders.execute(traced)

            deadline = asyncio.get_running_loop().time() + wait_seconds
            with counted(message.batch) as settle, self._rejections_kept(traced):
                while (result := await retry_until(deadline, attempt)) is None:
                    pass  # The order was reopened, and is now running.
                _assert_same_payload(result, message)
                settle(result)
            return result

    async def enqueue(self, message: CommandMessage) -> CommandResult | None:
        """Makes the batch durable, which needs no worker, and returns None.

        Only an ended order may have a result at once, from the log. Raises Rejected for a new or an
        ended order, or a ServiceError if the batch could not be stored.
        """
        with telemetry.TRACER.start_as_current_span("enqueue", kind=SpanKind.PRODUCER):
            traced = message.traced()

            async def attempt(seconds: float) -> CommandResult | None:
                with self._enqueueing.slot():
                    signal = self._signal(await self._looked_up(traced), seconds)
                    if await await_or_unavailable(self._client, signal):
                        return None
                return await self.ended_orders.execute(traced, traced.queued)

            deadline = asyncio.get_running_loop().time() + ENQUEUE_SECONDS
            with counted(message.batch) as settle, self._rejections_kept(traced):
                result = await retry_until(deadline, attempt)
                if result is not None:
                    _assert_same_payload(result, message)
                settle(result)
            return result

    @contextmanager
    def _rejections_kept(self, message: CommandMessage) -> Iterator[None]:
        """Keeps a rejection in the journal; a stored one is there already."""
        try:
            yield
        except Rejected as error:
            if error.rejection.payload_hash is None:
                self.journal.add(message, error.rejection.version, error.rejection)
            raise

    async def preview(self, message: CommandMessage, wait_seconds: float) -> Preview:
        """What the batch would do to the order now, or to a new one; it changes nothing."""
        if message.creates_order:
            return command_handler.preview(message.batch, Order(), datetime.now(UTC))

        async def attempt(seconds: float) -> Preview:
            result = await self._preview_running(message, seconds)
            return result or await self.ended_orders.preview(message.order_id, message.batch)

        deadline = asyncio.get_running_loop().time() + wait_seconds
        return await retry_until(deadline, attempt)

    async def _preview_running(self, message: CommandMessage, seconds: float) -> Preview | None:
        """The preview by the running workflow; None if there is none."""
        timeout = timedelta(seconds=seconds)
        handle = self._client.get_workflow_handle(message.order_id)
        try:
            describe = handle.describe(rpc_timeout=timeout)
            description = await await_or_unavailable(self._client, describe)
            if description.status is WorkflowExecutionStatus.RUNNING:
                query = handle.query(OrderWorkflow.preview, message.batch, rpc_timeout=timeout)
                preview = await await_or_unavailable(self._client, query)
                if preview.rejection is not None and preview.rejection.code == REOPENING:
                    raise Retry(TemporalUnavailable())
                if preview.rejection is not None:
                    await self._moves.follow(message.order_id, preview.rejection)
                return preview
        except WorkflowQueryFailedError as error:
            raise TemporalUnavailable from error
        except RPCError as error:
            raise_rpc_error(error)
        return None

    async def _execute_running(
        self, message: CommandMessage, seconds: float
    ) -> CommandResult | None:
        """The result by the running workflow; None if there is none."""
        # Before the limiter: a rejected opening must not count as a fast command.
        start = self._start_operation(message) if message.creates_order else None
        try:
            with self._executing.slot():
                update = self._update(message, start, seconds)
                return await await_or_unavailable(self._client, update)
        except WorkflowUpdateFailedError as error:
            try:
                raise_update_error(error, message)
            except Rejected as rejected:
                await self._moves.follow(message.order_id, rejected.rejection)
                raise
        except WorkflowAlreadyStartedError:
            pass
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise Retry(OutcomeUnknown()) from error
        except RPCError as error:
            raise_rpc_error(error)
        return None

    def _start_operation(
        self, message: CommandMessage
    ) -> WithStartWorkflowOperation[OrderWorkflow, str]:
        return WorkflowStart.of_opening(message).operation(self.task_queue)

    async def _update(
        self,
        message: CommandMessage,
        start: WithStartWorkflowOperation[OrderWorkflow, str] | None,
        seconds: float,
    ) -> CommandResult:
        timeout, batch = timedelta(seconds=seconds), message.batch
        result: CommandResult
        if start is None:
            handle = self._client.get_workflow_handle(message.order_id)
            result = await handle.execute_update(
                batch.name,
                batch,
                id=message.command_id,
                result_type=CommandResult,
                rpc_timeout=timeout,
            )
            return result
        try:
            result = await self._client.execute_update_with_start_workflow(
                batch.name,
                batch,
                id=message.command_id,
                result_type=CommandResult,
                start_workflow_operation=start,
                rpc_timeout=timeout,
            )
        except Exception:
            # The operation has failed too: an error that is never retrieved is logged as a bug.
            with suppress(Exception):
                async with asyncio.timeout(0):
                    await start.workflow_handle()
            raise
        return result

    async def _signal(self, message: CommandMessage, seconds: float) -> bool:
        """Sends the batch to the running workflow; False if there is none."""
        try:
            await self._check_history_size(message.order_id, seconds)
            if message.creates_order:
                start = WorkflowStart.of_opening(message)
                await start.execute(self._client, self.task_queue, message.queued)
            else:
                handle = self._client.get_workflow_handle(message.order_id)
                timeout = timedelta(seconds=seconds)
                await handle.signal(message.batch.name, message.queued, rpc_timeout=timeout)
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            raise_rpc_error(error)
            return False
        return True

    async def _looked_up(self, message: CommandMessage) -> CommandMessage:
        """The message for an order that cannot look into the log itself when it gets a signal."""
        with suppress(StorageUnavailable):  # The order rejects it if it has to know.
            return message.looked_up(await self.ended_orders.is_logged(message))
        return message

    async def _check_history_size(self, order_id: str, seconds: float) -> None:
        """Raises TooManyCommands if the history is so large that Temporal might terminate it."""
        handle = self._client.get_workflow_handle(order_id)
        try:
            workflow = await handle.describe(rpc_timeout=timedelta(seconds=seconds))
        except RPCError as error:
            raise_rpc_error(error)
            return
        size = workflow.raw_description.workflow_execution_info.history_size_bytes
        if workflow.history_length > HISTORY_EVENTS_MAX or size > HISTORY_BYTES_MAX:
            raise TooManyCommands


class _ResultDropped(Exception):
    """The order may have executed the batch, and dropped the result: the log knows."""


def _limiter(max_concurrent: int | None) -> ConcurrencyLimiter:
    """A limiter with a fixed limit, by default with an adaptive one."""
    return ConcurrencyLimiter(FixedLimit(max_concurrent) if max_concurrent else AdaptiveLimit())


def _assert_same_payload(result: CommandResult, message: CommandMessage) -> None:
    if result.payload_hash != message.batch.payload_hash:
        raise IdempotencyKeyReused


def raise_update_error(error: WorkflowUpdateFailedError, message: CommandMessage) -> None:
    """Raises what a failed update means; returns if the workflow has ended meanwhile."""
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        raise error
    if cause.type == _WORKFLOW_ENDED:
        return
    if cause.type == _UNPROCESSED:
        raise Retry(TemporalUnavailable()) from error
    if not cause.details:
        raise error  # No rejection: each of those has details.
    rejection = Rejection.model_validate(cause.details[0])
    if rejection.code == RESULT_DROPPED:
        raise _ResultDropped from error
    if rejection.code == REOPENING:
        raise Retry(OutcomeUnknown()) from error
    if rejection.payload_hash not in (None, message.batch.payload_hash):
        raise IdempotencyKeyReused from error  # It is the stored rejection of another request.
    raise Rejected(rejection) from error
