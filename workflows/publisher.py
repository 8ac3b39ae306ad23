"""Publishes an order's events to the log, as an outbox: in order, in batches, each exactly once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from eventlog.envelope import Batch, Envelope, Ineffective, bytes_of, digest
from workflows.activity_options import (
    CONFLICT_DELAY,
    LOG_OUTAGE,
    LOG_RETRY,
    LOG_TIMEOUT,
    PUBLISH_EVENTS,
)

# A snapshot must stay under Temporal's 2 MB, together with the order and the stored results.
UNPUBLISHED_BYTES_MAX = 1_250_000
BATCH_BYTES_MAX = 500_000
INEFFECTIVE_MAX = 20
"""The number of no-ops and rejections that wait for an event to be stored with."""
# Without the log: no rejection is kept for the journal beyond either.
REJECTIONS_WAITING_MAX = 100
REJECTIONS_WAITING_BYTES_MAX = 100_000


class HistoryDiverged(Exception):
    """Replaying this order's history decided other events than were published.

    A rule was changed under an open order. The workflow task fails until the rule under which the
    order began is back; in production, pin orders to worker versions instead.
    """


class Publisher:
    """The events of an order that are not in the log yet; more gather while a batch is published.

    `after_attempt` is called after each attempt, successful or not. `failing_since` is when the
    batch was first attempted that cannot be published; None if nothing is wrong. What changed
    nothing goes along with the next events, without an activity of its own. If the publisher
    `flushes`, it has one if much of it waits, or once the order `has_ended`.
    """

    def __init__(
        self,
        unpublished: Sequence[Envelope],
        ineffective: Sequence[Ineffective],
        *,
        flushes: bool,
        has_ended: Callable[[], bool],
        after_attempt: Callable[[], None],
    ) -> None:
        self.unpublished = list(unpublished)
        self.ineffective = list(ineffective)
        self.alert: str | None = None
        self.failing_since: datetime | None = None
        self._bytes = bytes_of(self.unpublished) + bytes_of(self.ineffective)
        self._flushes = flushes
        self._has_ended = has_ended
        self._after_attempt = after_attempt

    @property
    def is_done(self) -> bool:
        """Whether nothing waits for the log."""
        return not self.unpublished and not (self._flushes and self.ineffective)

    @property
    def has_room_for_rejections(self) -> bool:
        """Whether so little waits for the journal that a rejection, which it may lack, can wait."""
        return (
            len(self.ineffective) < REJECTIONS_WAITING_MAX
            and bytes_of(self.ineffective) < REJECTIONS_WAITING_BYTES_MAX
        )

    def bytes_with(self, size: int) -> int:
        """What a snapshot has to hold once events of this size wait as well."""
        return self._bytes + size

    def add(self, events: Sequence[Envelope], size: int) -> None:
        """Leaves events to be published, which take `size` bytes in a snapshot."""
        self.unpublished += events
        self._bytes += size

    def note(self, ineffective: Ineffective) -> None:
        """Leaves what changed nothing to be kept in the journal; each at a time of its own."""
        if self.ineffective:
            after = self.ineffective[-1].decided_at + timedelta(microseconds=1)
            at = max(ineffective.decided_at, after)
            ineffective = ineffective.model_copy(update={"decided_at": at})
        self.ineffective.append(ineffective)
        self._bytes += bytes_of([ineffective])

    def _is_due(self) -> bool:
        if self.unpublished or not self._flushes:
            return bool(self.unpublished)
        waiting = len(self.ineffective)
        return waiting >= INEFFECTIVE_MAX or (waiting > 0 and self._has_ended())

    async def run(self) -> None:
        """Publishes for as long as the order lives; raises HistoryDiverged."""
        while True:
            await workflow.wait_condition(self._is_due)
            batch, began = self._next_batch(), workflow.now()
            others = self.ineffective[:INEFFECTIVE_MAX]
            try:
                # Once the order has said so, it waits without further events in its history.
                within = None if self.failing_since else LOG_OUTAGE
                published = await _publish(batch, others, within)
            except ActivityError as error:
                self.failing_since = self.failing_since or began
                if getattr(error.cause, "non_retryable", False):
                    await self._wait_for_help(batch, error)
                else:
                    self._after_attempt()
                continue
            if published != digest(batch):
                raise HistoryDiverged(f"version {_versions(batch)} was published as other events")
            del self.unpublished[: len(batch)], self.ineffective[: len(others)]
            waits = self.unpublished or self.ineffective
            self._bytes = self._bytes - bytes_of(batch) - bytes_of(others) if waits else 0
            self.alert = self.failing_since = None
            self._after_attempt()

    def _next_batch(self) -> list[Envelope]:
        """As many of the oldest events as one activity's input may hold, and at least one."""
        if self._bytes <= BATCH_BYTES_MAX:
            return self.unpublished[:]
        size, count = 0, 0
        for envelope in self.unpublished:
            size += bytes_of([envelope])
            if count and size > BATCH_BYTES_MAX:
                break
            count += 1
        return self.unpublished[:count]

    async def _wait_for_help(self, batch: Sequence[Envelope], error: ActivityError) -> None:
        """Reports a conflict with the log: the one error that is not retried without end."""
        self.alert = f"version {_versions(batch)} cannot be published: {error.cause}"
        workflow.logger.error("Order %s: %s", workflow.info().workflow_id, self.alert)
        self._after_attempt()
        await workflow.sleep(CONFLICT_DELAY, summary="before publishing is tried again")


async def _publish(
    batch: list[Envelope], others: list[Ineffective], within: timedelta | None
) -> str:
    """Returns the digest of the events that the log has for the batch."""
    types = ", ".join(dict.fromkeys(e.type for e in batch))
    published: str = await workflow.execute_activity(
        PUBLISH_EVENTS,
        Batch(order_id=workflow.info().workflow_id, events=batch, ineffective=others),
        result_type=str,
        start_to_close_timeout=LOG_TIMEOUT,
        schedule_to_close_timeout=within,
        retry_policy=LOG_RETRY,
        summary=f"{_versions(batch)}: {types}" if batch else "what changed nothing",
    )
    return published


def _versions(batch: Sequence[Envelope]) -> str:
    first, last = batch[0].version, batch[-1].version
    return f"{first}" if first == last else f"{first} to {last}"
