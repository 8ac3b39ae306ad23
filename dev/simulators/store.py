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
        """A serializable transaction: rolled back if the `with` block or the commit fails."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite may have rolled back by itself: the disk is full.
                self._db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        self._db.close()
