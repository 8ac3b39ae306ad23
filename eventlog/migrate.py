"""Migrates the tables of the log; safe at any time, and concurrently."""

from __future__ import annotations

from pathlib import Path

from eventlog.postgres import Connection, Reader, connect

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 7_306_093_651  # An arbitrary key: one migration at a time in a database.


async def migrate(dsn: str) -> list[str]:
    """Applies pending migrations in one transaction; returns the names of their files."""
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await lock_migrations(connection)
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_migrations ("
                " name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            names = await pending(connection)
            for name in names:
                await connection.execute((_MIGRATIONS / name).read_text())
                await connection.execute("INSERT INTO schema_migrations VALUES ($1)", name)
            return names
    finally:
        await connection.close()


async def pending(reader: Reader) -> list[str]:
    """The names of the migrations that have not been applied, in order: all without tables."""
    applied = set()
    if await reader.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        applied = {row["name"] for row in await reader.fetch("SELECT name FROM schema_migrations")}
    return sorted(file.name for file in _MIGRATIONS.glob("*.sql") if file.name not in applied)


async def lock_migrations(connection: Connection) -> None:
    """Locks the database for migrations until the end of the caller's transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
