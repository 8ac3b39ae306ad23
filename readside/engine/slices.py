"""Locks that assign each slice of a projection to one process at a time."""

from __future__ import annotations

from eventlog.log import SLICES
from eventlog.postgres import HELD_LOCKS, Connection
from readside.engine.checkpoints import ALL_SLICES

# A lock beside those of the slices, shared by all processes: the number of holders is the number of
# processes.
_PRESENCE = SLICES


class SliceLocks:
    """The slices that one connection owns, by advisory locks of its session.

    Postgres releases them when the process or its connection ends.
    """

    def __init__(self, connection: Connection, projection: str) -> None:
        self._connection = connection
        self._projection = projection
        self.owned: list[int] = []

    async def rebalance(self) -> None:
        """Releases slices above a fair share, or locks free ones up to it."""
        fair = -(-SLICES // await self._process_count())
        while len(self.owned) > fair:
            await self._call("pg_advisory_unlock", self.owned.pop())
        for slice in ALL_SLICES:
            if len(self.owned) == fair:
                break
            if slice not in self.owned and await self._call("pg_try_advisory_lock", slice):
                self.owned.append(slice)

    async def _process_count(self) -> int:
        """How many processes run the projection, this one included."""
        count = f"""
            SELECT count(DISTINCT pid) FROM {HELD_LOCKS}
            WHERE mode = 'ShareLock' AND objsubid = 2
              AND key = hashtext($1)::bigint << 32 | $2::bigint
        """
        if not self.owned:
            await self._call("pg_try_advisory_lock_shared", _PRESENCE)
        processes: int = await self._connection.fetchval(count, self._projection, _PRESENCE)
        return max(processes, 1)

    async def _call(self, function: str, slice: int) -> bool:
        done: bool = await self._connection.fetchval(
            f"SELECT {function}(hashtext($1), $2)", self._projection, slice
        )
        return done
