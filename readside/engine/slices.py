"""Which slices of a projection this process projects: each has one owner at a time."""

from __future__ import annotations

from eventlog.log import SLICES
from eventlog.postgres import Connection
from readside.engine.checkpoints import ALL_SLICES

# One more lock beside the slices' own, shared by all processes: its holders are counted.
_PRESENT = SLICES


class Slices:
    """The slices that one connection owns, by locks of its session.

    Whoever dies, or loses its connection, loses them at once: the server sees to that.
    """

    def __init__(self, connection: Connection, projection: str) -> None:
        self._connection = connection
        self._projection = projection
        self.owned: list[int] = []

    async def share(self) -> None:
        """Takes slices that nobody has, or gives some up, until each process has a fair share."""
        fair = -(-SLICES // await self._present())
        while len(self.owned) > fair:
            await self._call("pg_advisory_unlock", self.owned.pop())
        for slice in ALL_SLICES:
            if len(self.owned) == fair:
                break
            if slice not in self.owned and await self._call("pg_try_advisory_lock", slice):
                self.owned.append(slice)

    async def _present(self) -> int:
        """How many processes would project, this one included."""
        count = """
            SELECT count(DISTINCT pid) FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock' AND objid = $2
              AND classid = hashtext($1)::bigint & 4294967295
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
        if not self.owned:
            await self._call("pg_try_advisory_lock_shared", _PRESENT)
        present: int = await self._connection.fetchval(count, self._projection, _PRESENT)
        return max(present, 1)

    async def _call(self, function: str, slice: int) -> bool:
        done: bool = await self._connection.fetchval(
            f"SELECT {function}(hashtext($1), $2)", self._projection, slice
        )
        return done
