"""What the migrations of a release lock, drop or change, found by running them on Postgres."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import asyncpg

from contracts.declaration import FILE
from dev.release.catalog import Catalog, Column, Part, locked_tables, read_catalog
from dev.release.comparison import Finding
from eventlog.postgres import connect

FOLDER = Path("eventlog/migrations")
ENGINE = "readside/engine/migrate.py"

_WRITES = "RowExclusiveLock"
_BLOCKING = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}
"""The modes of locks for which writers wait."""

_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | '(?:[^']|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | "[^"]*" | \w+ | \S""",
    re.DOTALL | re.VERBOSE,
)
_CHANGING = {"UPDATE", "DELETE", "MERGE", "TRUNCATE", "LOCK", "EXECUTE"}


async def migration_findings(dsn: str, old: Path, new: Path) -> list[Finding]:
    """What is wrong with the migrations of a newer checkout.

    `dsn` is of a database that the older checkout has set up; the new files are applied to it.
    """
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
        for name in added:
            try:
                named = await _harms_of(connection, now[name])
            except asyncpg.PostgresError as error:
                reason = str(error).partition("\n")[0]
                return [*found, Finding("migrations", f"{name} fails: {reason}.")]
            found += [_declarable(name, harm) for harm in named]
    finally:
        await connection.close()
    return found


async def schema_findings(applied: str, migrated: str, empty: str) -> list[Finding]:
    """What is wrong with the tables that the newer version creates in its code.

    All are addresses: of the database of the older version with the new files applied, of the same
    after the newer version has migrated it, and of a database that the newer version has set up.
    """
    was, now, fresh = [await _catalog_of(dsn) for dsn in (applied, migrated, empty)]
    # Two databases have other files for the same tables.
    named = harms(was._replace(files={}), now._replace(files={}))
    return [
        *(_declarable(ENGINE, harm) for harm in named),
        *(Finding("migrations", sentence) for sentence in differences(now, fresh)),
    ]


def _declarable(file: str, harm: str) -> Finding:
    way_out = f"do it in steps, or declare under [migrations] in {FILE} why it does no harm"
    return Finding("migrations", f"{file} {harm}: {way_out}.", migration=file)


async def _harms_of(connection: asyncpg.Connection, text: str) -> list[str]:
    """Applies a migration in a transaction, as `orderly migrate` does."""
    async with connection.transaction():
        # To check the body of a new function would lock the tables in it.
        await connection.execute("SET LOCAL check_function_bodies = off")
        transaction = await connection.fetchval("SELECT pg_current_xact_id()")
        was = await read_catalog(connection)
        await connection.execute(text)
        if await connection.fetchval("SELECT pg_current_xact_id()") != transaction:
            raise asyncpg.InvalidTransactionTerminationError("it ends the transaction of all files")
        now = await read_catalog(connection)
        found = [*locks(await locked_tables(connection), was, now), *harms(was, now)]
    return found or [*conditional_changes(text)]


async def _catalog_of(dsn: str) -> Catalog:
    connection = await connect(dsn)
    try:
        return await read_catalog(connection)
    finally:
        await connection.close()


def locks(held: Mapping[str, frozenset[str]], was: Catalog, now: Catalog) -> Iterator[str]:
    """What a migration wrote or locked in tables that were there before; pure.

    To alter a table locks it, too, but only for a moment.
    """
    for table, modes in sorted(held.items()):
        if table not in was.tables:
            continue
        if _WRITES in modes:
            yield f"writes to the table {table}, and locks the rows until all migrations are done"
        elif modes & _BLOCKING and _of_table(was, table) == _of_table(now, table):
            yield f"locks the table {table} until all migrations are done"


def _of_table(catalog: Catalog, table: str) -> tuple[object, ...]:
    parts = {name: part for name, part in catalog.parts.items() if part.table == table}
    files = [catalog.files.get(name) for name in (f"the table {table}", *parts)]
    columns = {name: column for name, column in catalog.columns.items() if _table_of(name) == table}
    return catalog.tables[table], columns, parts, files


def conditional_changes(text: str) -> Iterator[str]:
    """The DO blocks that may change rows or lock tables, as far as the text says; pure.

    What depends on rows may not happen in the database of the check, which has few.
    """
    tokens = _tokens(text)
    for number, (previous, token) in enumerate(pairwise([";", *tokens])):
        if previous != ";" or token.upper() != "DO":
            continue
        body = next((t for t in tokens[number:] if t[0] in "'$"), "").strip("'")
        words = {word.upper() for word in _tokens(re.sub(r"^\$\w*\$|\$\w*\$$", "", body))}
        if changing := sorted(words & _CHANGING):
            yield f"has a DO block with {changing[0]}, which may change or lock rows of any table"


def _tokens(text: str) -> list[str]:
    """The words, quoted texts and signs of SQL, without its comments."""
    found = (match[0] for match in _TOKEN.finditer(text))
    return [token for token in found if not token.startswith(("--", "/*"))]


def harms(was: Catalog, now: Catalog) -> Iterator[str]:
    """What a migration did that older processes miss, or wait for; pure."""
    for schema in sorted(was.schemas - now.schemas):
        yield f"drops or renames the schema {schema}, which the version before may use"
    for table, row_security in sorted(was.tables.items()):
        if table not in now.tables:
            if _schema_of(table) in now.schemas:
                yield f"drops or renames the table {table}, which the version before may use"
        elif now.tables[table] != row_security:
            yield f"changes the row security of the table {table}, which may hide or reject rows"
    yield from _column_harms(was, now)
    yield from _rewritten(was, now)
    yield from _part_harms(was, now)


def _column_harms(was: Catalog, now: Catalog) -> Iterator[str]:
    for gone in sorted(was.columns.keys() - now.columns.keys()):
        if _table_of(gone) in now.tables:
            yield f"drops or renames the column {gone}, which the version before may use"
    for name, column in sorted(now.columns.items()):
        if name in was.columns:
            yield from _changes_of(name, was.columns[name], column)
        elif _table_of(name) in was.tables and column.is_mandatory:
            yield f"adds the column {name}, which the version before does not write"


def _changes_of(name: str, was: Column, now: Column) -> Iterator[str]:
    if was.type != now.type:
        yield f"changes the type of {name}"
        return
    if now.is_required and not was.is_required:
        yield f"scans the table of {name} for nulls under a lock"
    if was.default != now.default and not was.is_mandatory:
        what = "changes" if now.default else "drops"
        yield f"{what} the default of {name}, which the version before may leave out"


def _rewritten(was: Catalog, now: Catalog) -> Iterator[str]:
    changed = {name for name, file in was.files.items() if now.files.get(name, file) != file}
    for name in sorted(changed):
        part = was.parts.get(name)
        is_named = part and (f"the table {part.table}" in changed or now.parts.get(name) != part)
        if not is_named:
            yield f"rewrites {name} under a lock"


def _part_harms(was: Catalog, now: Catalog) -> Iterator[str]:
    for name, part in sorted(now.parts.items()):
        if name not in was.parts:
            if part.table in was.tables:
                yield from _addition(name, part)
        elif part.definition != was.parts[name].definition and part.kind != "reference":
            yield f"changes {name}, on which the version before may rely"
    for name, part in sorted(was.parts.items()):
        is_gone = name not in now.parts and (part.table is None or part.table in now.tables)
        if is_gone and part.kind != "reference" and not part.definition.startswith("CHECK"):
            yield f"drops {name}, which the version before may need"


def _addition(name: str, part: Part) -> Iterator[str]:
    """The harm that a new part does to a table that was there before."""
    match part.kind:
        case "index":
            yield f"builds an index of the table {part.table} while writers wait"
        case "constraint" if part.is_valid:
            yield f"checks a constraint of the table {part.table} while writers wait"
        case "constraint":
            yield f"adds {name}, which rows that the version before writes may break"
        case "reference" if "ON DELETE" not in part.definition:
            yield f"adds {name}, which forbids deletions that the version before may make"
        case "trigger" | "rule":
            yield f"adds {name}, which may reject or change what the version before writes"


def differences(migrated: Catalog, fresh: Catalog) -> Iterator[str]:
    """How a migrated database differs from a new one of the same version, for its code; pure.

    Tables of read models are left to their versions: a rebuild replaces them.
    """
    for table in sorted(fresh.tables.keys() - migrated.tables.keys()):
        if _schema_of(table) == "public":
            yield _only_new(f"the table {table}")
    for name, column in sorted(fresh.columns.items()):
        if _is_kept(_table_of(name), migrated) and migrated.columns.get(name) != column:
            yield _only_new(f"the column {name}")
    for name, column in sorted(migrated.columns.items()):
        if _is_kept(_table_of(name), fresh) and name not in fresh.columns and column.is_mandatory:
            yield _only_migrated(f"the column {name}")
    for name, part in sorted(fresh.parts.items()):
        if _is_kept(part.table, migrated) and migrated.parts.get(name) != part:
            yield _only_new(name)
    for name, part in sorted(migrated.parts.items()):
        is_harmless = part.kind in ("function", "index") and "UNIQUE" not in part.definition
        if _is_kept(part.table, fresh) and name not in fresh.parts and not is_harmless:
            yield _only_migrated(name)


def _only_new(what: str) -> str:
    return (
        f"A new database has {what}, but one that the version before has set up has not, or has it"
        f" otherwise, after `orderly migrate`: add an ALTER TABLE to {ENGINE}."
    )


def _only_migrated(what: str) -> str:
    return (
        f"A database that the version before has set up still has {what} after `orderly migrate`,"
        f" and a new one has not: add an ALTER TABLE to {ENGINE}."
    )


def _is_kept(table: str | None, other: Catalog) -> bool:
    """Whether a table is of no read model, and the other database has it, too."""
    return table is None or (_schema_of(table) == "public" and table in other.tables)


def _table_of(column: str) -> str:
    return column.rpartition(".")[0]


def _schema_of(table: str) -> str:
    return table.rpartition(".")[0] or "public"


def _migrations(checkout: Path) -> dict[str, str]:
    files = sorted((checkout / FOLDER).glob("*.sql"))
    return {file.name: file.read_text() for file in files}
