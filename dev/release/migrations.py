"""What the new migrations of a release lock or drop, found by running them on Postgres."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import asyncpg

from dev.release.comparison import Finding
from eventlog.postgres import connect

FOLDER = Path("eventlog/migrations")


_BODY = re.compile(r"\$\$.*?\$\$|--[^\n]*", re.DOTALL)
_LOCKING = re.compile(r"^\s*(UPDATE|DELETE|TRUNCATE|LOCK)\b", re.IGNORECASE | re.MULTILINE)


class Column(NamedTuple):
    """A column of a table."""

    type: str
    is_required: bool
    """It allows no null."""
    has_default: bool

    @property
    def is_mandatory(self) -> bool:
        """Whether each writer has to write it."""
        return self.is_required and not self.has_default


class Catalog(NamedTuple):
    """What a database consists of, as far as a migration can harm it."""

    tables: Mapping[str, int]
    """By name, the file that has its rows: another one after a table was rewritten."""
    columns: Mapping[str, Column]
    """By table and name, as in "order_events.data"."""
    indexes: Mapping[str, str]
    """By name, the table."""
    checks: Mapping[str, str]
    """By name, the table of a validated constraint."""
    others: frozenset[str]
    """Functions and triggers."""


async def migration_findings(dsn: str, old: Path, new: Path) -> list[Finding]:
    """What is wrong with the migrations of a newer checkout; `dsn` is of an empty database."""
    before, now = _migrations(old), _migrations(new)
    found = [
        Finding("migrations", f"{name} was {what}, but databases have applied it: restore it.")
        for name, text in before.items()
        if (what := "removed" if name not in now else "changed" if now[name] != text else "")
    ]
    added = [name for name in now if name not in before]
    found += [
        Finding("migrations", f"{name} comes before {max(before)}: number it after that.")
        for name in added
        if before and name < max(before)
    ]
    connection = await connect(dsn)
    try:
        for text in before.values():
            await connection.execute(text)
        for name in sorted(added):
            was = await _catalog(connection)
            try:
                await connection.execute(now[name])
            except asyncpg.PostgresError as error:
                found.append(Finding("migrations", f"{name} fails: {error}."))
                return found
            for harm in (*_locks(now[name]), *harms(was, await _catalog(connection))):
                sentence = f"{name} {harm}: do it in steps, or declare why it does no harm."
                found.append(Finding("migrations", sentence, migration=name))
    finally:
        await connection.close()
    return found


def _locks(text: str) -> Iterator[str]:
    """Statements that change or lock the rows of whole tables."""
    for statement in _LOCKING.findall(_BODY.sub("", text)):
        yield f"has a statement {statement.upper()}, which locks what it changes until all is done"


def harms(was: Catalog, now: Catalog) -> Iterator[str]:
    """What a migration did that older processes miss, or wait for; pure."""
    for table in was.tables.keys() - now.tables.keys():
        yield f"drops or renames the table {table}, which the version before may use"
    for gone in sorted(was.columns.keys() - now.columns.keys()):
        if gone.rpartition(".")[0] in now.tables:
            yield f"drops or renames the column {gone}, which the version before may use"
    for name, column in sorted(now.columns.items()):
        if name in was.columns:
            yield from _changes_of(name, was.columns[name], column)
        elif name.rpartition(".")[0] in was.tables and column.is_mandatory:
            yield f"adds the column {name}, which the version before does not write"
    for table, file in sorted(was.tables.items()):
        if now.tables.get(table, file) != file:
            yield f"rewrites the table {table} under a lock"
    for what, before, after in (
        ("builds an index of", was.indexes, now.indexes),
        ("checks a constraint of", was.checks, now.checks),
    ):
        for table in sorted({after[name] for name in after.keys() - before.keys()}):
            if table in was.tables:
                yield f"{what} the table {table} while writers wait"
    for index in sorted(was.indexes.keys() - now.indexes.keys()):
        if was.indexes[index] in now.tables:
            yield f"drops the index {index}, which the version before may need"
    for other in sorted(was.others - now.others):
        yield f"drops {other}, which the version before may need"


def _changes_of(name: str, was: Column, now: Column) -> Iterator[str]:
    if was.type != now.type:
        yield f"changes the type of {name}"
    elif now.is_required and not was.is_required:
        yield f"scans the table of {name} for nulls under a lock"


def _migrations(checkout: Path) -> dict[str, str]:
    files = sorted((checkout / FOLDER).glob("*.sql"))
    return {file.name: file.read_text() for file in files}


async def _catalog(connection: asyncpg.Connection) -> Catalog:
    tables = await connection.fetch(
        "SELECT relname, relfilenode FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    columns = await connection.fetch(
        """
        SELECT relname || '.' || attname,
               format_type(atttypid, atttypmod), attnotnull, atthasdef OR attidentity <> ''
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
              AND attnum > 0 AND NOT attisdropped
        """
    )
    indexes = await connection.fetch(
        "SELECT indexname, tablename FROM pg_indexes WHERE schemaname = 'public'"
    )
    checks = await connection.fetch(
        """
        SELECT conname, conrelid::regclass::text FROM pg_constraint
        WHERE convalidated AND contype IN ('c', 'f') AND connamespace = 'public'::regnamespace
        """
    )
    others = await connection.fetch(
        """
        SELECT 'the function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'the trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
        """
    )
    return Catalog(
        dict(map(tuple, tables)),
        {name: Column(*column) for name, *column in columns},
        dict(map(tuple, indexes)),
        dict(map(tuple, checks)),
        frozenset(row[0] for row in others),
    )
