"""Waits for the deadlines of an order."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from temporalio import workflow

from orders.rules.deadlines import Deadline
from orders.steps import DeadlinePassed, StepResult

LATE = timedelta(minutes=1)


class DeadlineShell(Protocol):
    """The workflow of an order, as far as its deadlines are concerned."""

    deadline: Deadline | None
    """The next one, which a decision may lift or replace."""

    def apply_result(self, result: StepResult, source: str, traceparent: str | None = None) -> None:
        """Decides on a result as on a command; none is rejected."""


class DeadlineWatch:
    """Tells the order when a deadline has passed; a new run waits for the same time."""

    def __init__(self, shell: DeadlineShell) -> None:
        self._shell = shell

    async def run(self) -> None:
        """Watches for as long as the order lives."""
        while True:
            await workflow.wait_condition(lambda: self._shell.deadline is not None)
            deadline = self._shell.deadline
            if deadline is not None and await self._is_reached(deadline):
                self._count(deadline)
                passed = DeadlinePassed(deadline=deadline.name, at=deadline.at)
                self._shell.apply_result(passed, "deadline")

    def _count(self, deadline: Deadline) -> None:
        """Counts it; not when the history is replayed."""
        is_late = workflow.now() - deadline.at > LATE
        meter = workflow.metric_meter()
        meter.create_counter("orderly_deadlines", "Deadlines that have passed.").add(1)
        late = meter.create_counter("orderly_late_deadlines", "Those noticed a minute too late.")
        late.add(int(is_late))  # Also 0, so that the first one shows as an increase.

    async def _is_reached(self, deadline: Deadline) -> bool:
        """Whether the deadline passes; it may also be lifted or replaced by another."""
        left = max(deadline.at - workflow.now(), timedelta()) + timedelta(milliseconds=1)
        try:
            await workflow.wait_condition(
                lambda: self._shell.deadline != deadline,
                timeout=left,
                timeout_summary=f"deadline: {deadline.name}",
            )
        except TimeoutError:
            return True
        return False
