"""An inbox in Postgres: each event is handled once, in one transaction with its cursor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg

from orderly_consumer.digest import MODULUS, Digest, event_hash, order_hash
from orderly_consumer.events import Event

Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy
Effect = Callable[[Connection, Event], Awaitable[object]]

_DIGITS = 7
_TABLES = """
CREATE TABLE IF NOT EXISTS orderly_consumers (
    consumer text PRIMARY KEY,
    cursor   text,
    events   bigint  NOT NULL DEFAULT 0,
    sum      numeric NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS orderly_inbox (
    consumer   text,
    order_hash integer,  -- The first 7 digits.
    order_id   text,
    version    integer,
    event_hash numeric NOT NULL,
    PRIMARY KEY (consumer, order_hash, order_id, version)
);
"""


class PostgresInbox:
    """The events that one consumer has handled, and how far it has come.

    Several processes may run the same consumer, and webhooks may come beside the feed.
    """

    def __init__(self, pool: asyncpg.Pool, consumer: str) -> None:
        self._pool = pool
        self.consumer = consumer

    async def create_tables(self) -> None:
        """Creates the tables of all inboxes of the database, unless they are there."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('orderly_inbox'))")
            await connection.execute(_TABLES)

    async def cursor(self) -> str | None:
        """Where to resume; None at the beginning."""
        cursor: str | None = await self._pool.fetchval(
            "SELECT cursor FROM orderly_consumers WHERE consumer = $1", self.consumer
        )
        return cursor

    async def digest(self) -> Digest:
        """Of all events that were handled."""
        row = await self._pool.fetchrow(
            "SELECT events, sum FROM orderly_consumers WHERE consumer = $1", self.consumer
        )
        return Digest(row["events"], int(row["sum"])) if row else Digest()

    async def handle(self, event: Event, effect: Effect) -> bool:
        """Runs an effect, and stores that it has run and the cursor, in one transaction.

        Returns False, and does nothing, if the event was handled before, or is a test. If the
        effect raises, nothing is stored.
        """
        if event.version is None:
            return False
        async with self._pool.acquire() as connection, connection.transaction():
            # Another process that handles the same event waits here for the end of this one.
            is_new = await connection.fetchval(
                """
                INSERT INTO orderly_inbox (consumer, order_hash, order_id, version, event_hash)
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING true
                """,
                self.consumer,
                int(order_hash(event.order_id)[:_DIGITS], 16),
                event.order_id,
                event.version,
                event_hash(event.id),
            )
            if is_new:
                await effect(connection, event)
            # Last, since it makes all others wait.
            await self._count(connection, event, is_new=bool(is_new))
        return bool(is_new)

    async def _count(self, connection: Connection, event: Event, *, is_new: bool) -> None:
        await connection.execute(
            """
            INSERT INTO orderly_consumers AS known (consumer, cursor, events, sum)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (consumer) DO UPDATE
            SET cursor = coalesce($2, known.cursor), events = known.events + $3,
                sum = (known.sum + $4) % $5
            """,
            self.consumer,
            event.cursor,
            int(is_new),
            event_hash(event.id) if is_new else 0,
            MODULUS,
        )

    async def digests(self, slice: str) -> dict[str, Digest]:
        """Of the slices within a slice."""
        first, after_last = _hashes_of(slice)
        digits = len(slice) + 1
        rows = await self._pool.fetch(
            """
            SELECT order_hash >> $4 AS child, count(*), sum(event_hash) FROM orderly_inbox
            WHERE consumer = $1 AND order_hash >= $2 AND order_hash < $3 GROUP BY child
            """,
            self.consumer,
            first,
            after_last,
            4 * (_DIGITS - digits),
        )
        return {
            f"{child:0{digits}x}": Digest(count, int(sum) % MODULUS) for child, count, sum in rows
        }

    async def ids_by_order(self, slice: str) -> dict[str, set[str]]:
        """The ids of the events of the orders in a slice."""
        rows = await self._pool.fetch(
            """
            SELECT order_id, version FROM orderly_inbox
            WHERE consumer = $1 AND order_hash >= $2 AND order_hash < $3
            """,
            self.consumer,
            *_hashes_of(slice),
        )
        found: dict[str, set[str]] = defaultdict(set)
        for order_id, version in rows:
            found[order_id].add(f"{order_id}@{version}")
        return found


def _hashes_of(slice: str) -> tuple[int, int]:
    """The first hash of a slice, and the first one after it."""
    bits = 4 * (_DIGITS - len(slice))
    number = int(slice or "0", 16)
    return number << bits, (number + 1) << bits
