"""When an endpoint is down, and when it is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outbound.webhooks.health import DOWN_AFTER_FAILURES, Health, Pace
from outbound.webhooks.poster import Answer, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PACE = Pace(first_pause_seconds=1, pause_seconds_max=3600)
HOUR = timedelta(hours=1)


def answer(verdict: Verdict, retry_after: timedelta | None = None) -> Answer:
    return Answer(500, "answered 500", "", 1, verdict, retry_after)


REJECTED, UNREACHABLE = answer(Verdict.REJECTED), answer(Verdict.UNREACHABLE)


def test_single_rejections_are_about_orders() -> None:
    health = Health()
    for _ in range(3):
        for _ in range(DOWN_AFTER_FAILURES - 1):
            health.record_failure(REJECTED, NOW, PACE)
        assert not health.is_down
        health.record_success(NOW)
    assert health.failures == 0 and health.last_success_at == NOW


def test_rejections_in_a_row_are_about_the_endpoint() -> None:
    health = Health()
    for _ in range(DOWN_AFTER_FAILURES):
        health.record_failure(REJECTED, NOW, PACE)
    assert health.is_down and health.failing_since == NOW


def test_endpoint_that_cannot_be_reached_is_down_at_once() -> None:
    health = Health()
    health.record_failure(UNREACHABLE, NOW, PACE)
    assert health.next_try_at is not None
    assert NOW < health.next_try_at <= NOW + timedelta(seconds=1)


def test_failures_that_were_under_way_do_not_lengthen_the_pause() -> None:
    health = Health()
    health.record_failure(UNREACHABLE, NOW, PACE)
    next_try_at, failures = health.next_try_at, health.failures
    for _ in range(10):
        health.record_failure(UNREACHABLE, NOW, PACE)
    assert (health.next_try_at, health.failures) == (next_try_at, failures)


def probed(health: Health, last: Answer, times: int) -> timedelta:
    """The pause after a number of failed probes."""
    now = NOW
    for _ in range(times):
        now = health.next_try_at or now
        health.record_failure(last, now, PACE)
    assert health.next_try_at is not None
    return health.next_try_at - now


def test_pauses_grow_from_a_second_to_the_maximum_and_have_no_end() -> None:
    pauses = [probed(Health(), UNREACHABLE, times) for times in (1, 2, 5, 8, 100, 10_000)]
    for pause, most in zip(pauses, (1, 2, 16, 128, 3600, 3600), strict=True):
        assert timedelta(seconds=most / 2) <= pause <= timedelta(seconds=most)


def test_endpoint_that_rejects_is_probed_at_least_once_a_minute() -> None:
    assert probed(Health(), REJECTED, 100) <= timedelta(minutes=1)


def test_longer_pause_that_the_endpoint_asks_for_is_kept() -> None:
    asking = answer(Verdict.UNREACHABLE, 3 * HOUR)
    assert probed(Health(), asking, 1) == 3 * HOUR
    assert PACE.pause(1, asking) == 3 * HOUR
    health = Health()
    health.record_failure(UNREACHABLE, NOW, PACE)
    health.record_failure(asking, NOW, PACE)  # It was under way.
    assert health.next_try_at == NOW + 3 * HOUR


def test_success_ends_an_outage() -> None:
    health = Health()
    probed(health, UNREACHABLE, 5)
    health.record_success(NOW)
    assert (health.is_down, health.failing_since, health.failures) == (False, None, 0)
    assert probed(health, UNREACHABLE, 1) <= timedelta(seconds=1), "the pauses begin again"


def test_operator_can_have_it_tried_now() -> None:
    health = Health()
    probed(health, UNREACHABLE, 8)
    health.resume(NOW, NOW + HOUR)
    assert health.next_try_at == NOW + HOUR


@pytest.mark.parametrize("attempts", [1, 5, 50])
def test_pauses_have_jitter(attempts: int) -> None:
    assert len({PACE.pause(attempts, UNREACHABLE) for _ in range(20)}) > 10
