"""The one way to Temporal: takes a batch to its order, open or ended, exactly once.

Who sends waits for the answer; who posts waits only until the batch cannot be lost any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import asyncpg
from opentelemetry import trace
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

import telemetry
from api.gateway.availability import answered
from api.limits.concurrency import ConcurrencyLimiter
from api.problems.errors import (
    IdempotencyKeyReused,
    OutcomeUnknown,
    ServiceError,
    StorageUnavailable,
    TemporalUnavailable,
    TooManyCommands,
    UnknownOrder,
)
from eventlog import log
from eventlog.envelope import Envelope
from eventlog.postgres import UNAVAILABLE
from orders.order import Order
from workflows import idempotency
from workflows.command_handler import Rejected, decide_batch, preview
from workflows.messages import (
    REOPENING,
    CommandBatch,
    CommandResult,
    Preview,
    QueuedCommands,
    Rejection,
    Snapshot,
    WorkflowInput,
)
from workflows.order import CUSTOMER, STATUS, OrderWorkflow
from workflows.web_ui import summary

T = TypeVar("T")

PAUSE_SECONDS = 0.05
POST_SECONDS = 5.0

# What no worker takes gathers in the order's history, which Temporal ends by force at 50 MB; that
# of an order which is looked after stays near 4,096 events or 4 MB.
HISTORY_EVENTS_MAX = 8_000
HISTORY_BYTES_MAX = 16_000_000

# Continue-as-new is under way; or the connection was just renewed or cut, or the time is up, which
# the client calls CANCELLED, or UNKNOWN once it has tried in vain a few times.
_SOON = (
    *(RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.ABORTED),
    *(RPCStatusCode.CANCELLED, RPCStatusCode.UNKNOWN),
)
_AWAY = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED)

# The server's name for an update whose workflow ended before it was answered.
_ENDED_MEANWHILE = "AcceptedUpdateCompletedWorkflow"


@dataclass(frozen=True)
class CommandMessage:
    """A batch, addressed: the order it goes to and the id under which it counts once."""

    order_id: str
    command_id: str
    batch: CommandBatch
    opens: bool = False
    """Whether the order may begin with it."""
    pointer: str = "#"
    """JSON pointer to command number {} in the caller's request."""

    @property
    def queued(self) -> QueuedCommands:
        return QueuedCommands(command_id=self.command_id, batch=self.batch, pointer=self.pointer)


class _NotNow(Exception):
    """Worth a retry in a moment; `error` is raised if the time is up before that."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error)
        self.error = error


class Gateway:
    """Sends instructions through one client; reads the log for orders that have ended."""

    def __init__(
        self, client: Client, pool: asyncpg.Pool, task_queue: str, at_once: int | None = None
    ) -> None:
        self._client = client
        self._pool = pool
        self._task_queue = task_queue
        self._places = ConcurrencyLimiter(at_once)
        self._places_to_post = ConcurrencyLimiter(
            at_once
        )  # Leaving goes faster than being answered.

    async def send(self, mail: CommandMessage, wait_seconds: float) -> CommandResult:
        """The order's answer, once it is durable.

        The same mail again gets the same answer, whoever sends it and whatever happened between.
        Raises Refused if the order says no, and a Problem if nobody can say in time.
        """
        with telemetry.TRACER.start_as_current_span("send", kind=trace.SpanKind.CLIENT):
            mail = _traced(mail)
            deadline = asyncio.get_running_loop().time() + wait_seconds

            async def ask(left: float) -> CommandResult | None:
                return await self._ask(mail, left) or await self._ask_ended(mail)

            while (answer := await _persistently(ask, deadline)) is None:
                pass  # It had to be reopened, and answers now as any open order.
            return _checked(answer, mail)

    async def post(self, mail: CommandMessage) -> CommandResult | None:
        """Leaves a batch with its order for good, even if there is no worker; returns None.

        Only an order that has ended may answer at once, by what the log has. Raises Refused if an
        ended or a new order says no, and a Problem if the batch could not be left.
        """
        with telemetry.TRACER.start_as_current_span("post", kind=trace.SpanKind.PRODUCER):
            mail = _traced(mail)
            deadline = asyncio.get_running_loop().time() + POST_SECONDS

            async def leave(left: float) -> CommandResult | None:
                with self._places_to_post.place():
                    if await answered(self._client, self._leave(mail, left)):
                        return None
                return await self._ask_ended(mail, mail.queued)

            answer = await _persistently(leave, deadline)
            return _checked(answer, mail) if answer is not None else None

    async def preview(self, mail: CommandMessage, wait_seconds: float) -> Preview:
        """What a batch would do to its order now; nothing of it happens."""
        deadline = asyncio.get_running_loop().time() + wait_seconds
        return await _persistently(lambda left: self._preview(mail, left), deadline)

    async def _preview(self, mail: CommandMessage, seconds: float) -> Preview:
        timeout = timedelta(seconds=seconds)
        handle = self._client.get_workflow_handle_for(OrderWorkflow.run, mail.order_id)
        try:
            description = await answered(self._client, handle.describe(rpc_timeout=timeout))
            if description.status is WorkflowExecutionStatus.RUNNING:
                asking = handle.query(OrderWorkflow.preview, mail.batch, rpc_timeout=timeout)
                return await answered(self._client, asking)
        except WorkflowQueryFailedError as error:
            raise TemporalUnavailable() from error
        except RPCError as error:
            _unless_unreachable(error)
        stream = await self._stream(mail.order_id)
        if not stream:
            raise UnknownOrder(mail.order_id)
        return preview(mail.batch, idempotency.from_stream(stream)[0], datetime.now(UTC))

    async def _ask(self, mail: CommandMessage, seconds: float) -> CommandResult | None:
        """The answer of the order's workflow; None if none is running."""
        # Before there is a place: what is refused here must not be taken for a fast command.
        opening = self._opening(mail) if mail.opens else None
        try:
            with self._places.place():
                return await answered(self._client, self._asking(mail, opening, seconds))
        except WorkflowUpdateFailedError as error:
            _unless_refused(error, mail)
        except WorkflowAlreadyStartedError:
            pass
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            raise _NotNow(OutcomeUnknown()) from error
        except RPCError as error:
            _unless_unreachable(error)
        return None

    async def _asking(
        self,
        mail: CommandMessage,
        opening: WithStartWorkflowOperation[OrderWorkflow, str] | None,
        seconds: float,
    ) -> CommandResult:
        timeout, batch = timedelta(seconds=seconds), mail.batch
        answer: CommandResult
        if opening is None:
            handle = self._client.get_workflow_handle_for(OrderWorkflow.run, mail.order_id)
            answer = await handle.execute_update(
                batch.name,
                batch,
                id=mail.command_id,
                result_type=CommandResult,
                rpc_timeout=timeout,
            )
            return answer
        try:
            answer = await self._client.execute_update_with_start_workflow(
                batch.name,
                batch,
                id=mail.command_id,
                result_type=CommandResult,
                start_workflow_operation=opening,
                rpc_timeout=timeout,
            )
        except Exception:
            # It has failed in two places. Where nobody looks, it would be logged as a bug.
            with suppress(Exception):
                async with asyncio.timeout(0):
                    await opening.workflow_handle()
            raise
        return answer

    async def _leave(self, mail: CommandMessage, seconds: float) -> bool:
        """Whether the order's workflow has the batch now; not if none is running."""
        timeout = timedelta(seconds=seconds)
        try:
            await self._check_room(mail.order_id, seconds)
            if mail.opens:
                reuse, after = WorkflowIDReusePolicy.REJECT_DUPLICATE, _opened(mail)
                start = WorkflowInput.of_opening(mail.batch)
                await self._start(mail.order_id, start, reuse, after, mail.queued)
            else:
                handle = self._client.get_workflow_handle(mail.order_id)
                await handle.signal(mail.batch.name, mail.queued, rpc_timeout=timeout)
        except WorkflowAlreadyStartedError:
            return False
        except RPCError as error:
            _unless_unreachable(error)
            return False
        return True

    async def _check_room(self, order_id: str, seconds: float) -> None:
        """Raises too-busy if so much waits for a worker that Temporal might end the order."""
        handle = self._client.get_workflow_handle(order_id)
        try:
            running = await handle.describe(rpc_timeout=timedelta(seconds=seconds))
        except RPCError as error:
            _unless_unreachable(error)
            return
        size = running.raw_description.workflow_execution_info.history_size_bytes
        if running.history_length > HISTORY_EVENTS_MAX or size > HISTORY_BYTES_MAX:
            raise TooManyCommands()

    async def _ask_ended(
        self, mail: CommandMessage, queued: QueuedCommands | None = None
    ) -> CommandResult | None:
        """The answer of an order that has ended, from the log; None if it had to be reopened.

        Asked again, the reopened order answers as any open one. What is posted it has already.
        """
        stream = await self._stream(mail.order_id)
        if not stream and not mail.opens:
            raise UnknownOrder(mail.order_id)
        order, results = idempotency.from_stream(stream)
        if mail.command_id in results:
            return results[mail.command_id].result
        now = datetime.now(UTC)
        events, after = decide_batch(mail.batch, order, mail.command_id, now)
        if not events:
            told = mail.batch
            return idempotency.result_of(after, events, told.payload_hash, told.attempt_id)
        await self._reopen(mail.order_id, order, idempotency.pack_results(results, now), queued)
        return None

    async def _stream(self, order_id: str) -> list[Envelope]:
        """All events of an order that are published."""
        try:
            async with self._pool.acquire() as connection:
                return await log.read_stream(connection, order_id)
        except UNAVAILABLE as error:
            raise StorageUnavailable() from error

    async def _reopen(
        self, order_id: str, order: Order, results: str, queued: QueuedCommands | None = None
    ) -> None:
        """Starts the order again where the log has it; of two who do, one finds it done."""
        start = WorkflowInput(snapshot=Snapshot(order=order, results=results, reopened=True))
        reuse = WorkflowIDReusePolicy.ALLOW_DUPLICATE
        try:
            starting = self._start(order_id, start, reuse, order, queued)
            await answered(self._client, starting)
        except RPCError as error:
            _unless_unreachable(error)

    async def _start(
        self,
        order_id: str,
        start: WorkflowInput,
        reuse: WorkflowIDReusePolicy,
        shown: Order,
        queued: QueuedCommands | None,
    ) -> None:
        """Starts the workflow, if it does not run, and leaves with it in one step what is posted.

        `shown` is what the Web UI lists it as.
        """
        await self._client.start_workflow(
            OrderWorkflow.run,
            start,
            id=order_id,
            task_queue=self._task_queue,
            id_reuse_policy=reuse,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=summary(shown),
            search_attributes=_search_attributes(shown),
            start_signal=queued.batch.name if queued else None,
            start_signal_args=[queued] if queued else [],
        )

    def _opening(self, mail: CommandMessage) -> WithStartWorkflowOperation[OrderWorkflow, str]:
        """Starts the workflow; raises Refused, and starts none, if the order would refuse."""
        after = _opened(mail)
        return WithStartWorkflowOperation(
            OrderWorkflow.run,
            WorkflowInput.of_opening(mail.batch),
            id=mail.order_id,
            task_queue=self._task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=summary(after),
            search_attributes=_search_attributes(after),
        )


async def _persistently(attempt: Callable[[float], Awaitable[T]], deadline: float) -> T:
    """What an attempt with so many seconds left comes to; made again while it is too soon."""
    now = asyncio.get_running_loop().time
    while True:
        try:
            return await attempt(max(deadline - now(), 0.001))
        except _NotNow as busy:
            if deadline - now() < PAUSE_SECONDS:
                raise busy.error from busy
            await asyncio.sleep(PAUSE_SECONDS)


def _opened(mail: CommandMessage) -> Order:
    """What the order becomes by its opening; raises Refused if it would refuse."""
    now = datetime.now(UTC)
    return decide_batch(mail.batch, Order(), mail.command_id, now)[1]


def _checked(answer: CommandResult, mail: CommandMessage) -> CommandResult:
    if answer.payload_hash != mail.batch.payload_hash:
        raise IdempotencyKeyReused()
    return answer


def _unless_refused(error: WorkflowUpdateFailedError, mail: CommandMessage) -> None:
    """Returns if the order has ended meanwhile; raises what else an update's failure means."""
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        raise error
    if cause.type == _ENDED_MEANWHILE:
        return
    if not cause.details:
        raise error  # Not a refusal, whatever it looks like: those bring their reasons along.
    refusal = Rejection.model_validate(cause.details[0])
    if refusal.code == REOPENING:
        raise _NotNow(OutcomeUnknown()) from error
    if refusal.payload_hash not in (None, mail.batch.payload_hash):
        raise IdempotencyKeyReused() from error  # It is remembered of another request.
    raise Rejected(refusal) from error


def _unless_unreachable(error: RPCError) -> None:
    """Returns if no workflow of the order is running; raises what else a call's failure means."""
    if error.status is RPCStatusCode.NOT_FOUND:
        return
    if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
        raise _NotNow(TooManyCommands()) from error
    if error.status in _SOON:
        raise _NotNow(TemporalUnavailable()) from error
    if error.status in _AWAY:
        raise TemporalUnavailable() from error
    raise error


def _search_attributes(order: Order) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(CUSTOMER, order.customer_id),
            SearchAttributePair(STATUS, str(order.status)),
        ]
    )


def _traced(mail: CommandMessage) -> CommandMessage:
    """The mail with the current span, if there is one, as what its order's spans belong under."""
    carried = telemetry.traceparent(mail.batch.traceparent)
    return replace(mail, batch=mail.batch.model_copy(update={"traceparent": carried}))
