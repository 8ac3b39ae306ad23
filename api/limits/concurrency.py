"""Concurrency limits: a request above the limit is rejected at once, instead of queued.

Requests that wait inside the process slow all others down, until none is answered in time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from api.problems.errors import LimitExceeded, Overloaded

INITIAL_LIMIT = 4
LATENCY_TOLERANCE = 1.8  # The average latency may be this many times that of a single request.
STEP_UP, STEP_DOWN = 0.05, 0.15
WEIGHT = 1 / 16
SUSTAINED_SHARE = 1 / 5


class FixedLimit:
    """A limit that stays as it is; also the interface of limits that change."""

    def __init__(self, value: float) -> None:
        self.value = value

    def admitted(self) -> None:
        """A request got a slot."""

    def rejected(self) -> None:
        """A request got no slot."""

    def record(self, seconds: float, concurrent: int) -> None:
        """A request took this long, one of up to `concurrent` at a time."""


class BurstLimit(FixedLimit):
    """Allows a burst, such as all requests of one page, but only a fifth of it under overload.

    After a rejection, the limit is low until as many requests in a row as a burst were admitted.
    """

    def __init__(self, burst: int) -> None:
        super().__init__(burst)
        self._burst = burst
        self._sustained = math.ceil(burst * SUSTAINED_SHARE)
        self._admitted_in_a_row = 0

    def admitted(self) -> None:
        self._admitted_in_a_row += 1
        if self._admitted_in_a_row >= self._burst:
            self.value = self._burst

    def rejected(self) -> None:
        self._admitted_in_a_row = 0
        self.value = self._sustained


class AdaptiveLimit(FixedLimit):
    """A limit that follows the measured latency: a gradient limit with additive steps (AIMD).

    As in Netflix's concurrency-limits. The baseline is the latency of a single request. The limit
    rises while the average latency is below LATENCY_TOLERANCE × the baseline and the limit is at
    least half used. It falls otherwise, down to one, where the baseline is measured again.
    """

    def __init__(self) -> None:
        super().__init__(INITIAL_LIMIT)
        self._baseline_s: float | None = None
        self._average_s = 0.0

    def record(self, seconds: float, concurrent: int) -> None:
        if self._baseline_s is None:
            self._baseline_s = self._average_s = seconds
        if concurrent == 1:
            self._baseline_s += (seconds - self._baseline_s) * WEIGHT
        self._average_s += (seconds - self._average_s) * WEIGHT
        self._baseline_s = min(self._baseline_s, self._average_s)
        if self._average_s > self._baseline_s * LATENCY_TOLERANCE:
            self.value = max(self.value - STEP_DOWN, 1)
        elif concurrent > self.value / 2:
            self.value += STEP_UP


class ConcurrencyLimiter:
    """Hands out as many slots at a time as its limit says."""

    def __init__(self, limit: FixedLimit, error: type[LimitExceeded] = Overloaded) -> None:
        self.limit = limit
        self.in_use = 0
        self._error = error

    def acquire(self) -> Slot:
        """Takes a slot, which the caller must release; raises `error` if there is none."""
        if self.in_use >= self.limit.value:
            self.limit.rejected()
            raise self._error
        self.limit.admitted()
        return Slot(self)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Holds a slot inside the `with`; raises `error` if there is none."""
        slot = self.acquire()
        try:
            yield
        finally:
            slot.release()


class Slot:
    """One of a limiter's slots, held until it is released."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self._is_held, self._concurrent, self._began = False, 0, 0.0
        self.reacquire()

    def release(self) -> None:
        """Gives the slot back; has no effect the second time."""
        if self._is_held:
            self._is_held = False
            concurrent = max(self._concurrent, self._limiter.in_use)
            self._limiter.in_use -= 1
            self._limiter.limit.record(monotonic() - self._began, concurrent)

    def reacquire(self) -> None:
        """Takes the slot again, even above the limit: the request was admitted before."""
        self._is_held = True
        self._limiter.in_use += 1
        self._concurrent = self._limiter.in_use
        self._began = monotonic()
