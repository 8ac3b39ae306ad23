"""Keeps digests as the log grows: block by block, each of events that are settled.

No row of them ever changes. Any process may add a block, since all would add the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg

from background import wait_at_most
from eventlog import digests, log
from eventlog.digests import HASH_DIGITS, LEVELS, digits_of
from eventlog.log import START, Checkpoint
from eventlog.postgres import UNAVAILABLE, Connection, Reader, connect

BLOCK_EVENTS = 4_096
"""Of a block of level 0."""
# Inserted by one statement: until it ends, it holds back the watermark.
ROWS_MAX = 1_000
POLL_SECONDS = 2.0
RETRY_SECONDS = 5.0
# A process that is frozen loses the lock to others after this time.
IDLE_SECONDS_MAX = 12
_LOCK = 7_306_093_654  # An arbitrary key: one process at a time adds blocks.

logger = logging.getLogger("orderly.digests")


class Sum(NamedTuple):
    """Of the events of one type in one slice of a block."""

    slice: int
    type: str
    events: int
    sum: int


class Block(NamedTuple):
    """A run of events in commit order."""

    level: int
    number: int
    end: Checkpoint
    """Of its last event."""

    def __str__(self) -> str:
        size = BLOCK_EVENTS * digests.LEVEL_FACTOR**self.level
        first, last = self.number * size + 1, (self.number + 1) * size
        return (
            f"digest of events {first:,} to {last:,}: is not that of the log; after `TRUNCATE"
            " digest_blocks, digest_sums` the projector computes all digests again"
        )


async def run(dsn: str, stopped: asyncio.Event) -> None:
    """Adds blocks until `stopped`, in one process at a time; after an error it retries."""
    while not stopped.is_set():
        try:
            connection = await connect(dsn, idle_seconds_max=IDLE_SECONDS_MAX)
            try:
                await _follow(connection, stopped)
            finally:
                connection.terminate()
        except UNAVAILABLE as error:
            logger.warning("Postgres is unavailable, retrying: %r", error)
        except asyncpg.PostgresError:
            logger.exception("digests are not kept for the moment")
        await wait_at_most(RETRY_SECONDS, stopped)


async def _follow(connection: Connection, stopped: asyncio.Event) -> None:
    while not stopped.is_set():
        if await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            break
        await wait_at_most(RETRY_SECONDS, stopped)
    while not stopped.is_set():
        if not await add_block(connection):
            await wait_at_most(POLL_SECONDS, stopped)


async def add_block(connection: Connection) -> bool:
    """Adds the next block of which all events are there and settled; returns whether it did."""
    counts = [await _count(connection, level) for level in range(LEVELS)]
    for level in range(1, LEVELS):
        parts = (counts[level] + 1) * digests.LEVEL_FACTOR
        if counts[level - 1] >= parts:
            end = await _end(connection, level - 1, parts - 1)
            await _add(connection, Block(level, counts[level], end))
            return True
    after = await _end(connection, 0, counts[0] - 1)
    bound = await log.scan_bound(connection, after, BLOCK_EVENTS)
    if bound is None:
        return False
    await _add(connection, Block(0, counts[0], bound.at))
    return True


async def find_wrong(reader: Reader) -> AsyncIterator[Block]:
    """The blocks whose sums are not those of their events."""
    for level in range(LEVELS):
        for number in range(await _count(reader, level)):
            block = Block(level, number, await _end(reader, level, number))
            kept = await reader.fetch(
                "SELECT slice, type, events, sum FROM digest_sums WHERE level = $1 AND number = $2",
                level,
                number,
            )
            if {*map(_sum, kept)} != {*await _sums(reader, block)}:
                yield block


async def _count(reader: Reader, level: int) -> int:
    """How many blocks of a level there are."""
    last = "SELECT number FROM digest_blocks WHERE level = $1 ORDER BY number DESC LIMIT 1"
    number: int | None = await reader.fetchval(last, level)
    return 0 if number is None else number + 1


async def _end(reader: Reader, level: int, number: int) -> Checkpoint:
    """The checkpoint of a block's last event; START before the first block."""
    if number < 0:
        return START
    row = await reader.fetchrow(
        "SELECT transaction_id, position FROM digest_blocks WHERE level = $1 AND number = $2",
        level,
        number,
    )
    assert row is not None
    return Checkpoint(*row)


async def _add(connection: Connection, block: Block) -> None:
    """Adds a block: its sums, and then its row, without which they do not count."""
    sums = await _sums(connection, block)
    for first in range(0, len(sums), ROWS_MAX):
        await connection.execute(
            """
            INSERT INTO digest_sums (level, number, slice, type, events, sum)
            SELECT $1, $2, new.* FROM unnest(
                $3::smallint[], $4::text[], $5::bigint[], $6::numeric[]
            ) AS new
            ON CONFLICT DO NOTHING
            """,
            block.level,
            block.number,
            *[list(column) for column in zip(*sums[first : first + ROWS_MAX], strict=True)],
        )
    await connection.execute(
        "INSERT INTO digest_blocks (level, number, transaction_id, position)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        block.level,
        block.number,
        *block.end,
    )


async def _sums(reader: Reader, block: Block) -> list[Sum]:
    """The sums of a block: of its events, or of the blocks within it that have slices as small."""
    if digits_of(block.level) == digits_of(block.level - 1):
        rows = await reader.fetch(
            """
            SELECT slice, type, sum(events)::bigint, sum(sum) FROM digest_sums
            WHERE level = $1 AND number >= $2 AND number < $3 GROUP BY slice, type
            """,
            block.level - 1,
            block.number * digests.LEVEL_FACTOR,
            (block.number + 1) * digests.LEVEL_FACTOR,
        )
    else:
        rows = await reader.fetch(
            """
            SELECT (order_hash(order_id) >> $1)::smallint AS slice, type, count(*),
                   sum(event_hash(order_id, version))
            FROM order_events
            WHERE (transaction_id, position) > ($2, $3) AND (transaction_id, position) <= ($4, $5)
            GROUP BY slice, type
            """,
            4 * (HASH_DIGITS - digits_of(block.level)),
            *await _end(reader, block.level, block.number - 1),
            *block.end,
        )
    return [_sum(row) for row in rows]


def _sum(row: asyncpg.Record) -> Sum:
    return Sum(row[0], row[1], row[2], int(row[3]))
