"""Appends are announced after their commit, together under load, and never fail because of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from temporalio.exceptions import ApplicationError

from activities.publishing import Publishing
from dev.tcp_proxy import TcpProxy, through, unix_socket
from eventlog.announcements import (
    CHANNEL,
    INTERVAL_SECONDS,
    Announcer,
    announce,
    parse_age_seconds,
)
from eventlog.envelope import Batch
from eventlog.postgres import connect_pool, listening
from tests.support.command_builders import new_order_id
from tests.support.event_log import append_unannounced, note

TIMEOUT_S = 60
DELAY_S = 0.1
MARK_MS = 1_000_000  # An age that nothing here has.


class Listener:
    """Hears all announcements; those with a mark as their age show that it does."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._marks = 0
        self.ages_s: list[float] = []

    def hear(self, payload: str) -> None:
        age_s = parse_age_seconds(payload)
        if age_s < MARK_MS / 1000:
            self.ages_s.append(age_s)
        else:
            self._marks += 1

    async def catch_up(self) -> list[float]:
        """The ages of all that was announced before this call, and since the last one."""
        heard_before = self._marks
        async with asyncio.timeout(TIMEOUT_S):
            while self._marks == heard_before:
                await announce(self._pool, MARK_MS)
                await asyncio.sleep(0.05)
        ages_s, self.ages_s = self.ages_s, []
        return ages_s


@asynccontextmanager
async def hearing(dsn: str, pool: asyncpg.Pool) -> AsyncIterator[Listener]:
    listener = Listener(pool)
    async with listening(dsn, CHANNEL, listener.hear):
        await listener.catch_up()
        yield listener


async def test_append_alone_notifies_nothing(dsn: str, pool: asyncpg.Pool) -> None:
    """Otherwise all appends of the cluster would commit one after the other."""
    async with hearing(dsn, pool) as listener:
        await append_unannounced(pool, new_order_id(), note(1))
        assert await listener.catch_up() == []


async def test_published_batch_is_announced_also_when_it_is_repeated(
    dsn: str, pool: asyncpg.Pool
) -> None:
    """The attempt before may have died between its commit and its announcement."""
    publishing, order_id = Publishing(pool), new_order_id()
    async with hearing(dsn, pool) as listener:
        for times in (1, 2):
            await publishing.publish_events(Batch(order_id=order_id, events=[note(1)]))
            async with asyncio.timeout(TIMEOUT_S):
                while len(listener.ages_s) < times:
                    await asyncio.sleep(0.01)
        with pytest.raises(ApplicationError):
            await publishing.publish_events(Batch(order_id=order_id, events=[note(1, "other")]))
        assert len(await listener.catch_up()) == 2


async def test_appends_of_some_milliseconds_are_announced_together(
    dsn: str, pool: asyncpg.Pool
) -> None:
    announcer = Announcer(pool)
    async with hearing(dsn, pool) as listener:
        began = time.monotonic()
        for _ in range(100):
            announcer.announce_soon()
            await asyncio.sleep(INTERVAL_SECONDS / 20)
        intervals = (time.monotonic() - began) / INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        ages_s = await listener.catch_up()
    assert 2 <= len(ages_s) <= intervals + 2
    assert max(ages_s) < TIMEOUT_S


@asynccontextmanager
async def announcing_through(dsn: str) -> AsyncIterator[tuple[Announcer, TcpProxy]]:
    async with (
        TcpProxy(unix_socket(dsn)).listening() as proxy,
        await connect_pool(through(proxy, dsn), 5) as pool,
    ):
        yield Announcer(pool), proxy


async def announce_often(announcer: Announcer) -> None:
    for _ in range(100):
        announcer.announce_soon()
        await asyncio.sleep(0.001)


async def test_announcements_do_not_pile_up_while_postgres_is_slow(
    dsn: str, pool: asyncpg.Pool
) -> None:
    async with hearing(dsn, pool) as listener, announcing_through(dsn) as (announcer, proxy):
        proxy.delay_s = DELAY_S
        began = time.monotonic()
        await announce_often(announcer)
        delays = (time.monotonic() - began) / DELAY_S
        proxy.delay_s = 0
        async with asyncio.timeout(TIMEOUT_S):
            while len(listener.ages_s) < 2:
                await asyncio.sleep(0.01)
        assert len(await listener.catch_up()) <= delays + 2


async def test_unavailable_postgres_costs_only_the_announcements(
    dsn: str, pool: asyncpg.Pool
) -> None:
    async with hearing(dsn, pool) as listener, announcing_through(dsn) as (announcer, proxy):
        proxy.is_refusing = True
        await announce_often(announcer)
        assert await listener.catch_up() == []
        proxy.is_refusing = False
        async with asyncio.timeout(TIMEOUT_S):
            while not listener.ages_s:
                announcer.announce_soon()
                await asyncio.sleep(0.01)
