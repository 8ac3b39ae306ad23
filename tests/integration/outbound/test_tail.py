"""The end of the log is read only while there is an endpoint."""

from __future__ import annotations

import asyncio

import asyncpg

from background import in_background
from eventlog.log import settled_head
from outbound.webhooks.tail import Tail, TailPage
from tests.support.event_log import append, note

WAIT_SECONDS = 30


async def test_tail_begins_at_the_end_of_the_log_whenever_it_is_wanted_again(
    pool: asyncpg.Pool,
) -> None:
    pages = asyncio.Queue[TailPage]()
    tail = Tail(pool, pages.put_nowait)
    await append(pool, "before", note(1))
    async with in_background(tail.follow()), asyncio.timeout(WAIT_SECONDS):
        for count in range(3):
            tail.want(True)
            while not tail.is_at_end(await settled_head(pool)):
                await asyncio.sleep(0.01)
            begin = await settled_head(pool)
            await append(pool, f"offered-{count}", note(1))
            tail.wake()
            assert (await pages.get()).begin == begin
            tail.want(False)
            await append(pool, f"unread-{count}", note(1))
            tail.wake()
    assert pages.empty()
