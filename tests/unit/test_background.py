"""What waits to be written is written before a process ends, unless that takes too long."""

from __future__ import annotations

import asyncio

import pytest

import background
from background import WRITTEN_AT_ONCE, BatchWriter


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
    async with asyncio.timeout(5), writer.running():
        for entry in range(WRITTEN_AT_ONCE + 3):
            writer.add(entry)
        await store.has_begun.wait()
    assert store.written == []
    assert store.dropped == [(WRITTEN_AT_ONCE + 3, "the process ends")]
