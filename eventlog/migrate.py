"""Migrates the tables of the log; safe at any time, and concurrently."""

from __future__ import annotations

from pathlib import Path

from eventlog.postgres import Connection, connect

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
            rows = await connection.fetch("SELECT name FROM schema_migrations")
            applied = {row["name"] for row in rows}
            pending = [f for f in sorted(_MIGRATIONS.glob("*.sql")) if f.name not in applied]
            for file in pending:
                await connection.execute(file.read_text())
                await connection.execute("INSERT INTO schema_migrations VALUES ($1)", file.name)
            return [file.name for file in pending]
    finally:
        await connection.close()


async def lock_migrations(connection: Connection) -> None:
    """Locks the database for migrations until the end of the caller's transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
