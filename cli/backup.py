"""Takes a backup of Postgres, and of a stack of `orderly up` also of its other databases.

Of a stack, Temporal's database is copied before Postgres is. Postgres is then the newer one: it has
each key under which Temporal has an address sealed, and `orderly restore apply` starts from the log
what Temporal lacks. The other way round, the keys that were created in between would be lost. The
simulators come last, as external services know all that was asked of them.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import unquote, unquote_plus, urlsplit

from cli.backup_check import verify_postgres
from cli.backup_files import (
    POSTGRES,
    Manifest,
    copy_sqlite,
    size,
    unfinished,
    write_manifest,
)
from cli.postgres_programs import BackupError, find_program, run_program
from eventlog.log import settled_head
from eventlog.postgres import Connection, connect
from runtime import EXIT_USAGE

TEMPORAL = "temporal.db"
SIMULATORS = "simulators.db"


async def back_up(dsn: str, folder: Path, data_dir: Path | None = None) -> Manifest:
    """Backs up Postgres, and the SQLite databases of the stack in `data_dir`.

    An interrupted backup never has the name of the folder. Raises BackupError.
    """
    began = time.monotonic()
    async with unfinished(folder) as (fresh, lock):
        about = await _describe(dsn)
        files: dict[str, str] = {}

        async def copy(name: str) -> None:
            if data_dir is not None:
                files[name] = await asyncio.to_thread(copy_sqlite, data_dir / name, fresh / name)

        await copy(TEMPORAL)
        await _copy_postgres(dsn, fresh / POSTGRES, about, lock)
        await copy(SIMULATORS)
        await verify_postgres(fresh, about.postgres_version)
        taken = about.model_copy(
            update={
                "files": files,
                "bytes": size(fresh),
                "seconds": round(time.monotonic() - began, 3),
            }
        )
        write_manifest(fresh, taken)
    return taken


async def _describe(dsn: str) -> Manifest:
    """What is about to be backed up; raises BackupError if it cannot be."""
    connection = await connect(dsn, statement_seconds_max=None)
    try:
        await _check_backup_is_possible(connection)
        row = await connection.fetchrow(
            """
            SELECT clock_timestamp() AS taken_at, system_identifier,
                   current_database() AS database, current_user AS role,
                   current_setting('server_version_num')::int / 10000 AS postgres_version,
                   (SELECT count(*) FROM order_events WHERE version = 1) AS orders,
                   (SELECT count(*) FROM order_events) AS events
            FROM pg_control_system()
            """
        )
        assert row is not None
        return Manifest(**row, settled_head=await settled_head(connection))
    finally:
        await connection.close()


async def _check_backup_is_possible(connection: Connection) -> None:
    role = await connection.fetchval("SELECT current_user")
    if not await connection.fetchval(
        "SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = $1", role
    ):
        raise BackupError(
            f"The role {role} may not take backups: run `ALTER ROLE {role} REPLICATION`, or name"
            " another role in ORDERLY_POSTGRES_DSN.",
            EXIT_USAGE,
        )
    if await connection.fetchval("SELECT count(*) FROM pg_tablespace") > 2:  # Each server has two.
        raise BackupError(
            "This server has tablespaces of its own: back it up with pg_basebackup.", EXIT_USAGE
        )


async def _copy_postgres(dsn: str, folder: Path, about: Manifest, lock: int) -> None:
    program = find_program("pg_basebackup", about.postgres_version)
    address, password = without_password(dsn)
    await run_program(
        *(program, "--dbname", address, "--no-password", "--pgdata", folder),
        *("--wal-method", "stream", "--checkpoint", "fast", "--manifest-checksums", "SHA256"),
        environment={"PGPASSWORD": password} if password else {},
        inherited=(lock,),
    )


def without_password(dsn: str) -> tuple[str, str | None]:
    """The address, and the password in it, which the list of processes would show.

    A password before the host is used rather than one in the query, as asyncpg does.
    """
    address, mark, query = dsn.partition("?")
    parameters = [parameter.partition("=") for parameter in query.split("&")]
    kept = ["".join(each) for each in parameters if not _is_password(each[0])]
    found = [unquote_plus(value) for name, _, value in parameters if _is_password(name)]
    parts = urlsplit(address)
    if parts.password is not None:
        credentials, _, host = parts.netloc.rpartition("@")
        address = parts._replace(netloc=f"{credentials.partition(':')[0]}@{host}").geturl()
        found.append(unquote(parts.password))
    password = next(filter(None, reversed(found)), None)
    return address + (mark + "&".join(kept) if kept else ""), password


def _is_password(name: str) -> bool:
    return unquote_plus(name) == "password"
