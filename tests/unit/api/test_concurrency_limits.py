"""How many are served at once: as many as go well, and of reads many, or few after too many."""

from __future__ import annotations

import pytest

from api.limits.concurrency import BEGIN_WITH, STEP_UP, AdaptiveLimit
from api.limits.load_shedding import ReadLimiter


class Served:
    """Somebody who serves so many at once as fast as one, and more of them slower."""

    def __init__(self, at_once: int, seconds: float) -> None:
        self.at_once = at_once
        self.seconds = seconds

    def seconds_of(self, at_once: int) -> float:
        return self.seconds * max(1.0, at_once / self.at_once)


def crowd(pace: AdaptiveLimit, served: Served, requests: int = 3_000) -> None:
    """There are always as many inside as may be."""
    for _ in range(requests):
        pace.measured(served.seconds_of(int(pace.number)), int(pace.number))


@pytest.mark.parametrize("at_once", [1, 4, 20, 100])
@pytest.mark.parametrize("seconds", [0.001, 0.1])
def test_a_pace_lets_in_as_many_as_do_not_slow_each_other_down_much(
    at_once: int, seconds: float
) -> None:
    pace = AdaptiveLimit()
    crowd(pace, Served(at_once, seconds))
    assert at_once <= pace.number <= max(3 * at_once, 2 * BEGIN_WITH + 1 + STEP_UP)


def test_a_pace_follows_who_serves_both_ways() -> None:
    pace = AdaptiveLimit()
    for _ in range(2):
        crowd(pace, Served(20, 0.01))
        assert 20 <= pace.number <= 60
        crowd(pace, Served(20, 0.1))  # Few at once take longer, too: no reason for fewer.
        assert 20 <= pace.number <= 60
        crowd(pace, Served(2, 0.1))
        assert pace.number <= 2 * BEGIN_WITH + 1


def test_a_pace_does_not_rise_for_those_that_do_not_come() -> None:
    pace = AdaptiveLimit()
    for _ in range(1_000):
        pace.measured(0.01, 2)
    assert pace.number == pytest.approx(BEGIN_WITH)


def test_after_too_many_at_once_few_reads_have_places_until_many_in_a_row_had() -> None:
    reads = ReadLimiter(10)
    places = [reads.take() for _ in range(12)]
    assert sum(place is not None for place in places) == 10

    def leave() -> None:
        for place in filter(None, places):
            place.leave()
            place.leave()  # That it is left twice frees no other.
        assert reads.taken == 0

    for _ in range(3):
        leave()
        places = [reads.take() for _ in range(10)]
        assert sum(place is not None for place in places) == 2
    leave()
    for _ in range(10):
        places = [reads.take()]
        leave()
    places = [reads.take() for _ in range(10)]
    assert None not in places
