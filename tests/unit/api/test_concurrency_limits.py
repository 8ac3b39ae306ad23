"""Concurrency limits: the adaptive one follows latency, the burst one falls after rejections."""

from __future__ import annotations

from contextlib import suppress

import pytest

from api.limits.concurrency import (
    INITIAL_LIMIT,
    STEP_UP,
    AdaptiveLimit,
    BurstLimit,
    ConcurrencyLimiter,
    FixedLimit,
    Slot,
)
from api.problems.errors import Overloaded, TooManyStreams


class Backend:
    """Serves up to `capacity` requests at a time as fast as one, and more of them slower."""

    def __init__(self, capacity: int, seconds: float) -> None:
        self.capacity = capacity
        self.seconds = seconds

    def latency_s(self, concurrent: int) -> float:
        return self.seconds * max(1.0, concurrent / self.capacity)


def saturate(limit: AdaptiveLimit, backend: Backend, requests: int = 3_000) -> None:
    """Requests that always use the whole limit."""
    for _ in range(requests):
        limit.record(backend.latency_s(int(limit.value)), int(limit.value))


@pytest.mark.parametrize("capacity", [1, 4, 20, 100])
@pytest.mark.parametrize("seconds", [0.001, 0.1])
def test_adaptive_limit_finds_the_capacity(capacity: int, seconds: float) -> None:
    limit = AdaptiveLimit()
    saturate(limit, Backend(capacity, seconds))
    assert capacity <= limit.value <= max(3 * capacity, 2 * INITIAL_LIMIT + 1 + STEP_UP)


def test_adaptive_limit_follows_the_capacity_both_ways() -> None:
    limit = AdaptiveLimit()
    for _ in range(2):
        saturate(limit, Backend(20, 0.01))
        assert 20 <= limit.value <= 60
        saturate(limit, Backend(20, 0.1))  # A single request is slower, too: the limit stays.
        assert 20 <= limit.value <= 60
        saturate(limit, Backend(2, 0.1))
        assert limit.value <= 2 * INITIAL_LIMIT + 1


def test_adaptive_limit_does_not_rise_while_it_is_not_used() -> None:
    limit = AdaptiveLimit()
    for _ in range(1_000):
        limit.record(0.01, 2)
    assert limit.value == pytest.approx(INITIAL_LIMIT)


def acquire_all(limiter: ConcurrencyLimiter, requests: int) -> list[Slot]:
    """The slots that concurrent requests get."""
    slots = []
    for _ in range(requests):
        with suppress(Overloaded):
            slots.append(limiter.acquire())
    return slots


def release_all(limiter: ConcurrencyLimiter, slots: list[Slot]) -> None:
    for slot in slots:
        slot.release()
        slot.release()  # The second time has no effect.
    assert limiter.in_use == 0


def test_burst_limit_is_a_fifth_after_a_rejection_until_a_burst_in_a_row_is_admitted() -> None:
    limiter = ConcurrencyLimiter(BurstLimit(10))
    slots = acquire_all(limiter, 12)
    assert len(slots) == 10
    for _ in range(3):
        release_all(limiter, slots)
        slots = acquire_all(limiter, 10)
        assert len(slots) == 2
    release_all(limiter, slots)
    for _ in range(10):
        release_all(limiter, acquire_all(limiter, 1))
    assert len(acquire_all(limiter, 10)) == 10


def test_slot_is_reacquired_above_the_limit() -> None:
    limiter = ConcurrencyLimiter(FixedLimit(1))
    slot = limiter.acquire()
    slot.release()
    with limiter.slot():
        slot.reacquire()
        assert limiter.in_use == 2
        slot.release()
    assert limiter.in_use == 0


def test_rejection_raises_the_error_of_the_limiter() -> None:
    limiter = ConcurrencyLimiter(FixedLimit(1), TooManyStreams)
    with limiter.slot(), pytest.raises(TooManyStreams), limiter.slot():
        pass
    assert limiter.in_use == 0
