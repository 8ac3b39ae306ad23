"""What a worker keeps in memory follows from what it may use; collections wait until it is idle."""

from __future__ import annotations

import asyncio
import gc
import resource
from pathlib import Path

import pytest

import worker_memory
from worker_memory import (
    ORDERS_MAX,
    ORDERS_MIN,
    ROUNDS_MAX,
    ROUNDS_WHEN_IDLE,
    collecting,
    is_due,
    memory_limit,
    orders_to_keep,
    rounds_before_collection,
)

MB = 1_000_000


def test_orders_in_memory_leave_room_for_the_rest() -> None:
    limits = [64 * MB, 128 * MB, 256 * MB, 512 * MB, 1_000 * MB, 64_000 * MB]
    kept = [orders_to_keep(limit) for limit in limits]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (ORDERS_MIN, ORDERS_MAX)
    assert 100 < orders_to_keep(512 * MB) < ORDERS_MAX


def test_less_garbage_may_gather_in_less_memory() -> None:
    rounds = [rounds_before_collection(limit) for limit in (64 * MB, 512 * MB, 64_000 * MB)]
    assert rounds == sorted(rounds)
    assert (rounds[0], rounds[-1]) == (ROUNDS_WHEN_IDLE, ROUNDS_MAX)


@pytest.mark.parametrize("file", ["memory.max", "memory.limit_in_bytes"])
def test_limit_of_the_container_counts(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / file
    monkeypatch.setattr(worker_memory, "_CGROUP_LIMITS", [tmp_path / "absent", limit])
    machine = memory_limit()
    limit.write_text(f"{512 * MB}\n")
    assert memory_limit() == 512 * MB < machine
    limit.write_text("max\n")
    assert memory_limit() == machine


def test_resource_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = (512 * MB, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    assert memory_limit() == 512 * MB


@pytest.mark.parametrize(
    ("rounds", "share", "due"),
    [
        (ROUNDS_WHEN_IDLE, 0.0, True),
        (ROUNDS_WHEN_IDLE - 1, 0.0, False),
        (ROUNDS_MAX, 0.9, False),
    ],
)
def test_collection_is_due_when_idle_with_garbage(rounds: int, share: float, due: bool) -> None:
    assert is_due(rounds, share) is due


async def test_idle_worker_collects(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, collected = gc.get_threshold(), asyncio.Event()
    monkeypatch.setattr(worker_memory, "CHECK_SECONDS", 0.001)
    monkeypatch.setattr(worker_memory, "is_due", lambda rounds, share: True)
    monkeypatch.setattr(gc, "collect", collected.set)
    async with collecting(512 * MB), asyncio.timeout(60):
        assert gc.get_threshold() == (*usual[:2], rounds_before_collection(512 * MB))
        await collected.wait()
    assert gc.get_threshold() == usual
