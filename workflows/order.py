"""One workflow per order: a durable shell around the pure decider.

Its history is the order's event-sourced state. Handlers decide and record; all I/O happens in three
loops that do not wait for one another: one publishes events, one runs steps, one waits for
deadlines. So a service is called only about what is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel
from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.exceptions import ApplicationError

from eventlog.envelope import Batch, Envelope
from orders.order import Order
from orders.rules.deadlines import Deadline, next_deadline
from orders.rules.process import is_finished
from orders.steps import DeadlinePassed, StepResult
from workflows import capacity, idempotency
from workflows.activity_options import HEAD_OF_LOG, LOG_AFTER, LOG_RETRY, LOG_TIMEOUT
from workflows.command_handler import Rejected, decide_batch, preview, rejected_by
from workflows.idempotency import CommandStatus, StoredRejection, StoredResult
from workflows.messages import (
    LOG_CONFLICT,
    REOPENING,
    RESULT_DROPPED,
    RETRYABLE,
    WORKFLOW_TYPE,
    CommandBatch,
    CommandResult,
    Preview,
    QueuedCommands,
    Rejection,
    Snapshot,
    WorkflowInput,
)
from workflows.publisher import Publisher, bytes_of
from workflows.step_runner import StepRunner
from workflows.web_ui import details

CUSTOMER = SearchAttributeKey.for_keyword("CustomerId")
STATUS = SearchAttributeKey.for_keyword("OrderStatus")
UNPUBLISHED_SINCE = SearchAttributeKey.for_datetime("UnpublishedSince")
SEARCH_ATTRIBUTES = (CUSTOMER, STATUS, UNPUBLISHED_SINCE)

FIRST_COMMAND_PATIENCE = timedelta(minutes=10)

M = TypeVar("M", bound=BaseModel)
Decided = tuple[list[Envelope], Order]
"""The events of a command batch, and the order after them."""


@workflow.defn(name=WORKFLOW_TYPE)
class OrderWorkflow:
    """One order, from its opening until it has ended and no step is left."""

    @workflow.init  # Handlers run before run(): all state is built here.
    def __init__(self, start: WorkflowInput) -> None:
        snapshot = start.snapshot or Snapshot()
        self.order = snapshot.order
        self.publisher = Publisher(snapshot.unpublished, self._after_publishing)
        self.results = idempotency.unpack_results(snapshot.results)
        self.results_dropped_until = snapshot.results_dropped_until
        self.rejections = idempotency.unpack_rejections(snapshot.rejections)
        self.traces = dict(snapshot.traces)
        self.reopening = snapshot.reopened
        self.queued = list(snapshot.queued)  # Until the order is reopened.
        self.cancellation_ignored = snapshot.cancellation_ignored
        self.history_is_long = False
        self.checked: tuple[str, Order, Decided] | None = None
        self.order_bytes_max = capacity.size_of(self.order)
        self.deadline = next_deadline(self.order)

    @workflow.run
    async def run(self, start: WorkflowInput) -> str:
        """Runs until the order has finished; returns how it ended. No failed activity ends it."""
        if self.reopening or self.order.version == 0:
            starting = asyncio.create_task(self._start())
            await self._wait_until(starting.done)
            if (ended := starting.result()) is not None:
                return ended
        loops = [
            asyncio.create_task(loop())
            for loop in (self.publisher.run, StepRunner(self).run, self._watch_deadlines)
        ]

        def is_due() -> bool:
            return self._has_finished() or any(loop.done() for loop in loops)

        await self._wait_until(lambda: is_due() or self.history_is_long)
        if not is_due():
            # In a task of its own: together with a busy one, it would make commands wait a second.
            pause = asyncio.create_task(
                workflow.sleep(timedelta(milliseconds=1), summary="before continuing as new")
            )
            await self._wait_until(lambda: pause.done() and workflow.all_handlers_finished())
        for loop in loops:
            if loop.done():
                loop.result()  # Raises what stopped it: a bug, or HistoryDiverged.
        if self._has_finished():
            return f"{self.order.status} at version {self.order.version}"
        # Activities under way are abandoned: the next run publishes and calls again.
        return workflow.continue_as_new(
            WorkflowInput(snapshot=self.snapshot()),
            initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
        )

    @workflow.update(dynamic=True)
    def execute(self, name: str, args: Sequence[RawValue]) -> CommandResult:
        """Decides and records; never awaits. A repeated batch gets its first result again.

        Handles every update name: the sender names a batch by its commands, for the Web UI.
        """
        self._check_history_size()
        with _rejections_as_errors():
            return self._execute(_command_id(), _decoded(args, CommandBatch))

    @execute.validator
    def check(self, name: str, args: Sequence[RawValue]) -> None:
        """Rejects before anything enters history: a rejected batch leaves no trace."""
        with _rejections_as_errors():
            command_id = _command_id()
            if command_id not in self.results:
                decision = self._decide(command_id, _decoded(args, CommandBatch))
                self.checked = command_id, self.order, decision

    @workflow.signal(dynamic=True)
    def enqueue(self, name: str, args: Sequence[RawValue]) -> None:
        """Executes a batch asynchronously: its result or rejection can be queried later."""
        self._check_history_size()
        try:
            queued = _decoded(args, QueuedCommands)
        except ValueError:
            workflow.logger.error("Signal %s was ignored: it carries no command batch", name)
            return
        if self.reopening:
            self.queued.append(queued)
        else:
            self._execute_queued(queued)

    @workflow.query
    def command_status(self, command_id: str) -> CommandStatus | None:
        """The status of a command batch; None if the order does not know it, or not any more."""
        if any(queued.command_id == command_id for queued in self.queued):
            return CommandStatus()
        return idempotency.status_of(command_id, self.results, self.rejections)

    @workflow.query
    def preview(self, batch: CommandBatch) -> Preview:
        """What a batch would do now; a query, so it changes nothing."""
        return preview(batch, self.order, workflow.now())

    @workflow.query
    def snapshot(self) -> Snapshot:
        """The state to continue with; queried of a run that was ended from outside."""
        results = idempotency.pack_results(self.results, workflow.now())
        return Snapshot(
            order=self.order,
            unpublished=self.publisher.unpublished,
            results=results.text,
            results_dropped_until=results.dropped_until or self.results_dropped_until,
            rejections=idempotency.pack_rejections(self.rejections),
            traces=self.traces,
            queued=self.queued,
            cancellation_ignored=self.cancellation_ignored,
        )

    def details(self) -> str:
        """What the Temporal Web UI shows of the order as it is now."""
        alerts = [self.publisher.alert] if self.publisher.alert else []
        return details(
            self.order,
            unpublished=len(self.publisher.unpublished),
            alerts=alerts,
            cancellation_ignored=self.cancellation_ignored,
        )

    def _execute(self, command_id: str, batch: CommandBatch) -> CommandResult:
        """Executes a batch once; a repeated one gets the stored result. Raises Rejected."""
        if command_id in self.results:
            return self.results[command_id].result
        events, order = self._checked(command_id) or self._decide(command_id, batch)
        self._record(events, order, batch.traceparent)
        result = idempotency.result_of(self.order, events, batch.payload_hash, batch.attempt_id)
        self.results[command_id] = StoredResult(
            command_id=command_id, at=workflow.now(), result=result
        )
        return result

    def _checked(self, command_id: str) -> Decided | None:
        """What the validator decided on a batch a moment ago; a replay runs no validator."""
        checked, self.checked = self.checked, None
        if checked is None or checked[0] != command_id or checked[1] is not self.order:
            return None
        return checked[2]

    def _execute_queued(self, queued: QueuedCommands) -> None:
        if queued.batch.in_log and queued.command_id not in self.results:
            return  # It was executed, and its result was dropped: the log has it.
        try:
            self._execute(queued.command_id, queued.batch)
        except Rejected as error:
            self._store_rejection(error.rejection, queued)

    def _store_rejection(self, rejection: Rejection, queued: QueuedCommands) -> None:
        if rejection.payload_hash is not None:
            return  # It is a stored one.
        stored = rejection.model_copy(update={"payload_hash": queued.batch.payload_hash})
        self.rejections[queued.command_id] = StoredRejection(
            command_id=queued.command_id, pointer=queued.pointer, rejection=stored
        )
        if len(self.rejections) > idempotency.REJECTIONS_MAX:
            del self.rejections[next(iter(self.rejections))]

    def _decide(self, command_id: str, batch: CommandBatch) -> Decided:
        """The events of a batch and the order after them; changes nothing itself."""
        if self.reopening:
            raise rejected_by(self.order, REOPENING, "the order is being reopened; try again")
        known = self.rejections.get(command_id)
        if known is not None and known.rejection.code not in RETRYABLE:
            raise Rejected(known.rejection)
        if batch.in_log is not False and self._may_have_dropped_results():
            raise rejected_by(self.order, RESULT_DROPPED, "only the log may know this key")
        if self.publisher.alert is not None:
            raise rejected_by(self.order, LOG_CONFLICT, self.publisher.alert)
        events, order = decide_batch(batch, self.order, command_id, workflow.now())
        self._check_capacity(batch, events, order)
        return events, order

    def _may_have_dropped_results(self) -> bool:
        until = self.results_dropped_until
        return until is not None and workflow.now() < until

    def _check_capacity(self, batch: CommandBatch, events: list[Envelope], order: Order) -> None:
        """Rejects what no snapshot could hold. What settles an order has room of its own."""
        size, unpublished = self._bytes_max(events, order), self.publisher.bytes_with(events)
        full = capacity.shortage(batch, order, size, unpublished)
        if full is not None:
            raise rejected_by(self.order, *full)

    def _bytes_max(self, events: list[Envelope], order: Order) -> int:
        """An upper bound of the order's size that is cheap; where it is too high, the size."""
        bound = self.order_bytes_max + bytes_of(events)
        is_low = bound <= capacity.GOODS_BYTES_MAX
        return bound if is_low else capacity.size_of(order)

    def _record(self, events: list[Envelope], order: Order, traceparent: str | None) -> None:
        """Makes a decision the state of the order; the loops act on it."""
        self.order_bytes_max = self._bytes_max(events, order)
        self.order = order
        self.publisher.add(events)
        self.traces = {key: self.traces.get(key, traceparent or "") for key in order.steps}
        self.deadline = next_deadline(order)
        if workflow.info().typed_search_attributes.get(STATUS) != order.status:
            workflow.upsert_search_attributes([STATUS.value_set(order.status)])

    def apply_result(self, result: StepResult, source: str, traceparent: str | None = None) -> None:
        """Decides on a result as on a command; none is rejected."""
        self._check_history_size()
        batch = CommandBatch(
            commands=[result], actor=source, payload_hash="", attempt_id="", traceparent=traceparent
        )
        command_id = f"{result.type}:{self.order.version + 1}"
        events, order = decide_batch(batch, self.order, command_id, workflow.now())
        if events:
            self._record(events, order, traceparent)

    async def _watch_deadlines(self) -> None:
        """Waits for the order's next deadline; a new run continues to wait for the same time."""
        while True:
            await workflow.wait_condition(lambda: self.deadline is not None)
            deadline = self.deadline
            if deadline is not None and await self._deadline_reached(deadline):
                passed = DeadlinePassed(deadline=deadline.name, at=deadline.at)
                self.apply_result(passed, "deadline")

    async def _deadline_reached(self, deadline: Deadline) -> bool:
        """Whether the deadline passes; it may also be lifted or replaced by another."""
        left = max(deadline.at - workflow.now(), timedelta()) + timedelta(milliseconds=1)
        try:
            await workflow.wait_condition(
                lambda: self.deadline != deadline,
                timeout=left,
                timeout_summary=f"deadline: {deadline.name}",
            )
        except TimeoutError:
            return True
        return False

    async def _start(self) -> str | None:
        """Waits until the order is open; returns why it is not to be run, or None."""
        if self.reopening:
            head: int = await workflow.execute_activity(
                HEAD_OF_LOG,
                workflow.info().workflow_id,
                result_type=int,
                start_to_close_timeout=LOG_TIMEOUT,
                retry_policy=LOG_RETRY,
                summary=f"has the log events after version {self.order.version}?",
            )
            if head > self.order.version:
                await self._catch_up()
            self.reopening = False
            for queued in self.queued:
                self._execute_queued(queued)
            self.queued.clear()
        try:
            await workflow.wait_condition(
                lambda: self.order.version > 0 and not self._has_finished(),
                timeout=FIRST_COMMAND_PATIENCE,
                timeout_summary="for the command that started the workflow",
            )
        except TimeoutError:
            return "no command came"
        return None

    async def _catch_up(self) -> None:
        """Applies what another run published after our snapshot; that run has ended."""
        later: Batch = await workflow.execute_activity(
            LOG_AFTER,
            args=[workflow.info().workflow_id, self.order.version],
            result_type=Batch,
            start_to_close_timeout=LOG_TIMEOUT,
            retry_policy=LOG_RETRY,
            summary=f"the events after version {self.order.version}",
        )
        self.order, results = idempotency.from_stream(later.events, self.order)
        self.results |= results
        self.order_bytes_max = capacity.size_of(self.order)
        self.deadline = next_deadline(self.order)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits even if the workflow is cancelled: only CancelOrder cancels an order."""
        while not condition():
            try:
                await workflow.wait_condition(condition)
            except asyncio.CancelledError:
                self.cancellation_ignored = True

    def _has_finished(self) -> bool:
        return is_finished(self.order) and not self.publisher.unpublished

    def _after_publishing(self) -> None:
        self._check_history_size()
        since, key = self.publisher.failing_since, UNPUBLISHED_SINCE
        is_known = workflow.info().typed_search_attributes.get(key) is not None
        if is_known != (since is not None):
            update = key.value_unset() if since is None else key.value_set(since)
            workflow.upsert_search_attributes([update])

    def _check_history_size(self) -> None:
        """Notes whether to continue as new; called only for what history records.

        Temporal's suggestion is a value of the activation. One that brings only a rejected update
        leaves nothing in history, so a condition on it would not be let through on replay.
        """
        self.history_is_long |= workflow.info().is_continue_as_new_suggested()


@contextmanager
def _rejections_as_errors() -> Iterator[None]:
    """Reports a rejection to the client with its code and details."""
    try:
        yield
    except Rejected as error:
        rejection = error.rejection
        raise ApplicationError(
            rejection.message, rejection.model_dump(), type=rejection.code, non_retryable=True
        ) from error


def _decoded(args: Sequence[RawValue], shape: type[M]) -> M:
    """The one argument of a dynamic handler; raises ValueError if it is something else."""
    (raw,) = args
    return shape.model_validate_json(raw.payload.data)


def _command_id() -> str:
    update = workflow.current_update_info()
    assert update is not None, "only update handlers have a command id"
    return update.id
