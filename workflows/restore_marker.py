"""A token that Postgres and Temporal both carry: if they differ, one of them was restored.

In Temporal it is the memo of a workflow that never runs, with the identity of the log beside it.
The identity changes with every recovery of Postgres to a point in time, with every promotion and
with every dump that is restored. The token is replaced every few minutes, so that it also shows a
copy of the data directory and a Temporal that is older. No command and no event touches it.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import NamedTuple

import asyncpg
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from eventlog.epochs import raise_epoch
from eventlog.postgres import Connection, Reader

WORKFLOW_TYPE = "RestoreMarker"
RENEWAL_SECONDS = 600
_LOCK = 7_306_093_655  # An arbitrary key: one process replaces the token at a time.
_NEVER = timedelta(days=36_500)


class Markers(NamedTuple):
    """What each side says."""

    identity: str | None
    """Of the log; None if this Postgres is a standby."""
    current: str
    """The token that Temporal has, according to Postgres; empty before the first."""
    next: str
    """The token that replaces it at this moment, or the same."""
    temporal_identity: str | None
    temporal_token: str | None

    @property
    def difference(self) -> str | None:
        """Which side was restored, as far as the markers show; None if neither was."""
        if self.identity is None:
            return None
        if self.temporal_token is None:
            return "Temporal has no trace of this log" if self.current else None
        if self.identity != self.temporal_identity:
            return "Postgres is not the one that Temporal knows, or was recovered or promoted"
        if self.temporal_token not in (self.current, self.next):
            return "Postgres or Temporal is as it was at an earlier time"
        return None


async def read_markers(reader: Reader, client: Client, task_queue: str) -> Markers:
    """Raises RPCError."""
    identity = await _identity(reader)
    row = await reader.fetchrow(
        "SELECT current, next FROM restore_marker WHERE task_queue = $1", task_queue
    )
    memo = await _memo(client, task_queue)
    current, next_ = row or ("", "")
    return Markers(identity, current, next_, memo.get("log"), memo.get("token"))


async def renew(pool: asyncpg.Pool, client: Client, task_queue: str, age_seconds: float) -> None:
    """Replaces the token on both sides, if it is older than `age_seconds`; raises RPCError.

    One process does at a time. Between the two sides, Postgres takes both tokens for Temporal's.
    """
    async with pool.acquire() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
            return
        try:
            await _renew(connection, client, task_queue, age_seconds)
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def accept(pool: asyncpg.Pool, client: Client, task_queue: str, reason: str) -> bool:
    """Takes both sides as they are for the truth, if one was restored; False if neither was.

    The log begins another epoch: readers that were further notice. Raises RPCError.
    """
    if (await read_markers(pool, client, task_queue)).difference is None:
        return False
    async with pool.acquire() as connection:
        await raise_epoch(connection, reason)
    await renew(pool, client, task_queue, 0)
    return True


async def _renew(
    connection: Connection, client: Client, task_queue: str, age_seconds: float
) -> None:
    token = secrets.token_hex(8)
    is_due = await connection.fetchval(
        """
        INSERT INTO restore_marker AS m (task_queue, current, next, renewed_at)
        VALUES ($1, '', $2, clock_timestamp())
        ON CONFLICT (task_queue) DO UPDATE SET next = $2, renewed_at = clock_timestamp(),
            -- The last replacement may have been interrupted after Temporal had its token.
            current = CASE WHEN m.next = $4 THEN m.next ELSE m.current END
        WHERE m.renewed_at <= clock_timestamp() - make_interval(secs => $3)
        RETURNING true
        """,
        task_queue,
        token,
        age_seconds,
        (await _memo(client, task_queue)).get("token"),
    )
    if not is_due:
        return
    await client.start_workflow(
        WORKFLOW_TYPE,
        id=_marker_id(task_queue),
        task_queue=f"{task_queue}-restore-marker",
        id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        start_delay=_NEVER,
        memo={"token": token, "log": await _identity(connection)},
    )
    await connection.execute(
        "UPDATE restore_marker SET current = next WHERE task_queue = $1", task_queue
    )


async def _identity(reader: Reader) -> str | None:
    identity: str | None = await reader.fetchval(
        """
        SELECT CASE WHEN NOT pg_is_in_recovery() THEN concat_ws('/',
            (SELECT system_identifier FROM pg_control_system()),
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
            (SELECT oid FROM pg_database WHERE datname = current_database()))
        END
        """
    )
    return identity


def _marker_id(task_queue: str) -> str:
    return f"restore-marker-{task_queue}"


async def _memo(client: Client, task_queue: str) -> dict[str, str]:
    try:
        description = await client.get_workflow_handle(_marker_id(task_queue)).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return {}
        raise
    return dict(await description.memo())
