"""The folder of a backup: how it comes to its name, and what is in it."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cli.postgres_programs import BackupError
from runtime import EXIT_USAGE

MANIFEST = "backup.json"
POSTGRES = "postgres"
LOCK_SECONDS_MAX = 15.0


class Manifest(BaseModel):
    """What a backup has. It is written last: a folder without it is no backup."""

    model_config = ConfigDict(frozen=True)

    taken_at: datetime
    """When it was begun: all that had been committed by then is in it, and some more."""
    system_identifier: int
    """Of the Postgres server."""
    database: str
    role: str
    postgres_version: int
    """The major version."""
    settled_head: tuple[int, int]
    """Transaction id and position of the last settled event, when it was begun."""
    orders: int
    events: int
    """In the log, when it was begun."""
    files: dict[str, str] = {}
    """The SHA-256 of each SQLite database. Postgres' files have a manifest of their own."""
    bytes: int = 0
    seconds: float = 0.0


@asynccontextmanager
async def unfinished(folder: Path) -> AsyncIterator[tuple[Path, int]]:
    """A folder to write to, which is removed on an error; else `folder` becomes its name.

    Yields the descriptor of its lock, too. A process that inherits it holds the lock until it ends.
    Raises BackupError.
    """
    target = folder.absolute()
    fresh = target.with_name(f"{target.name}.unfinished")
    with _writing(folder):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise BackupError(
                f"{folder} exists, and is not empty: name another folder.", EXIT_USAGE
            )
        fresh.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(fresh, os.O_RDONLY)
    try:
        await _lock(lock, folder)
        try:
            with _writing(folder):
                for left in fresh.iterdir():  # By a backup that was killed.
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield fresh, lock
            with _writing(folder):
                fresh.rename(target)
                _sync(target.parent)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    finally:
        os.close(lock)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise BackupError(f"{folder} cannot be written: {reason}.", EXIT_USAGE) from error


def copy_sqlite(source: Path, copy: Path) -> str:
    """Copies a database that is in use, as it is at one moment; returns the copy's SHA-256."""
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as live,
            closing(sqlite3.connect(copy)) as copied,
        ):
            live.backup(copied)
            copied.execute("PRAGMA journal_mode = DELETE")  # So that it is one file.
            (check,) = copied.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"{source} cannot be copied: {error}.") from error
    if check != "ok":
        raise BackupError(f"{source} is damaged: {check}.")
    _sync(copy)
    return sha256_of(copy)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Completes a backup."""
    file = folder / MANIFEST
    with _writing(folder):
        file.write_text(manifest.model_dump_json(indent=2) + "\n")
        _sync(file)
        _sync(folder)


def sha256_of(file: Path) -> str:
    """The checksum of a file's content."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def size(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def _lock(descriptor: int, folder: Path) -> None:
    """Waits a little: what a killed backup has started ends soon."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + LOCK_SECONDS_MAX
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock() > deadline:
                raise BackupError(f"Another backup to {folder} is under way.", EXIT_USAGE) from None
        await asyncio.sleep(0.05)


def _sync(path: Path) -> None:
    """Writes a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
