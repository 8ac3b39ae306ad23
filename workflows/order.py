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

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from temporalio import workflow
from temporalio.common import RawValue, SearchAttributeKey
from temporalio.exceptions import ApplicationError

from eventlog.envelope import bytes_of
from eventlog.intents import no_ops_of
from orders.order import Order
from orders.rules.deadlines import next_deadline
from orders.rules.process import is_finished
from orders.steps import StepResult
from workflows import capacity, idempotency
from workflows.command_handler import (
    PREVIEW_ID,
    Decided,
    Rejected,
    decide_batch,
    ineffective,
    preview_of,
    rejected_by,
)
from workflows.command_queue import CommandQueue
from workflows.continuation import Continuation, EarlierRun
from workflows.deadline_watch import DeadlineWatch
from workflows.idempotency import CommandStatus, StoredRejection
from workflows.log_reader import LogReader
from workflows.messages import (
    EVENT_UNREADABLE,
    LOG_CONFLICT,
    MOVE,
    NOT_KNOWN_YET,
    REOPENING,
    RESULT_DROPPED,
    RETRYABLE,
    WORKFLOW_TYPE,
    CommandBatch,
    CommandResult,
    Preview,
    QueuedCommands,
    Rejection,
)
from workflows.publisher import Publisher
from workflows.snapshot import (
    Snapshot,
    SnapshotLost,
    State,
    WorkflowInput,
    differences,
    digest,
    fingerprint,
)
from workflows.step_runner import StepRunner
from workflows.stored_results import StoredResult, merged
from workflows.unreadable import can_read
from workflows.web_ui import details, origin

CUSTOMER = SearchAttributeKey.for_keyword("CustomerId")
STATUS = SearchAttributeKey.for_keyword("OrderStatus")
UNPUBLISHED_SINCE = SearchAttributeKey.for_datetime("UnpublishedSince")
SEARCH_ATTRIBUTES = (CUSTOMER, STATUS, UNPUBLISHED_SINCE)

BOUNDS_REJECTIONS = "rejections that wait for the journal are bounded"
BOUNDS_WAITING = "commands that wait for an order to be reopened are bounded"
KEEPS_NO_OPS = "results of no-ops that the journal does not have yet"
FIRST_COMMAND_TIMEOUT = timedelta(minutes=10)

M = TypeVar("M", bound=BaseModel)


@workflow.defn(name=WORKFLOW_TYPE)
class OrderWorkflow:
    """One order, from its opening until it has ended and no step is left."""

    @workflow.init  # Handlers run before run(): all state is built here.
    def __init__(self, start: WorkflowInput) -> None:
        snapshot = start.snapshot or Snapshot()
        self.order = snapshot.order
        self.publisher = Publisher(
            snapshot.unpublished,
            snapshot.ineffective,
            flushes=start.flushes_intents,
            has_ended=lambda: is_finished(self.order),
            after_attempt=self._after_publishing,
        )
        self.results = snapshot.stored_results()
        self.results_dropped_until = snapshot.results_dropped_until
        self.rejections = snapshot.stored_rejections()
        self.traces = dict(snapshot.traces)
        self.reopening = snapshot.reopened
        self.queue = CommandQueue(snapshot.queued, self)
        self.log_reader = LogReader(self.after_reading)
        self.untrusted = self._distrusted(start.snapshot)
        self.cancellation_ignored = snapshot.cancellation_ignored
        self.earlier_runs = snapshot.earlier_runs
        info = workflow.info()
        self.origin = origin(snapshot.order, self.earlier_runs, info.namespace, info.workflow_id)
        self.continuation = Continuation(start.history_bounds)
        self.is_version_changed = False
        self.checked: tuple[str, Order, Decided] | None = None
        self.order_bytes_max = capacity.size_of(self.order)
        self.deadline = next_deadline(self.order)

    @workflow.run
    async def run(self, start: WorkflowInput) -> str:
        """Runs until the order has finished; returns how it ended. No failed activity ends it."""
        life = asyncio.create_task(self._live(start.snapshot))
        await self._wait_until(lambda: life.done() or self._is_to_continue())
        await asyncio.sleep(0)  # What ended the order may also have brought a reason to continue.
        if life.done():
            return life.result()  # Raises what stopped it: a bug, or HistoryDiverged.
        # Activities under way are abandoned: the next run publishes and calls again.
        return workflow.continue_as_new(
            WorkflowInput.of_snapshot(self.snapshot()),
            initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
        )

    async def _live(self, snapshot: Snapshot | None) -> str:
        """Opens or reopens the order if needed, and runs its loops until it has finished."""
        if snapshot is not None and (
            snapshot.is_incomplete or (snapshot.has_lost and self.untrusted is None)
        ):
            raise SnapshotLost(snapshot.made_by)
        loops = [asyncio.create_task(self.queue.retry_unread())]
        if (ended := await self._start()) is not None:
            return ended
        loops += [
            asyncio.create_task(loop())
            for loop in (self.publisher.run, StepRunner(self).run, DeadlineWatch(self).run)
        ]
        await workflow.wait_condition(
            lambda: self._has_finished() or any(loop.done() for loop in loops)
        )
        for loop in loops:
            if loop.done():
                loop.result()
        return f"{self.order.status} at version {self.order.version}"

    @workflow.update(dynamic=True)
    def execute(self, name: str, args: Sequence[RawValue]) -> CommandResult:
        """Decides and records; never awaits. A repeated batch gets its first result again.

        Handles every update name: the sender names a batch by its commands, for the Web UI.
        """
        self._check_history()
        with _rejections_as_errors():
            return self._execute(_command_id(), self._batch_in(args))

    @execute.validator
    def check(self, name: str, args: Sequence[RawValue]) -> None:
        """Rejects before anything enters history: a rejected batch leaves no trace."""
        with _rejections_as_errors():
            command_id = _command_id()
            if command_id not in self.results:
                decision = self._decide(command_id, self._batch_in(args))
                self.checked = command_id, self.order, decision

    @workflow.signal(dynamic=True)
    def enqueue(self, name: str, args: Sequence[RawValue]) -> None:
        """Executes a batch asynchronously: its result or rejection can be queried later."""
        self._check_history()
        if name == MOVE:
            return
        try:
            queued = _queued_in(args)
        except ValueError:
            workflow.logger.error("Signal %s was ignored: it carries no command batch", name)
            return
        if self.reopening:
            self._keep(queued)
        else:
            self.queue.execute(queued)

    @workflow.query
    def command_status(self, command_id: str) -> CommandStatus | None:
        """The status of a command batch; None if the order does not know it, or not any more."""
        waiting = self.queue.status_of(command_id)
        return waiting or idempotency.status_of(command_id, self.results, self.rejections)

    @workflow.query
    def preview(self, batch: CommandBatch) -> Preview:
        """What a batch would do now; a query, so it changes nothing."""
        # Under a new key, which no dropped result has.
        batch = batch.model_copy(update={"in_log": False})
        return preview_of(self.order, lambda: self._decide(PREVIEW_ID, batch))

    @workflow.query
    def snapshot(self) -> Snapshot:
        """The state to continue with; queried of a run that was ended from outside."""
        results = self.results.packed(workflow.now())
        is_untrusted = self.reopening and self.untrusted is not None
        return Snapshot(
            made_by=None if is_untrusted else fingerprint(),
            order=self._carried,
            unpublished=self.publisher.unpublished,
            ineffective=self.publisher.ineffective,
            results=results.chunks,
            results_dropped_until=results.dropped_until or self.results_dropped_until,
            rejections=idempotency.pack_rejections(self.rejections),
            traces=self.traces,
            reopened=self.reopening,
            queued=self.queue.commands,
            cancellation_ignored=self.cancellation_ignored,
            earlier_runs=self.earlier_runs.followed_by(
                EarlierRun(
                    run_id=workflow.info().run_id,
                    version=self.order.version,
                    status=self.order.status,
                )
            ),
        )

    def details(self) -> str:
        """What the Temporal Web UI shows of the order as it is now."""
        alerts = [alert for alert in (self.publisher.alert, self.log_reader.problem) if alert]
        if waiting := len(self.queue.commands) if not self.reopening else 0:
            alerts.append(f"{waiting} asynchronous commands wait for a newer version")
        return details(
            self.order,
            unpublished=len(self.publisher.unpublished),
            alerts=alerts,
            cancellation_ignored=self.cancellation_ignored,
            origin=self.origin,
        )

    @workflow.query
    def state(self) -> State:
        """The state that the order decides on, in brief."""
        version, brief = self.order.version, digest(self.order)
        return State(version=version, made_by=fingerprint(), digest=brief)

    @property
    def _carried(self) -> Order:
        """The order that a snapshot has: an untrusted one until it is folded from the log."""
        return (self.untrusted if self.reopening else None) or self.order

    def _distrusted(self, snapshot: Snapshot | None) -> Order | None:
        """The order in a snapshot of another version; the log is then folded from its beginning.

        A replay does as the run did; `run` raises SnapshotLost if that cannot be right.
        """
        if snapshot is None or can_read("snapshot", snapshot.is_own):
            return None
        self.order, self.reopening = Order(), True
        return snapshot.order

    def _batch_in(self, args: Sequence[RawValue]) -> CommandBatch:
        """The batch in the arguments of an update; raises Rejected if it cannot be read."""
        try:
            return _decoded(args, CommandBatch)
        except ValueError:
            message = "the version that the order runs in cannot read this request"
            raise rejected_by(self.order, NOT_KNOWN_YET, message) from None

    def _execute(self, command_id: str, batch: CommandBatch) -> CommandResult:
        """Executes a batch once; a repeated one gets the stored result. Raises Rejected."""
        if (stored := self.results.get(command_id)) is not None:
            return stored.result
        decided = self._checked(command_id) or self._decide(command_id, batch)
        if not decided.events:
            self._note(command_id, batch)
        self._record(decided, batch.traceparent)
        result = idempotency.result_of(
            self.order, decided.events, batch.payload_hash, batch.attempt_id
        )
        self.results.add(StoredResult(command_id=command_id, at=workflow.now(), result=result))
        return result

    def _checked(self, command_id: str) -> Decided | None:
        """What the validator decided on a batch a moment ago; a replay runs no validator."""
        checked, self.checked = self.checked, None
        if checked is None or checked[0] != command_id or checked[1] is not self.order:
            return None
        return checked[2]

    def execute_queued(self, queued: QueuedCommands) -> None:
        """Executes commands that this version can read, and stores their result or rejection."""
        if queued.unread_signal is not None:
            return  # A replay: a run from before such signals were kept ignored it.
        if queued.batch.in_log and queued.command_id not in self.results:
            return  # It was executed, and its result was dropped: the log has it.
        try:
            self._execute(queued.command_id, queued.batch)
        except Rejected as error:
            self._store_rejection(error.rejection, queued)

    def give_up(self, queued: QueuedCommands) -> None:
        """Stores that no version could read commands in time."""
        no = rejected_by(self.order, NOT_KNOWN_YET, "no version could read these commands in time")
        self._store_rejection(no.rejection, queued)

    def _keep(self, queued: QueuedCommands) -> None:
        """Lets commands wait until the order is reopened, if a snapshot can hold them."""
        waits = self.queue.status_of(queued.command_id) is not None
        full = capacity.shortage_of_waiting(
            self._carried,
            self.publisher.bytes_with(0),
            bytes_of([*self.queue.commands, queued]),
        )
        # A run from before this kept, and executed, all that came.
        if not (waits or full) or not workflow.patched(BOUNDS_WAITING):
            self.queue.add(queued)
        elif full and not (queued.batch.in_log or self.command_status(queued.command_id)):
            self._store_rejection(rejected_by(self._carried, *full).rejection, queued)

    def _store_rejection(self, rejection: Rejection, queued: QueuedCommands) -> None:
        if rejection.payload_hash is not None:
            return  # It is a stored one.
        self._note(queued.command_id, queued.batch, rejection)
        _log_refusal(rejection.code, queued.batch)
        stored = rejection.model_copy(update={"payload_hash": queued.batch.payload_hash})
        self.rejections[queued.command_id] = StoredRejection(
            command_id=queued.command_id, pointer=queued.pointer, rejection=stored
        )
        if len(self.rejections) > idempotency.REJECTIONS_MAX:
            del self.rejections[next(iter(self.rejections))]

    def _decide(self, command_id: str, batch: CommandBatch) -> Decided:
        """The events of a batch and the order after them; changes nothing itself."""
        if self.log_reader.problem is not None:
            raise rejected_by(self.order, EVENT_UNREADABLE, self.log_reader.problem)
        if self.reopening:
            raise rejected_by(self.order, REOPENING, "the order is being reopened; try again")
        known = self.rejections.get(command_id)
        if known is not None and known.rejection.code not in RETRYABLE:
            raise Rejected(known.rejection)
        if batch.in_log is not False and self._may_have_dropped_results():
            raise rejected_by(self.order, RESULT_DROPPED, "only the log may know this key")
        if self.publisher.alert is not None:
            raise rejected_by(self.order, LOG_CONFLICT, self.publisher.alert)
        decided = decide_batch(batch, self.order, command_id, workflow.now())
        self._check_capacity(batch, decided)
        return decided

    def _may_have_dropped_results(self) -> bool:
        until = self.results_dropped_until
        return until is not None and workflow.now() < until

    def _check_capacity(self, batch: CommandBatch, decided: Decided) -> None:
        """Rejects what no snapshot could hold. What settles an order has room of its own."""
        size, unpublished = self._bytes_max(decided), self.publisher.bytes_with(decided.size)
        full = capacity.shortage(batch, decided.order, size, unpublished)
        if full is not None:
            raise rejected_by(self.order, *full)

    def _bytes_max(self, decided: Decided) -> int:
        """An upper bound of the order's size that is cheap; where it is too high, the size."""
        bound = self.order_bytes_max + decided.size
        is_low = bound <= capacity.GOODS_BYTES_MAX
        return bound if is_low else capacity.size_of(decided.order)

    def _record(self, decided: Decided, traceparent: str | None) -> None:
        """Makes a decision the state of the order; the loops act on it."""
        self.order_bytes_max = self._bytes_max(decided)
        self.order = order = decided.order
        self.publisher.add(decided.events, decided.size)
        self.traces = {key: self.traces.get(key, traceparent or "") for key in order.steps}
        self.deadline = next_deadline(order)
        if workflow.info().typed_search_attributes.get(STATUS) != order.status:
            workflow.upsert_search_attributes([STATUS.value_set(order.status)])

    def apply_result(self, result: StepResult, source: str, traceparent: str | None = None) -> None:
        """Decides on a result as on a command; none is rejected."""
        self._check_history()
        batch = CommandBatch(
            commands=[result], actor=source, payload_hash="", attempt_id="", traceparent=traceparent
        )
        command_id = f"{result.type}:{self.order.version + 1}"
        decided = decide_batch(batch, self.order, command_id, workflow.now())
        if decided.events:
            self._record(decided, traceparent)
        else:
            self._note(command_id, batch)

    def _note(
        self, command_id: str, batch: CommandBatch, rejection: Rejection | None = None
    ) -> None:
        """Leaves what changed nothing to the journal; a rejection only if there is room."""
        is_dropped = rejection is not None and not self.publisher.has_room_for_rejections
        # A run from before this published all of them.
        if is_dropped and workflow.patched(BOUNDS_REJECTIONS):
            return
        version, now = self._carried.version, workflow.now()
        self.publisher.note(ineffective(batch, command_id, version, now, rejection))

    async def _start(self) -> str | None:
        """Waits until the order is open; returns why it is not to be run, or None."""
        waits = self.reopening or self.order.version == 0
        if self.reopening:
            await self._catch_up()
            self.reopening = False
        if self.queue.commands:
            self.queue.execute_all()
        try:
            if waits:
                await workflow.wait_condition(
                    self._is_open,
                    timeout=FIRST_COMMAND_TIMEOUT,
                    timeout_summary="for the command that started the workflow",
                )
        except TimeoutError:
            await workflow.wait_condition(lambda: self._is_open() or not self.queue.commands)
            return None if self._is_open() else "no command came"
        return None

    async def _catch_up(self) -> None:
        """Applies what the log has after our snapshot, and then what is not published yet."""
        least = self.order.version if self.untrusted is None else self.untrusted.version
        unpublished = self.publisher.unpublished
        events, no_ops = await self.log_reader.read(self.order.version, unpublished, least)
        if not events:
            return
        # A run from before this took a repeated no-op for a new command.
        if self.publisher.ineffective and workflow.patched(KEEPS_NO_OPS):
            no_ops = [*no_ops, *no_ops_of(self.publisher.ineffective)]
        self.order, results = idempotency.from_stream(events, self.order, no_ops)
        self.results = merged(self.results, results)
        self.order_bytes_max = capacity.size_of(self.order)
        self.deadline = next_deadline(self.order)
        if self.untrusted is not None:
            self._report_difference(self.untrusted)

    def _report_difference(self, carried: Order) -> None:
        """Logs in what another version's snapshot, as this version reads it, differs."""
        if found := differences(carried, self.order):
            fields = ", ".join(found)
            workflow.logger.warning(
                "Order %s was folded from the log, because another version wrote its snapshot, "
                "which differs in: %s",
                workflow.info().workflow_id,
                fields,
            )

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits even if the workflow is cancelled: only CancelOrder cancels an order."""
        while not condition():
            try:
                await workflow.wait_condition(condition)
            except asyncio.CancelledError:
                self.cancellation_ignored = True

    def _is_open(self) -> bool:
        return self.order.version > 0 and not self._has_finished()

    def _has_finished(self) -> bool:
        is_idle = self.publisher.is_done and not self.queue.commands
        return is_finished(self.order) and is_idle

    def _after_publishing(self) -> None:
        self._check_history()
        since, key = self.publisher.failing_since, UNPUBLISHED_SINCE
        is_known = workflow.info().typed_search_attributes.get(key) is not None
        if is_known != (since is not None):
            update = key.value_unset() if since is None else key.value_set(since)
            workflow.upsert_search_attributes([update])

    def after_reading(self) -> None:
        """Called after each attempt to read what was unreadable."""
        self._check_history()

    def _check_history(self) -> None:
        """Notes whether to continue as new; called only for what history records."""
        self.continuation.check()
        self.is_version_changed = workflow.info().is_target_worker_deployment_version_changed()

    def _is_to_continue(self) -> bool:
        is_at_rest = self.publisher.is_done and not self.order.steps and not self.reopening
        is_due = self.continuation.is_due(at_rest=is_at_rest)
        return (is_due and not self._has_finished()) or self._moves()

    def _moves(self) -> bool:
        """Whether to go on in another version: it is due, and nothing is under way.

        A stuck step is no reason to stay. A new run calls its service again, under the same key.
        """
        # What changed nothing can go along, but not of an order that ends once that is published.
        ends = is_finished(self.order) and not self.publisher.is_done
        is_published = self.reopening or not (self.publisher.unpublished or ends)
        are_stuck = self.order.steps.keys() <= self.order.stuck_steps.keys()
        return self.is_version_changed and is_published and are_stuck


def _log_refusal(code: str, batch: CommandBatch) -> None:
    """One line for each asynchronous command that is refused; the API logs the others."""
    named = {"code": code, "request_id": batch.request_id}
    if batch.traceparent is not None:
        named["trace_id"] = batch.traceparent.split("-")[1]
    workflow.logger.info("refused: %s", code, extra=named)


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


def _queued_in(args: Sequence[RawValue]) -> QueuedCommands:
    """The commands in the argument of a signal; raises ValueError if it is something else."""
    try:
        return _decoded(args, QueuedCommands)
    except ValidationError:
        return QueuedCommands.read(from_json(args[0].payload.data))


def _command_id() -> str:
    update = workflow.current_update_info()
    assert update is not None, "only update handlers have a command id"
    return update.id
