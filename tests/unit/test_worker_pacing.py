"""A worker takes stuck steps faster while that succeeds, and slower while other tasks wait."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import accumulate, repeat
from typing import Any

import pytest
from temporalio.worker import SlotReleaseContext

import worker_pacing
from worker_pacing import (
    PER_SECOND_FIRST,
    PER_SECOND_MAX,
    PER_SECOND_MIN,
    WAIT_SECONDS_MAX,
    PacedSlots,
    TaskWaits,
    adjusted,
)

CONTEXT: Any = None  # It says which worker asks, which is of no interest here.
SKEW = 3_600.0


def rates(wait: float, count: int, first: float = PER_SECOND_FIRST) -> list[float]:
    """The rates after each of `count` adjustments during which calls succeeded."""
    return list(
        accumulate(repeat(wait, count), lambda rate, w: adjusted(rate, 1, 0, w), initial=first)
    )


def test_rate_grows_to_its_limit_while_calls_succeed_and_nothing_waits() -> None:
    found = rates(0.0, 100)
    assert found == sorted(found)
    assert found[-1] == PER_SECOND_MAX


def test_rate_grows_more_slowly_the_longer_other_tasks_wait() -> None:
    idle, busy, full = (rates(share * WAIT_SECONDS_MAX, 10)[-1] for share in (0, 0.5, 1))
    assert idle > busy > full == PER_SECOND_FIRST


def test_rate_falls_to_its_least_while_other_tasks_wait() -> None:
    found = rates(2 * WAIT_SECONDS_MAX, 20, PER_SECOND_MAX)
    assert found == sorted(found, reverse=True)
    assert found[-1] == PER_SECOND_MIN


def test_rate_begins_again_once_all_calls_fail() -> None:
    assert adjusted(PER_SECOND_MAX, 0, 1, 0.0) == PER_SECOND_FIRST
    assert adjusted(PER_SECOND_MIN, 0, 1, 0.0) == PER_SECOND_MIN
    assert adjusted(PER_SECOND_FIRST, 1, 9, 0.0) > PER_SECOND_FIRST


def test_rate_stays_while_a_slow_service_answers_none() -> None:
    assert adjusted(20.0, 0, 0, 0.0) == 20.0
    assert adjusted(20.0, 0, 0, 2 * WAIT_SECONDS_MAX) == 20.0


@pytest.mark.parametrize("skew", [-SKEW, 0, SKEW])
def test_wait_counts_from_the_shortest_whatever_the_clocks_say(skew: float) -> None:
    waits = TaskWaits()
    assert waits.lately() == 0
    for seconds in (0.005, 0.025, 0.065):
        waits.add(skew + seconds)
    assert waits.lately() == pytest.approx(0.020, abs=0.001)


def test_wait_of_a_moment_ago_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = TaskWaits()
    waits.add(0.0)
    waits.add(1.0)
    monkeypatch.setattr(worker_pacing, "LATELY_SECONDS", -1)
    assert waits.lately() == 0


async def test_slots_are_given_at_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pacing, "PER_SECOND_FIRST", 20.0)
    slots = PacedSlots("stock", 10, TaskWaits())
    began = time.monotonic()
    for _ in range(5):
        await slots.reserve_slot(CONTEXT)
    assert time.monotonic() - began >= 4 / 20.0


async def test_slot_is_given_again_once_another_thread_releases_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_pacing, "PER_SECOND_FIRST", 1_000.0)
    slots = PacedSlots("stock", 2, TaskWaits())
    first, _ = [await slots.reserve_slot(CONTEXT) for _ in range(2)]
    waiting = asyncio.create_task(slots.reserve_slot(CONTEXT))
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done, "both slots are taken"
    released = SlotReleaseContext(slot_info=None, permit=first)
    threading.Thread(target=slots.release_slot, args=(released,)).start()
    async with asyncio.timeout(60):
        await waiting
