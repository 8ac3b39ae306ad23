"""Shares the endpoints among processes: each is locked by one connection at a time."""

from __future__ import annotations

from collections.abc import Collection

from eventlog.postgres import HELD_LOCKS, Connection, Reader

_PRESENCE = 7_306_093_653  # An arbitrary key, which each process holds in shared mode.
_KEY = "hashtextextended($1, 1)"  # Orders have the keys of seed 0.


class EndpointLocks:
    """The endpoints that one connection owns, by advisory locks of its session.

    Postgres releases them when the process or its connection ends.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_present = False
        self.owned: set[str] = set()

    async def acquire(self, endpoint_ids: Collection[str]) -> int:
        """Locks free endpoints up to a fair share of all; returns how many it has above that."""
        fair = -(-len(endpoint_ids) // await self._process_count())
        lacking = fair - len(self.owned)
        if lacking > 0:
            rows = await self._connection.fetch(
                "SELECT id FROM unnest($1::text[]) AS id"
                " WHERE pg_try_advisory_lock(hashtextextended(id, 1)) LIMIT $2",
                sorted(set(endpoint_ids) - self.owned),
                lacking,
            )
            self.owned |= {row["id"] for row in rows}
        return max(-lacking, 0)

    async def release(self, endpoint_id: str) -> None:
        """Lets another process have an endpoint."""
        self.owned.discard(endpoint_id)
        await self._connection.fetchval(f"SELECT pg_advisory_unlock({_KEY})", endpoint_id)

    async def _process_count(self) -> int:
        if not self._is_present:
            await self._connection.fetchval("SELECT pg_try_advisory_lock_shared($1)", _PRESENCE)
            self._is_present = True
        return max(await count_processes(self._connection), 1)


async def count_processes(reader: Reader) -> int:
    """How many deliverers run."""
    processes: int = await reader.fetchval(
        f"""
        SELECT count(DISTINCT pid) FROM {HELD_LOCKS}
        WHERE mode = 'ShareLock' AND objsubid = 1 AND key = $1
        """,
        _PRESENCE,
    )
    return processes
