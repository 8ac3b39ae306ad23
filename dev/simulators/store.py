"""The simulators' state: one SQLite file, so that a killed process loses nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY_SECONDS_MAX = 10.0  # A process that was just killed may still hold its lock.


class Store:
    """One connection is enough: no transaction awaits anything."""

    def __init__(self, file: Path | str, *tables: str) -> None:
        self._db = sqlite3.connect(file, timeout=BUSY_SECONDS_MAX, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        for statements in tables:
            self._db.executescript(statements)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A serializable transaction: rolled back if the `with` block raises."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()
