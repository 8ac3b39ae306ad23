"""Workers are present while their heartbeats change, even if clocks are wrong."""

from __future__ import annotations

from typing import cast

import pytest
from temporalio.api.enums.v1 import WorkerStatus
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.client import Client

from workflows import worker_heartbeats
from workflows.worker_heartbeats import ABSENT_AFTER_SECONDS, Workers


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(worker_heartbeats, "time", clock)
    return clock


@pytest.fixture
def workers(clock: Clock) -> Workers:
    return Workers(cast(Client, None), "orders")


def heartbeat(
    worker: str, sent_at: int, status: int = WorkerStatus.WORKER_STATUS_RUNNING
) -> WorkerHeartbeat:
    sent = WorkerHeartbeat(worker_instance_key=worker, status=cast(WorkerStatus.ValueType, status))
    sent.heartbeat_time.FromSeconds(sent_at)
    return sent


def test_unknown_until_temporal_has_listed_them(workers: Workers) -> None:
    assert workers.present() is None
    workers.remember([])
    assert workers.present() == 0


def test_worker_is_present_while_its_heartbeats_change(workers: Workers, clock: Clock) -> None:
    for sent_at in (7, 7, 11, 3):  # Its clock may be set back.
        workers.remember([heartbeat("one", sent_at), heartbeat("two", sent_at)])
        clock.now += ABSENT_AFTER_SECONDS / 2
    assert workers.present() == 2


def test_frozen_worker_is_absent_although_temporal_lists_it(workers: Workers, clock: Clock) -> None:
    for _ in range(6):
        workers.remember([heartbeat("frozen", 7)])
        clock.now += 2
    assert workers.present() == 0
    assert workers.silence_seconds() == 12
    workers.remember([heartbeat("frozen", 7), heartbeat("new", 9)])
    assert workers.present() == 1


def test_stopped_worker_is_absent_at_once(workers: Workers) -> None:
    workers.remember([heartbeat("one", 7)])
    workers.remember([heartbeat("one", 8, WorkerStatus.WORKER_STATUS_SHUTTING_DOWN)])
    assert workers.present() == 0


def test_restarted_temporal_that_lists_nothing_yet_makes_none_absent(
    workers: Workers, clock: Clock
) -> None:
    workers.remember([heartbeat("one", 7)])
    clock.now += 5
    workers.remember([])
    assert workers.present() == 1
    clock.now += 600
    assert workers.present() is None, "Temporal does not answer"
    workers.remember([])
    assert (workers.present(), workers.silence_seconds()) == (0, 0), "they have had no chance yet"
