"""How far relays have come, in Postgres, and which process owns each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from eventlog.epochs import read_epochs
from eventlog.log import Checkpoint
from eventlog.postgres import HELD_LOCKS, Connection, Reader

ERROR_CHARACTERS_MAX = 300
_KEY = "hashtextextended($1, 2)"  # Orders have the keys of seed 0, webhook endpoints those of 1.


@dataclass(frozen=True)
class RelayHealth:
    """How far a relay has come, and whether its broker accepts what it sends."""

    relay: str
    is_running: bool
    published: int
    """Events that the broker has confirmed."""
    lag_seconds: float
    """For how long the first event after the cursor has been in the log; 0 without one."""
    failing_since: datetime | None
    last_error: str | None
    """Of the last failure, also if it is over."""
    last_success_at: datetime | None


async def acquire(connection: Connection, relay: str) -> bool:
    """Makes a connection the owner of a relay until it ends, unless another one is."""
    owned: bool = await connection.fetchval(f"SELECT pg_try_advisory_lock({_KEY})", relay)
    return owned


async def load(connection: Connection, relay: str) -> Checkpoint:
    """Where to continue in the log as it is now: a new relay begins with the first event."""
    await connection.execute(
        "INSERT INTO relay_cursors (relay) VALUES ($1) ON CONFLICT DO NOTHING", relay
    )
    row = await connection.fetchrow(
        "SELECT transaction_id, position, epoch FROM relay_cursors WHERE relay = $1", relay
    )
    assert row is not None
    at, epochs = Checkpoint(row["transaction_id"], row["position"]), await read_epochs(connection)
    survived = epochs.last_valid(row["epoch"])
    at = at if survived is None else min(at, survived)
    await connection.execute(
        "UPDATE relay_cursors SET epoch = $2, transaction_id = $3, position = $4 WHERE relay = $1",
        relay,
        epochs.current,
        *at,
    )
    return at


async def store(
    owner: Connection,
    relay: str,
    at: Checkpoint,
    published: int,
    last_success_at: datetime | None,
    failing_since: datetime | None,
    error: str | None,
) -> None:
    """Stores progress: the position, and how many events were published since the last time."""
    async with owner.transaction():
        # What a crash of Postgres loses of it is published again.
        await owner.execute("SET LOCAL synchronous_commit = off")
        await owner.execute(
            """
            UPDATE relay_cursors
            SET transaction_id = $2, position = $3, published = published + $4,
                last_success_at = coalesce($5, last_success_at), failing_since = $6,
                last_error = coalesce($7, last_error)
            WHERE relay = $1
            """,
            relay,
            *at,
            published,
            last_success_at,
            failing_since,
            error and error[:ERROR_CHARACTERS_MAX],
        )


async def read_health(reader: Reader) -> list[RelayHealth]:
    """The health of all relays that have ever run."""
    rows = await reader.fetch(
        f"""
        SELECT relay, published, failing_since, last_error, last_success_at,
               coalesce(extract(epoch FROM clock_timestamp() - next.recorded_at), 0)::float8
                   AS lag_seconds,
               EXISTS (
                   SELECT FROM {HELD_LOCKS} WHERE objsubid = 1 AND key = hashtextextended(relay, 2)
               ) AS is_running
        FROM relay_cursors AS cursor LEFT JOIN LATERAL (
            SELECT recorded_at FROM order_events
            WHERE (transaction_id, position) > (cursor.transaction_id, cursor.position)
            ORDER BY transaction_id, position LIMIT 1
        ) AS next ON true
        ORDER BY relay
        """
    )
    return [RelayHealth(**row) for row in rows]
