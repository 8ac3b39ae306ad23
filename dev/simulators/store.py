"""What the stand-ins remember: one SQLite file, so that a killed process forgets nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUSY_SECONDS_MAX = 10.0  # A process that was killed a moment ago may not have let go yet.


class Store:
    """One connection; nobody waits in the midst of a transaction, so one is enough."""

    def __init__(self, file: Path | str, *tables: str) -> None:
        self._db = sqlite3.connect(file, timeout=BUSY_SECONDS_MAX, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        for statements in tables:
            self._db.executescript(statements)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing of what is done within; nothing else can come in between."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()
