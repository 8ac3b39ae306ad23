"""Places for those that are served at the same time: who would have to wait for one is sent away.

What waits inside makes all that is inside slower, until nobody is answered in time any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from api.problems.errors import Overloaded

BEGIN_WITH = 4
TOLERATED = 1.8  # So much slower than one alone, on average, all may be.
STEP_UP, STEP_DOWN = 0.05, 0.15
WEIGHT = 1 / 16


class AdaptiveLimit:
    """How many can be served at once without making each other slow: found by measuring.

    One alone shows how fast it can go. While all are not much slower than that on average, there
    may be more; else there may be fewer, down to one, which shows it anew.
    """

    def __init__(self) -> None:
        self.number: float = BEGIN_WITH
        self._alone_s: float | None = None
        self._all_s = 0.0

    def measured(self, seconds: float, at_once: int) -> None:
        """Takes in how long one took that was one of so many."""
        if self._alone_s is None:
            self._alone_s = self._all_s = seconds
        if at_once == 1:
            self._alone_s += (seconds - self._alone_s) * WEIGHT
        self._all_s += (seconds - self._all_s) * WEIGHT
        self._alone_s = min(self._alone_s, self._all_s)
        if self._all_s > self._alone_s * TOLERATED:
            self.number = max(self.number - STEP_DOWN, 1)
        elif at_once > self.number / 2:
            self.number += STEP_UP


class ConcurrencyLimiter:
    """A fixed number of places, or as many as their own pace says."""

    def __init__(self, number: int | None = None) -> None:
        self._number = number
        self._pace = AdaptiveLimit()
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place inside the `with`; raises Overloaded if all are taken."""
        if self._taken >= (self._number or self._pace.number):
            raise Overloaded
        self._taken += 1
        at_once, began = self._taken, monotonic()
        try:
            yield
        finally:
            at_once = max(at_once, self._taken)
            self._taken -= 1
            self._pace.measured(monotonic() - began, at_once)
