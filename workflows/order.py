"""One workflow per order: a durable shell around the pure decider.

Its history is the order's event-sourced state. The handler decides and records; all I/O happens in
the loop that publishes, so that nothing is told to anyone before it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from pydantic import TypeAdapter
from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError

from eventlog.envelope import Batch, Envelope, digest
from orders.decider import is_over
from orders.order import Order
from workflows import answers as memory
from workflows.deciding import Refused, decide_instruction, refused
from workflows.details import details
from workflows.messages import (
    LOG_BEHIND,
    ORDER_TOO_LARGE,
    REOPENING,
    TASK,
    Answer,
    Instruction,
    Snapshot,
)

CUSTOMER = SearchAttributeKey.for_keyword("CustomerId")
STATUS = SearchAttributeKey.for_keyword("OrderStatus")

# Activities are called by name: the workflow knows what is owed, not who does it.
PUBLISH_EVENTS = "publish_events"
HEAD_OF_LOG = "head_of_log"
ONE_TRY = timedelta(seconds=5)  # Also how long a batch waits whose worker died.
FOR_EVER = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10)
)
AFTER_A_CONFLICT = timedelta(minutes=1)
FIRST_COMMAND_PATIENCE = timedelta(minutes=10)

# A snapshot must stay under Temporal's 2 MB: these two, and the answers with their own limit.
UNPUBLISHED_BYTES_MAX = 1_250_000
ORDER_BYTES_MAX = 500_000
BATCH_BYTES_MAX = 500_000

_ORDER = TypeAdapter(Order)


class PastRewritten(Exception):
    """Replaying this order's history decided other events than were published.

    A rule was changed under an open order. Its task fails until the rule it began under is back;
    in production, pin orders to worker versions instead.
    """


@workflow.defn(name=TASK)
class OrderWorkflow:
    """One order, from its opening until nothing more can be owed."""

    @workflow.init  # Handlers run before run(): all state is built here.
    def __init__(self, snapshot: Snapshot) -> None:
        self.order = snapshot.order
        self.unpublished = list(snapshot.unpublished)
        self.answers = memory.unpacked(snapshot.answers)
        self.reopening = snapshot.reopened
        self.troubles: dict[str, str] = {}  # What a person should know of, by where it comes from.
        self.unpublished_bytes = _size(self.unpublished)
        self.order_bytes_at_most = len(_ORDER.dump_json(self.order))
        self._show()

    @workflow.run
    async def run(self, snapshot: Snapshot) -> str:
        """Publishes until the order is over; returns how it ended. No failed activity ends it."""
        if snapshot.reopened or snapshot.order.version == 0:
            beginning = asyncio.create_task(self._begin())
            await self._until(beginning.done)
            if (ended := beginning.result()) is not None:
                return ended
        publishing = asyncio.create_task(self._publish())
        await self._until(lambda: publishing.done() or self._ended() or self._history_is_long())
        if not publishing.done() and not self._ended():
            # In a task of its own: together with a busy one, it would make commands wait a second.
            pause = asyncio.create_task(workflow.sleep(timedelta(milliseconds=1)))
            await self._until(lambda: pause.done() and workflow.all_handlers_finished())
        if publishing.done():
            publishing.result()  # Raises what stopped it: only PastRewritten can.
        if self._ended():
            return f"{self.order.status} at version {self.order.version}"
        # A publish that does not finish is not waited for: its batch is carried along.
        return workflow.continue_as_new(
            self._snapshot(),
            initial_versioning_behavior=workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE,
        )

    @workflow.update
    def execute(self, instruction: Instruction) -> Answer:
        """Decides and records; never awaits. An instruction seen before gets its answer again."""
        command_id = _command_id()
        if command_id in self.answers:
            return self.answers[command_id].answer
        events, self.order = self._decide(instruction)
        self.unpublished += events
        self.unpublished_bytes += _size(events)
        self.order_bytes_at_most = self._bytes_at_most(events, self.order)
        answer = memory.answer_of(
            self.order, events, instruction.payload_hash, instruction.attempt_id
        )
        self.answers[command_id] = memory.Remembered(
            command_id=command_id, at=workflow.now(), answer=answer
        )
        if workflow.info().typed_search_attributes.get(STATUS) != self.order.status:
            workflow.upsert_search_attributes([STATUS.value_set(self.order.status)])
        self._show()
        return answer

    @execute.validator
    def check(self, instruction: Instruction) -> None:
        """Refuses before anything enters history: a refused instruction leaves no trace."""
        if _command_id() not in self.answers:
            self._decide(instruction)

    def _decide(self, instruction: Instruction) -> tuple[list[Envelope], Order]:
        """The events of an instruction and the order after them; changes nothing itself."""
        try:
            if self.reopening:
                raise refused(self.order, REOPENING, "the order is being reopened; try again")
            events, order = decide_instruction(
                instruction, self.order, _command_id(), workflow.now()
            )
            self._check_room(events, order)
        except Refused as no:
            refusal = no.refusal
            raise ApplicationError(
                refusal.message, refusal.model_dump(), type=refusal.code, non_retryable=True
            ) from no
        return events, order

    def _check_room(self, events: list[Envelope], order: Order) -> None:
        if self.unpublished_bytes + _size(events) > UNPUBLISHED_BYTES_MAX:
            raise refused(self.order, LOG_BEHIND, "too much of the order waits for the log")
        if self._bytes_at_most(events, order) > ORDER_BYTES_MAX:
            raise refused(self.order, ORDER_TOO_LARGE, "the order is too large to hold any more")

    def _bytes_at_most(self, events: list[Envelope], order: Order) -> int:
        """A bound on the order's size that costs nothing; where it is too high, the size itself."""
        bound = self.order_bytes_at_most + _size(events)
        return bound if bound <= ORDER_BYTES_MAX else len(_ORDER.dump_json(order))

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
                raise PastRewritten(f"version {versions} was published as other events")
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
                return "not reopened: the log has gone on since"
            self.reopening = False
        try:
            await workflow.wait_condition(
                lambda: bool(self.unpublished),
                timeout=FIRST_COMMAND_PATIENCE,
                timeout_summary="for the command that this was started for",
            )
        except TimeoutError:
            return "nothing was asked of it"
        return None

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
        return is_over(self.order) and not self.unpublished

    def _history_is_long(self) -> bool:
        return workflow.info().is_continue_as_new_suggested()

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            order=self.order,
            unpublished=self.unpublished,
            answers=memory.packed(self.answers, workflow.now()),
        )

    def _show(self) -> None:
        troubles = list(self.troubles.values())
        workflow.set_current_details(details(self.order, len(self.unpublished), troubles))


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
