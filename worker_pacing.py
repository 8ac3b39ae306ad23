"""How fast orders go on once a service that they waited for is back.

All of them could go on within seconds, as a thundering herd. Each has many tasks to do then, and
the commands of customers would wait behind these. So the calls for stuck steps have task queues of
their own, whose rate a worker limits as congestion control does: it starts slowly, goes up while
calls succeed, and down once other tasks wait. `make bench ARGS=bursts` measures it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from datetime import UTC, datetime
from statistics import median
from typing import Any

from prometheus_client import Gauge
from temporalio import activity
from temporalio.worker import (
    ActivityInboundInterceptor,
    CustomSlotSupplier,
    ExecuteActivityInput,
    Interceptor,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

PER_SECOND_FIRST = 1.0
PER_SECOND_MIN = 0.5
PER_SECOND_MAX = 100.0
GROWTH = 0.15  # While no other task waits; less the longer they do.
SHRINKAGE = 0.5
ADJUST_SECONDS = 0.5
# Tasks wait some 5 ms on a machine that is half busy, and 30 and more on one that is full.
WAIT_SECONDS_MAX = 0.015
LATELY_SECONDS = 1.0
WAITS_MAX = 1_000
FULL_SECONDS = 0.1
# So that a clock that was set counts as right again in a while.
LEAST_WAIT_GROWTH = 0.000_001

_PACE = Gauge(
    "orderly_stuck_step_calls_per_second",
    "How often a worker calls a service for stuck steps, per second and at most.",
    ["service"],
)


class TaskWaits(Interceptor):
    """How long the activities of a worker wait until they begin: an interceptor that measures it.

    The clocks of this machine and of Temporal may differ. So a wait counts from the shortest one.
    """

    def __init__(self) -> None:
        self._least = float("inf")
        self._waits = deque[tuple[float, float]](maxlen=WAITS_MAX)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Waited(next, self)

    def add(self, seconds: float) -> None:
        """Notes the difference of two clocks: of when an activity was scheduled, and began."""
        self._least = min(self._least + LEAST_WAIT_GROWTH, seconds)
        self._waits.append((time.monotonic(), seconds - self._least))

    def lately(self) -> float:
        """The median over the last moments, in seconds; 0 if nothing has begun."""
        since = time.monotonic() - LATELY_SECONDS
        waits = [seconds for at, seconds in self._waits if at >= since]
        return median(waits) if waits else 0.0


class _Waited(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, waits: TaskWaits) -> None:
        super().__init__(next)
        self._waits = waits

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if info.attempt == 1:
            waited = datetime.now(UTC) - info.current_attempt_scheduled_time
            self._waits.add(waited.total_seconds())
        return await self.next.execute_activity(input)


class PacedSlots(CustomSlotSupplier, Interceptor):
    """Slots for the calls of a service for stuck steps, limited in number and in rate.

    As an interceptor it counts how the calls end.
    """

    def __init__(self, service: str, slots: int, waits: TaskWaits) -> None:
        self._slots = slots
        self._waits = waits
        self._pace = _PACE.labels(service)
        self._per_second = PER_SECOND_FIRST
        self._next_at = self._adjusted_at = 0.0
        self._ended: Counter[bool] = Counter()
        # The SDK releases slots in other threads.
        self._taken: set[SlotPermit] = set()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Counted(next, self)

    def count(self, has_succeeded: bool) -> None:
        """Counts a call that has ended."""
        self._ended[has_succeeded] += 1

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        while len(self._taken) >= self._slots:
            await asyncio.sleep(FULL_SECONDS)
        now = time.monotonic()
        if now - self._adjusted_at >= ADJUST_SECONDS:
            succeeded, failed = self._ended[True], self._ended[False]
            wait = self._waits.lately()
            self._per_second = adjusted(self._per_second, succeeded, failed, wait)
            self._adjusted_at = now
            self._ended.clear()
            self._pace.set(self._per_second)
        at = max(now, self._next_at)
        self._next_at = at + 1 / self._per_second
        await asyncio.sleep(at - now)
        permit = SlotPermit()
        self._taken.add(permit)
        return permit

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        return None  # No task comes without a poll: the queue has no workflows.

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        pass

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        self._taken.discard(ctx.permit)


class _Counted(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, slots: PacedSlots) -> None:
        super().__init__(next)
        self._slots = slots

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        has_succeeded = False
        try:
            result = await self.next.execute_activity(input)
            has_succeeded = True
        finally:
            self._slots.count(has_succeeded)
        return result


def adjusted(per_second: float, succeeded: int, failed: int, wait: float) -> float:
    """The next rate, from how calls ended lately and how long other tasks waited, in seconds.

    It stays while none has ended: the service may be slow.
    """
    if not succeeded:
        return min(per_second, PER_SECOND_FIRST) if failed else per_second
    if wait > WAIT_SECONDS_MAX:
        return max(per_second * SHRINKAGE, PER_SECOND_MIN)
    return min(per_second * (1 + GROWTH * (1 - wait / WAIT_SECONDS_MAX)), PER_SECOND_MAX)
