"""Entries are written before a process ends, unless that takes too long; a read is shared."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest

import background
from background import WRITTEN_AT_ONCE, BatchWriter, SharedRead


class Store:
    """Written entries; each write first waits until it may go on."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.dropped: list[tuple[int, str]] = []
        self.has_begun = asyncio.Event()
        self.may_write = asyncio.Event()

    async def write(self, entries: list[int]) -> None:
        self.has_begun.set()
        await self.may_write.wait()
        self.written += entries

    def drop(self, count: int, reason: str) -> None:
        self.dropped.append((count, reason))


@pytest.fixture
async def store() -> Store:
    return Store()


async def test_batch_that_is_being_written_at_the_end_is_written_as_is_what_waits(
    store: Store,
) -> None:
    writer = BatchWriter(store.write, store.drop)
    count = 2 * WRITTEN_AT_ONCE + 3
    async with writer.running():
        for entry in range(count):
            writer.add(entry)
        await store.has_begun.wait()
        asyncio.get_running_loop().call_soon(store.may_write.set)
    assert store.written == list(range(count))
    assert store.dropped == []


async def test_what_cannot_be_written_in_time_is_dropped_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "END_SECONDS_MAX", 0.05)
    writer = BatchWriter(store.write, store.drop)
    async with asyncio.timeout(30), writer.running():
        for entry in range(WRITTEN_AT_ONCE + 3):
            writer.add(entry)
        await store.has_begun.wait()
    assert store.written == []
    assert store.dropped == [(WRITTEN_AT_ONCE + 3, "the process ends")]


async def test_entries_after_a_batch_that_fails_are_written(store: Store) -> None:
    written: list[list[int]] = []

    async def write(entries: list[int]) -> None:
        written.append(entries)
        if len(written) == 1:
            raise ValueError("one")

    writer = BatchWriter(write, store.drop)
    async with writer.running():
        writer.add(1)
        while not store.dropped:
            await asyncio.sleep(0)
        writer.add(2)
    assert written == [[1], [2]]
    assert store.dropped == [(1, "ValueError")]


class Reading:
    """A read that counts how often it is done; each waits until it may go on."""

    def __init__(self) -> None:
        self.count = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        self.count += 1
        await self.may_end.wait()
        return self.count


async def test_callers_share_the_read_that_is_under_way() -> None:
    reading, shared = Reading(), SharedRead[int](seconds=0.0)
    callers = [asyncio.create_task(shared.get(reading)) for _ in range(50)]
    await asyncio.sleep(0.01)
    callers[0].cancel()
    reading.may_end.set()
    assert await asyncio.gather(*callers[1:]) == [1] * 49, "the first one has gone"
    assert await shared.get(reading) == 2


async def test_result_is_kept_until_it_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, shared = Reading(), SharedRead[int](seconds=1.0)
    reading.may_end.set()
    clock = Mock()
    monkeypatch.setattr(background, "monotonic", clock)
    for now, expected in ((100.0, 1), (100.9, 1), (101.0, 2), (101.9, 2), (150.0, 3)):
        clock.return_value = now
        assert await shared.get(reading) == expected


async def test_read_that_failed_is_repeated_later(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, now = SharedRead[int](seconds=1.0), 100.0
    monkeypatch.setattr(background, "monotonic", lambda: now)

    async def fail() -> int:
        raise OSError("no route")

    for _ in range(2):
        with pytest.raises(OSError, match="no route"):
            await shared.get(fail)
    now = 101.0
    reading = Reading()
    reading.may_end.set()
    assert await shared.get(reading) == 1
