"""The intent journal: the inputs of each order, with the events that they caused.

An intent that caused events is in the row of the first of them, and so in the same transaction. One
that caused none, a no-op or a rejection, has a table of its own.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from eventlog.envelope import Ineffective, Metadata, NoOp
from eventlog.intents import Intent, UnreadableIntent, no_op_of, unpack
from eventlog.postgres import Connection, Reader

REJECTIONS_MAX = 100
"""Of one order; later ones are not kept."""
NO_OPS_MAX = 500
"""In a page of an order's log."""
MIGRATION = "0009_intents.sql"
VERSION_MAX = 2**31 - 1
ENTRIES_MAX = 100_000
UNKNOWN = Metadata(actor="unknown", command="unknown", command_id="", payload_hash="")


class Entry(NamedTuple):
    """An intent with its outcome."""

    version: int
    """Of the order that decided on it."""
    decided_at: datetime
    metadata: Metadata
    intent: Intent | None
    """None if it is not readable."""
    code: str | None
    """Of its rejection."""
    is_effective: bool
    """Whether it caused the events after `version`."""


class Entries(NamedTuple):
    """Entries in order, and whether they lack some that are there."""

    entries: list[Entry]
    lacks_no_ops: bool


async def append_ineffective(
    connection: Connection, order_id: str, intents: Sequence[Ineffective]
) -> None:
    """Keeps no-ops, and rejections while the order has fewer than REJECTIONS_MAX of them.

    The same intent again, and the same rejection of a command by the same version, adds nothing.
    """
    await connection.execute(
        """
        INSERT INTO ineffective_intents (order_id, version, decided_at, command_id, code, body)
        SELECT $1, new.* FROM unnest(
            $2::int[], $3::timestamptz[], $4::text[], $5::text[], $6::bytea[]
        ) AS new (version, decided_at, command_id, code, body)
        WHERE code IS NULL
           OR (SELECT count(*) FROM ineffective_intents AS known
               WHERE known.order_id = $1 AND known.code IS NOT NULL) < $7
          AND NOT EXISTS (SELECT FROM ineffective_intents AS known
                          WHERE known.order_id = $1 AND known.code IS NOT NULL
                            AND known.version = new.version
                            AND known.command_id = new.command_id)
        ON CONFLICT DO NOTHING
        """,
        order_id,
        [each.version for each in intents],
        [each.decided_at for each in intents],
        [each.command_id for each in intents],
        [each.code for each in intents],
        [b64decode(each.intent) for each in intents],
        REJECTIONS_MAX,
    )


async def read_entries(
    reader: Reader, order_id: str, after: int, until: int, no_ops_max: int
) -> Entries:
    """What the order decided at the versions from `after` on, below `until`, in order.

    With the newest no-ops only, as their number has no limit; rejections are few. Events from
    before there was a journal have no entry.
    """
    effective = await reader.fetch(
        """
        SELECT version - 1 AS version, occurred_at, metadata, intent, data FROM order_events
        WHERE order_id = $1 AND version > $2 AND version <= $3 AND intent IS NOT NULL
        """,
        order_id,
        after,
        until,
    )
    rejections = await reader.fetch(
        """
        SELECT version, decided_at, code, body FROM ineffective_intents
        WHERE order_id = $1 AND version >= $2 AND version < $3 AND code IS NOT NULL
        """,
        order_id,
        after,
        until,
    )
    no_ops = await reader.fetch(
        """
        SELECT version, decided_at, code, body FROM ineffective_intents
        WHERE order_id = $1 AND version >= $2 AND version < $3 AND code IS NULL
        ORDER BY version DESC, decided_at DESC LIMIT $4
        """,
        order_id,
        after,
        until,
        no_ops_max + 1,
    )
    others = [*rejections, *no_ops[:no_ops_max]]
    entries = [_effective(row) for row in effective] + [_ineffective(row) for row in others]
    entries.sort(key=lambda each: (each.version, each.is_effective, each.decided_at))
    return Entries(entries, len(no_ops) > no_ops_max)


async def read_no_ops(reader: Reader, order_id: str, first: int, last: int) -> list[NoOp]:
    """The newest no-ops of an order at the versions from `first` to `last`, oldest first.

    At most NO_OPS_MAX. One whose entry is damaged is left out.
    """
    rows = await reader.fetch(
        """
        SELECT version, decided_at, command_id, body FROM ineffective_intents
        WHERE order_id = $1 AND version BETWEEN $2 AND $3 AND code IS NULL
        ORDER BY version DESC, decided_at DESC LIMIT $4
        """,
        order_id,
        first,
        last,
        NO_OPS_MAX,
    )
    found = (no_op_of(*row) for row in reversed(rows))
    return [no_op for no_op in found if no_op is not None]


def _effective(row: asyncpg.Record) -> Entry:
    intent = readable(row["intent"], row["data"])
    metadata = Metadata(**row["metadata"])
    return Entry(row["version"], row["occurred_at"], metadata, intent, None, is_effective=True)


def _ineffective(row: asyncpg.Record) -> Entry:
    intent = readable(row["body"])
    metadata = (intent and intent.metadata) or UNKNOWN
    return Entry(
        row["version"], row["decided_at"], metadata, intent, row["code"], is_effective=False
    )


def readable(body: bytes, data: dict[str, Any] | None = None) -> Intent | None:
    """The intent in a body; None if it is damaged."""
    try:
        return unpack(body, data)
    except UnreadableIntent:
        return None


class Gaps(NamedTuple):
    """Events of which the journal has no cause, although it existed when they were appended."""

    causes: int
    orders: int
    example: str

    def __str__(self) -> str:
        others = " and others" if self.orders > 1 else ""
        return (
            f"Decisions of which the journal has only the events: {self.causes:,}, of order"
            f" {self.example}{others}. A worker without a journal appended them, or a restore from"
            " a history without it."
        )


async def find_gaps(reader: Reader) -> Gaps | None:
    """What the journal lacks; None if it is complete."""
    row = await reader.fetchrow(
        """
        SELECT count(*) AS causes, count(DISTINCT order_id) AS orders, min(order_id) AS example
        FROM order_events AS first
        WHERE intent IS NULL
          AND recorded_at >= (SELECT applied_at FROM schema_migrations WHERE name = $1)
          AND NOT EXISTS (
            SELECT FROM order_events AS before
            WHERE before.order_id = first.order_id AND before.version = first.version - 1
              AND before.metadata->>'command_id' = first.metadata->>'command_id')
        """,
        MIGRATION,
    )
    return Gaps(**row) if row and row["causes"] else None


async def find_damaged(reader: Reader, order_id: str) -> list[int]:
    """The versions of an order at which entries of the journal cannot be read."""
    entries, _ = await read_entries(reader, order_id, 0, VERSION_MAX, ENTRIES_MAX)
    return [entry.version for entry in entries if entry.intent is None]


async def count_entries(reader: Reader) -> int:
    """The number of all entries."""
    count: int = await reader.fetchval(
        "SELECT (SELECT count(intent) FROM order_events)"
        " + (SELECT count(*) FROM ineffective_intents)"
    )
    return count
