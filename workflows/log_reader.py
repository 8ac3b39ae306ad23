"""Reads an order's events from the log, for a run that does not have them yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from temporalio import workflow

from eventlog.envelope import Batch, Envelope, NoOp
from orders.upcasting import UnreadableEvent
from workflows.activity_options import HEAD_OF_LOG, LOG_AFTER, LOG_RETRY, LOG_TIMEOUT
from workflows.unreadable import can_read, delays


class Logged(NamedTuple):
    """What the log has of an order."""

    events: list[Envelope]
    no_ops: list[NoOp]


class LogReader:
    """Reads events; `problem` says why the order waits instead, if it does.

    `after_attempt` is called after each attempt that could not read them.
    """

    def __init__(self, after_attempt: Callable[[], None]) -> None:
        self.problem: str | None = None
        self._after_attempt = after_attempt

    async def read(self, after: int, unpublished: Sequence[Envelope], least: int) -> Logged:
        """The order's events after a version: from the log, and then those not published yet.

        Returns once they reach the version `least`, and this version of the software can read them.
        """
        for attempt, delay in enumerate(delays()):
            events, no_ops = await _logged(after)
            head = events[-1].version if events else after
            events += [event for event in unpublished if event.version > head]
            reached = after + len(events)
            if (events and events[-1].version != reached) or reached < least:
                problem = f"the log has {len(events)} of its {least - after} events"
            elif can_read(f"log {attempt}", (reason := unreadable_reason(events)) is None):
                self.problem = None
                return Logged(events, no_ops)
            else:
                problem = f"the version that the order runs in cannot read them: {reason}"
            self.problem = f"the events of the order cannot be applied: {problem}"
            workflow.logger.error("Order %s: %s", workflow.info().workflow_id, self.problem)
            self._after_attempt()
            await workflow.sleep(delay, summary="before unreadable events are tried again")
        raise AssertionError


def unreadable_reason(events: Iterable[Envelope]) -> str | None:
    """Why this version cannot read one of the events; None if it can read all."""
    try:
        for envelope in events:
            envelope.event()
    except UnreadableEvent as error:
        return str(error)
    return None


async def _logged(after: int) -> Logged:
    """What the log has after a version, page by page: all that it had when it was called."""
    head: int = await workflow.execute_activity(
        HEAD_OF_LOG,
        workflow.info().workflow_id,
        result_type=int,
        start_to_close_timeout=LOG_TIMEOUT,
        retry_policy=LOG_RETRY,
        summary=f"has the log events after version {after}?",
    )
    events: list[Envelope] = []
    no_ops: list[NoOp] = []
    while after < head:
        page: Batch = await workflow.execute_activity(
            LOG_AFTER,
            args=[workflow.info().workflow_id, after],
            result_type=Batch,
            start_to_close_timeout=LOG_TIMEOUT,
            retry_policy=LOG_RETRY,
            summary=f"the events after version {after}",
        )
        events += page.events
        no_ops += page.no_ops
        after = events[-1].version
    return Logged(events, no_ops)
