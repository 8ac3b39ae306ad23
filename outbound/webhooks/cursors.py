"""How far delivery has come, in Postgres: cursors, parked orders, health, and every attempt.

All of it moves in one transaction, by compare-and-set: a process that has lost an endpoint to
another one changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from eventlog.log import Checkpoint
from eventlog.postgres import Connection, Reader
from outbound.webhooks.health import Health
from outbound.webhooks.poster import Answer

ERROR_CHARACTERS_MAX = 300


class CursorLost(Exception):
    """The cursor was deleted, or another process has moved it."""


@dataclass(frozen=True)
class Cursor:
    """A position in the log up to which an endpoint has all events, or has them parked."""

    cursor_id: str
    endpoint_id: str
    epoch: int
    at: Checkpoint
    until: Checkpoint | None
    """Where a replay ends; None for the cursor that follows the log for ever."""
    event_ids: frozenset[str] | None
    """The events of a replay that names them; None: all that the endpoint's filter matches."""
    revision: int


@dataclass
class ParkedOrder:
    """An order whose next event, `version`, the endpoint did not accept."""

    version: int
    attempts: int
    error: str
    parked_at: datetime
    next_try_at: datetime


class Attempt(NamedTuple):
    """One request to an endpoint, and what came of it."""

    event_id: str
    event_type: str
    attempted_at: datetime
    latency_ms: int
    status: int | None
    error: str | None
    answer: str
    next_try_at: datetime | None

    @classmethod
    def of(
        cls, event_id: str, type: str, began: datetime, answer: Answer, next_try_at: datetime | None
    ) -> Attempt:
        error = answer.error and answer.error[:ERROR_CHARACTERS_MAX]
        latency_ms, status = answer.latency_ms, answer.status
        return cls(event_id, type, began, latency_ms, status, error, answer.body, next_try_at)


class Progress(NamedTuple):
    """What has happened since the last commit."""

    at: Checkpoint
    attempts: Sequence[Attempt]
    parked: dict[str, ParkedOrder]
    """Orders that were parked, or tried again in vain, by id."""
    unparked: Collection[str]
    is_finished: bool
    """Whether a replay has come to its end, so that its cursor is deleted."""


class SkippedTo(NamedTuple):
    """The position of a cursor that has only skipped events which its filter excludes."""

    cursor_id: str
    revision: int
    epoch: int
    transaction_id: int
    position: int


async def load(reader: Reader, endpoint_ids: Collection[str]) -> list[Cursor]:
    """The cursors of some endpoints."""
    rows = await reader.fetch(
        "SELECT * FROM webhook_cursors WHERE endpoint_id = ANY($1) ORDER BY created_at",
        list(endpoint_ids),
    )
    return [_cursor(row) for row in rows]


async def load_parked(reader: Reader, cursor_id: str) -> dict[str, ParkedOrder]:
    """The parked orders of a cursor, by id."""
    rows = await reader.fetch(
        "SELECT order_id, version, attempts, error, parked_at, next_try_at"
        " FROM webhook_parked_orders WHERE cursor_id = $1",
        cursor_id,
    )
    return {row["order_id"]: ParkedOrder(*row[1:]) for row in rows}


_HEALTH = "failures, failing_since, next_try_at, probes, last_error, last_success_at, resumed_at"


async def load_health(reader: Reader, endpoint_id: str) -> Health:
    row = await reader.fetchrow(
        f"SELECT {_HEALTH} FROM webhook_health WHERE endpoint_id = $1", endpoint_id
    )
    return Health(*row) if row else Health()


async def commit(
    connection: Connection, cursor: Cursor, revision: int, progress: Progress, health: Health
) -> None:
    """Stores progress in one transaction; raises CursorLost."""
    if not (progress.parked or progress.unparked or progress.is_finished):
        await _move(connection, cursor, revision, progress, health)
        return
    async with connection.transaction():
        await _move(connection, cursor, revision, progress, health)
        if progress.parked:
            await _park(connection, cursor.cursor_id, progress.parked)
        if progress.unparked:
            await connection.execute(
                "DELETE FROM webhook_parked_orders WHERE cursor_id = $1 AND order_id = ANY($2)",
                cursor.cursor_id,
                list(progress.unparked),
            )
        if progress.is_finished:
            await connection.execute(
                "DELETE FROM webhook_cursors WHERE cursor_id = $1", cursor.cursor_id
            )


async def _move(
    connection: Connection, cursor: Cursor, revision: int, progress: Progress, health: Health
) -> None:
    """Moves the cursor, and records the attempts, in one statement."""
    failed = sum(attempt.error is not None for attempt in progress.attempts)
    is_moved = await connection.fetchval(
        f"""
        WITH present AS MATERIALIZED (
            -- Before the rows that a deletion locks after this one: or the two could deadlock.
            SELECT endpoint_id FROM webhook_endpoints WHERE endpoint_id = $1 FOR KEY SHARE
        ), moved AS (
            UPDATE webhook_cursors AS cursor
            SET epoch = $4, transaction_id = $5, position = $6, revision = revision + 1
            FROM present WHERE cursor_id = $2 AND revision = $3 RETURNING present.endpoint_id
        ), judged AS (
            UPDATE webhook_health AS health
            SET ({_HEALTH}) = ($7, $8, $9, $10, $11, $12, $13),
                delivered = delivered + $14, failed = failed + $15
            FROM moved WHERE health.endpoint_id = moved.endpoint_id
        ), recorded AS (
            INSERT INTO webhook_deliveries ({_ATTEMPT})
            SELECT moved.endpoint_id, new.* FROM moved, {_unnested_attempts(16)}
        )
        SELECT true FROM moved
        """,
        cursor.endpoint_id,
        cursor.cursor_id,
        revision,
        cursor.epoch,
        *progress.at,
        health.failures,
        health.failing_since,
        health.next_try_at,
        health.probes,
        health.last_error,
        health.last_success_at,
        health.resumed_at,
        len(progress.attempts) - failed,
        failed,
        *_columns(progress.attempts),
    )
    if not is_moved:
        raise CursorLost


async def store_skipped(owner: Connection, skipped: Sequence[SkippedTo]) -> None:
    """Moves cursors that were not moved otherwise meanwhile.

    Without a new revision, so that it must run on the connection that owns the endpoints.
    """
    await owner.execute(
        """
        UPDATE webhook_cursors AS cursor
        SET epoch = skipped.epoch, transaction_id = skipped.transaction_id,
            position = skipped.position
        FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::xid8[], $5::bigint[])
            AS skipped (cursor_id, revision, epoch, transaction_id, position)
        WHERE cursor.cursor_id = skipped.cursor_id AND cursor.revision = skipped.revision
        """,
        *([*column] for column in zip(*skipped, strict=True)),
    )


async def store_attempts(
    reader: Reader, endpoint_id: str, attempts: Sequence[Attempt]
) -> list[int]:
    """Adds attempts to the deliveries of an endpoint; returns their ids."""
    rows = await reader.fetch(
        f"INSERT INTO webhook_deliveries ({_ATTEMPT}) SELECT $1, new.* FROM {_unnested_attempts(2)}"
        " RETURNING delivery_id",
        endpoint_id,
        *_columns(attempts),
    )
    return [row["delivery_id"] for row in rows]


_ATTEMPT_TYPES = "text", "text", "timestamptz", "int", "int", "text", "text", "timestamptz"
_ATTEMPT = f"endpoint_id, {', '.join(Attempt._fields)}"


def _unnested_attempts(first: int) -> str:
    """A table of the columns that are the parameters from `first` on."""
    columns = (f"${first + n}::{type}[]" for n, type in enumerate(_ATTEMPT_TYPES))
    return f"unnest({', '.join(columns)}) AS new"


def _columns(attempts: Sequence[Attempt]) -> list[list[Any]]:
    rows = zip(*attempts, strict=True) if attempts else ([] for _ in Attempt._fields)
    return [[*column] for column in rows]


async def _park(connection: Connection, cursor_id: str, parked: dict[str, ParkedOrder]) -> None:
    rows = [
        (order_id, one.version, one.attempts, one.error, one.parked_at, one.next_try_at)
        for order_id, one in parked.items()
    ]
    await connection.execute(
        """
        INSERT INTO webhook_parked_orders
            (cursor_id, order_id, version, attempts, error, parked_at, next_try_at)
        SELECT $1, new.* FROM unnest(
            $2::text[], $3::int[], $4::int[], $5::text[], $6::timestamptz[], $7::timestamptz[]
        ) AS new
        ON CONFLICT (cursor_id, order_id) DO UPDATE
        SET (version, attempts, error, next_try_at)
            = (excluded.version, excluded.attempts, excluded.error, excluded.next_try_at)
        """,
        cursor_id,
        *[list(column) for column in zip(*rows, strict=True)],
    )


def _cursor(row: asyncpg.Record) -> Cursor:
    until, ids = row["until_transaction_id"], row["event_ids"]
    return Cursor(
        cursor_id=row["cursor_id"],
        endpoint_id=row["endpoint_id"],
        epoch=row["epoch"],
        at=Checkpoint(row["transaction_id"], row["position"]),
        until=None if until is None else Checkpoint(until, row["until_position"]),
        event_ids=None if ids is None else frozenset(ids),
        revision=row["revision"],
    )
