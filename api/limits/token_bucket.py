"""Token buckets: each caller may send a burst, and then a number of requests per second."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple

from settings import RateLimit

CALLERS_MAX = 50_000
ROUNDING = 1e-6  # Of a token, so that a retry after `next_token_s` finds one.


class BucketState(NamedTuple):
    """A bucket after a request."""

    is_granted: bool
    remaining: int
    """Whole tokens."""
    next_token_s: float


class TokenBuckets:
    """A bucket for each caller. The time, in monotonic seconds, is passed in.

    The least recently seen callers are forgotten: they start again with a full bucket.
    """

    def __init__(self, rate: RateLimit, callers_max: int = CALLERS_MAX) -> None:
        self._rate = rate
        self._callers_max = callers_max
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, caller: str, now: float) -> BucketState:
        """Takes a token, if there is one."""
        full_at = max(self._full_at.get(caller, now), now)
        tokens = self._rate.burst - (full_at - now) * self._rate.per_second
        is_granted = tokens + ROUNDING >= 1
        if is_granted:
            tokens, full_at = tokens - 1, full_at + 1 / self._rate.per_second
        self._store(caller, full_at)
        remaining = math.floor(tokens + ROUNDING)
        return BucketState(is_granted, remaining, (remaining + 1 - tokens) / self._rate.per_second)

    def refund(self, caller: str) -> None:
        """Puts a taken token back."""
        if caller in self._full_at:
            self._full_at[caller] -= 1 / self._rate.per_second

    def _store(self, caller: str, full_at: float) -> None:
        self._full_at[caller] = full_at  # The time at which it is full is all there is to a bucket.
        self._full_at.move_to_end(caller)
        if len(self._full_at) > self._callers_max:
            self._full_at.popitem(last=False)
