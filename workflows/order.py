"""One workflow per order: a durable shell around the pure decider.

Its history is the order's event-sourced state. The handler decides and records; all I/O happens in
three loops that never wait for one another: one publishes, one carries out what is owed, and one
keeps deadlines. So nothing is told or asked before it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter
from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError

from eventlog.envelope import Batch, Envelope, digest
from orders.order import Order
from orders.rules.deadlines import Deadline, next_deadline
from orders.rules.process import is_finished, next_steps
from orders.steps import AnyStep, DeadlinePassed, StepFailed, StepRequest, StepResult
from workflows import idempotency as memory
from workflows.activity_options import (
    AFTER_A_CONFLICT,
    AFTER_A_FAILURE,
    FOR_EVER,
    HEAD_OF_LOG,
    LOG_AFTER,
    ONE_CALL,
    ONE_TRY,
    PUBLISH_EVENTS,
    TASKS,
    UNTIL_IT_IS_A_TROUBLE,
    summary,
)
from workflows.command_handler import Rejected, decide_batch, preview, refused
from workflows.messages import (
    LOG_BEHIND,
    ORDER_TOO_LARGE,
    REOPENING,
    TASK,
    CommandBatch,
    CommandResult,
    Preview,
    QueuedCommands,
    Snapshot,
    WorkflowInput,
)
from workflows.web_ui import details

CUSTOMER = SearchAttributeKey.for_keyword("CustomerId")
STATUS = SearchAttributeKey.for_keyword("OrderStatus")

FIRST_COMMAND_PATIENCE = timedelta(minutes=10)

# A snapshot must stay under Temporal's 2 MB: these two, and the answers with their own limit.
UNPUBLISHED_BYTES_MAX = 1_250_000
ORDER_BYTES_MAX = 500_000
BATCH_BYTES_MAX = 500_000

M = TypeVar("M", bound=BaseModel)

_ORDER = TypeAdapter(Order)
_RESULT: Any = StepResult  # The converter takes a union of models, though it is no class.


class HistoryDiverged(Exception):
    """Replaying this order's history decided other events than were published.

    A rule was changed under an open order. Its task fails until the rule it began under is back;
    in production, pin orders to worker versions instead.
    """


@workflow.defn(name=TASK)
class OrderWorkflow:
    """One order, from its opening until nothing more can be owed."""

    @workflow.init  # Handlers run before run(): all state is built here.
    def __init__(self, start: WorkflowInput) -> None:
        snapshot = start.snapshot or Snapshot()
        self.order = snapshot.order
        self.unpublished = list(snapshot.unpublished)
        self.answers = memory.unpacked(snapshot.answers)
        self.refusals = memory.unpacked_rejections(snapshot.refusals)
        self.traces = dict(snapshot.traces)
        self.reopening = snapshot.reopened
        self.waiting: list[QueuedCommands] = []  # For the order to be reopened.
        self.troubles: dict[str, str] = {}  # What a person should know of, by where it comes from.
        self.unpublished_bytes = _size(self.unpublished)
        self.order_bytes_at_most = len(_ORDER.dump_json(self.order))
        self.deadline = next_deadline(self.order)
        self.under_way: dict[str, asyncio.Task[None]] = {}
        self._show()

    @workflow.run
    async def run(self, start: WorkflowInput) -> str:
        """Lives until the order is over; returns how it ended. No failed activity ends it."""
        if self.reopening or self.order.version == 0:
            beginning = asyncio.create_task(self._begin())
            await self._until(beginning.done)
            if (ended := beginning.result()) is not None:
                return ended
        loops = [
            asyncio.create_task(loop())
            for loop in (self._publish, self._fulfil, self._keep_deadlines)
        ]

        def is_due() -> bool:
            return self._ended() or any(loop.done() for loop in loops)

        await self._until(lambda: is_due() or self._history_is_long())
        if not is_due():
            # In a task of its own: together with a busy one, it would make commands wait a second.
            pause = asyncio.create_task(
                workflow.sleep(timedelta(milliseconds=1), summary="before it goes on in a new run")
            )
            await self._until(lambda: pause.done() and workflow.all_handlers_finished())
        for loop in loops:
            if loop.done():
                loop.result()  # Raises what stopped it: a bug, or HistoryDiverged.
        if self._ended():
            return f"{self.order.status} at version {self.order.version}"
        # What does not finish is not waited for: the next run publishes and asks again.
        return workflow.continue_as_new(
            WorkflowInput(snapshot=self._snapshot()),
            initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
        )

    @workflow.update(dynamic=True)
    def execute(self, name: str, args: Sequence[RawValue]) -> CommandResult:
        """Decides and records; never awaits. A repeated batch gets its first result again.

        Handles every update name: the sender names a batch by its commands, for the Web UI.
        """
        with _rejections_as_errors():
            return self._carry(_command_id(), _decoded(args, CommandBatch))

    @execute.validator
    def check(self, name: str, args: Sequence[RawValue]) -> None:
        """Rejects before anything enters history: a rejected batch leaves no trace."""
        with _rejections_as_errors():
            if _command_id() not in self.answers:
                self._decide(_command_id(), _decoded(args, CommandBatch))

    @workflow.signal(dynamic=True)
    def enqueue(self, name: str, args: Sequence[RawValue]) -> None:
        """Executes a batch asynchronously: its result or rejection can be queried later."""
        try:
            queued = _decoded(args, QueuedCommands)
        except ValueError:
            workflow.logger.error("Signal %s was ignored: it carries no command batch", name)
            return
        self._take(queued)

    def _take(self, queued: QueuedCommands) -> None:
        if self.reopening:
            self.waiting.append(queued)
            return
        try:
            self._carry(queued.command_id, queued.instruction)
        except Rejected as no:
            self._remember(no, queued)

    @workflow.query
    def outcome(self, command_id: str) -> memory.CommandStatus | None:
        """What became of an instruction; None if the order does not know it, or not any more."""
        if any(queued.command_id == command_id for queued in self.waiting):
            return memory.CommandStatus()
        return memory.outcome(command_id, self.answers, self.refusals)

    @workflow.query
    def preview(self, instruction: CommandBatch) -> Preview:
        """What an instruction would do now; a query, so it changes nothing."""
        return preview(instruction, self.order, workflow.now())

    def _carry(self, command_id: str, instruction: CommandBatch) -> CommandResult:
        """Carries out an instruction once, and answers it ever again; raises Refused."""
        if command_id in self.answers:
            return self.answers[command_id].answer
        events, order = self._decide(command_id, instruction)
        self._record(events, order, instruction.traceparent)
        answer = memory.result_of(
            self.order, events, instruction.payload_hash, instruction.attempt_id
        )
        self.answers[command_id] = memory.StoredResult(
            command_id=command_id, at=workflow.now(), answer=answer
        )
        return answer

    def _decide(self, command_id: str, instruction: CommandBatch) -> tuple[list[Envelope], Order]:
        """The events of an instruction and the order after them; changes nothing itself."""
        if self.reopening:
            raise refused(self.order, REOPENING, "the order is being reopened; try again")
        known = self.refusals.get(command_id)
        if known is not None and known.refusal.code != LOG_BEHIND:
            raise Rejected(known.refusal)
        events, order = decide_batch(instruction, self.order, command_id, workflow.now())
        self._check_room(events, order)
        return events, order

    def _remember(self, no: Rejected, queued: QueuedCommands) -> None:
        if no.refusal.payload_hash is not None:
            return  # It is one that we remember.
        told = no.refusal.model_copy(update={"payload_hash": queued.instruction.payload_hash})
        self.refusals[queued.command_id] = memory.StoredRejection(
            command_id=queued.command_id, place=queued.place, refusal=told
        )
        if len(self.refusals) > memory.REJECTIONS_MAX:
            del self.refusals[next(iter(self.refusals))]

    def _check_room(self, events: list[Envelope], order: Order) -> None:
        if self.unpublished_bytes + _size(events) > UNPUBLISHED_BYTES_MAX:
            raise refused(self.order, LOG_BEHIND, "too much of the order waits for the log")
        if self._bytes_at_most(events, order) > ORDER_BYTES_MAX:
            raise refused(self.order, ORDER_TOO_LARGE, "the order is too large to hold any more")

    def _bytes_at_most(self, events: list[Envelope], order: Order) -> int:
        """A bound on the order's size that costs nothing; where it is too high, the size itself."""
        bound = self.order_bytes_at_most + _size(events)
        return bound if bound <= ORDER_BYTES_MAX else len(_ORDER.dump_json(order))

    def _record(self, events: list[Envelope], order: Order, traceparent: str | None) -> None:
        """What was decided has happened from here on; the loops see to the rest."""
        self.order = order
        self.unpublished += events
        self.unpublished_bytes += _size(events)
        self.order_bytes_at_most = self._bytes_at_most(events, order)
        self.traces = {key: self.traces.get(key, traceparent or "") for key in order.steps}
        self.deadline = next_deadline(order)
        if workflow.info().typed_search_attributes.get(STATUS) != order.status:
            workflow.upsert_search_attributes([STATUS.value_set(order.status)])
        self._show()

    def _hear(self, result: StepResult, source: str, traceparent: str | None = None) -> None:
        """Decides on a result the way it decides on a command; none is refused."""
        instruction = CommandBatch(
            commands=[result], actor=source, payload_hash="", attempt_id="", traceparent=traceparent
        )
        command_id = f"{result.type}:{self.order.version + 1}"
        events, order = decide_batch(instruction, self.order, command_id, workflow.now())
        if events:
            self._record(events, order, traceparent)

    async def _fulfil(self) -> None:
        """Carries out what is owed, each step on its own: none waits for another."""
        while True:
            await workflow.wait_condition(
                lambda: (
                    self.order.steps.keys() != self.under_way.keys()
                    or any(task.done() for task in self.under_way.values())
                )
            )
            for task in self.under_way.values():
                if task.done():
                    task.result()  # Raises what a bug in here raised.
            # A step that is owed no more has been answered otherwise; its call may end by itself.
            self.under_way = {
                step.step_id: self.under_way.get(step.step_id)
                or asyncio.create_task(self._carry_out(step))
                for step in next_steps(self.order)
            }

    async def _carry_out(self, step: AnyStep) -> None:
        """Asks for one step until there is an answer; in trouble, at leisure or when told to."""
        task, trace = TASKS[type(step)], self.traces.get(step.step_id) or None
        request = StepRequest(
            order_id=workflow.info().workflow_id,
            customer_id=self.order.customer_id,
            currency=self.order.currency,
            step=step,
            traceparent=trace,
        )
        while step.step_id in self.order.steps:
            try:
                result: StepResult = await workflow.execute_activity(
                    task.activity,
                    request,
                    result_type=_RESULT,
                    start_to_close_timeout=ONE_CALL,
                    retry_policy=UNTIL_IT_IS_A_TROUBLE,
                    summary=summary(step, self.order.currency),
                )
                self._hear(result, task.party, trace)
                reason = f"{task.party} said {result.type}, which is no answer to it"
            except ActivityError as error:
                reason = getattr(error.cause, "message", str(error))
            if step.step_id in self.order.steps:
                self._hear(StepFailed(step_id=step.step_id, reason=reason), task.party, trace)
                with suppress(TimeoutError):
                    await workflow.wait_condition(
                        lambda: step.step_id not in self.order.stuck_steps,
                        timeout=AFTER_A_FAILURE,
                        timeout_summary=f"before {step.step_id} is tried again, or on retry-step",
                    )

    async def _keep_deadlines(self) -> None:
        """Waits for the order's next deadline; a new run goes on waiting for the same time."""
        while True:
            await workflow.wait_condition(lambda: self.deadline is not None)
            deadline = self.deadline
            if deadline is not None and await self._passes(deadline):
                self._hear(DeadlinePassed(deadline=deadline.name, at=deadline.at), "deadline")

    async def _passes(self, deadline: Deadline) -> bool:
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

    async def _publish(self) -> None:
        """Sends what was decided to the log, in order; more gathers while a batch is on its way."""
        while True:
            await workflow.wait_condition(lambda: bool(self.unpublished))
            batch = _next_batch(self.unpublished)
            first, last = batch[0].version, batch[-1].version
            versions = f"{first}" if first == last else f"{first} to {last}"
            try:
                published: str = await workflow.execute_activity(
                    PUBLISH_EVENTS,
                    Batch(order_id=workflow.info().workflow_id, events=batch),
                    result_type=str,
                    start_to_close_timeout=ONE_TRY,
                    retry_policy=FOR_EVER,
                    summary=f"{versions}: {', '.join(dict.fromkeys(e.type for e in batch))}",
                )
            except ActivityError as error:
                # All else is retried for ever: this is a conflict, which only a person can settle.
                trouble = f"version {versions} cannot be published: {error.cause}"
                self.troubles["publishing"] = trouble
                workflow.logger.error("Order %s: %s", workflow.info().workflow_id, trouble)
                self._show()
                await workflow.sleep(AFTER_A_CONFLICT, summary="before publishing is tried again")
                continue
            if published != digest(batch):
                raise HistoryDiverged(f"version {versions} was published as other events")
            del self.unpublished[: len(batch)]
            self.unpublished_bytes -= _size(batch)
            self.troubles.pop("publishing", None)
            self._show()

    async def _begin(self) -> str | None:
        """Makes sure that this workflow is wanted; returns why not, if it is not."""
        if self.reopening:
            head: int = await workflow.execute_activity(
                HEAD_OF_LOG,
                workflow.info().workflow_id,
                result_type=int,
                start_to_close_timeout=ONE_TRY,
                retry_policy=FOR_EVER,
                summary=f"may the order go on after version {self.order.version}?",
            )
            if head != self.order.version:
                await self._catch_up()
            self.reopening = False
            for queued in self.waiting:
                self._take(queued)
            self.waiting.clear()
        try:
            await workflow.wait_condition(
                lambda: bool(self.unpublished),
                timeout=FIRST_COMMAND_PATIENCE,
                timeout_summary="for the command that this was started for",
            )
        except TimeoutError:
            return "nothing was asked of it"
        return None

    async def _catch_up(self) -> None:
        """Another run went on and ended after our snapshot was made; nobody writes beside us."""
        later: Batch = await workflow.execute_activity(
            LOG_AFTER,
            args=[workflow.info().workflow_id, self.order.version],
            result_type=Batch,
            start_to_close_timeout=ONE_TRY,
            retry_policy=FOR_EVER,
            summary=f"what became of the order after version {self.order.version}?",
        )
        self.order, answers = memory.from_stream(later.events, self.order)
        self.answers |= answers
        self.order_bytes_at_most = len(_ORDER.dump_json(self.order))
        self.deadline = next_deadline(self.order)
        self._show()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Waits even if the workflow is cancelled: an order is called off by CancelOrder only."""
        while not condition():
            try:
                await workflow.wait_condition(condition)
            except asyncio.CancelledError:
                trouble = "a cancellation of the workflow was ignored; send cancel-order instead"
                self.troubles["cancellation"] = trouble
                self._show()

    def _ended(self) -> bool:
        return is_finished(self.order) and not self.unpublished

    def _history_is_long(self) -> bool:
        return workflow.info().is_continue_as_new_suggested()

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            order=self.order,
            unpublished=self.unpublished,
            answers=memory.packed(self.answers, workflow.now()),
            refusals=memory.packed_rejections(self.refusals),
            traces=self.traces,
        )

    def _show(self) -> None:
        troubles = list(self.troubles.values())
        workflow.set_current_details(details(self.order, len(self.unpublished), troubles))


@contextmanager
def _rejections_as_errors() -> Iterator[None]:
    """Lets a refusal cross the border with its code and its reasons."""
    try:
        yield
    except Rejected as no:
        refusal = no.refusal
        raise ApplicationError(
            refusal.message, refusal.model_dump(), type=refusal.code, non_retryable=True
        ) from no


def _decoded(args: Sequence[RawValue], shape: type[M]) -> M:
    """The one argument of a dynamic handler; raises ValueError if it is something else."""
    (raw,) = args
    return shape.model_validate_json(raw.payload.data)


def _command_id() -> str:
    update = workflow.current_update_info()
    assert update is not None, "only update handlers have a command id"
    return update.id


def _size(events: list[Envelope]) -> int:
    """In bytes, as a snapshot carries them."""
    return sum(len(e.model_dump_json()) for e in events)


def _next_batch(unpublished: list[Envelope]) -> list[Envelope]:
    """As many of the oldest events as one activity's input may hold, and at least one."""
    size, count = 0, 0
    for envelope in unpublished:
        size += _size([envelope])
        if count and size > BATCH_BYTES_MAX:
            break
        count += 1
    return unpublished[:count]
