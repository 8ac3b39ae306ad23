"""The schema of a database, read from Postgres' catalog, to compare what a migration did to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import asyncpg


class Column(NamedTuple):
    """A column of a table."""

    type: str
    is_required: bool
    """It allows no null."""
    default: str = ""
    """An expression, or the kind of identity; empty without a default."""

    @property
    def is_mandatory(self) -> bool:
        """Whether each writer has to write it."""
        return self.is_required and not self.default


class Part(NamedTuple):
    """An index, a constraint, a trigger or a rule of a table, or a function."""

    kind: str
    """ "index", "constraint", "reference", "trigger", "rule" or "function".

    A foreign key is a constraint of its own table, and a reference to the other one.
    """
    table: str | None
    """None of a function."""
    definition: str
    is_valid: bool = True
    """Whether a constraint holds for all rows; otherwise only for those that are written."""


class Catalog(NamedTuple):
    """A schema, apart from what Postgres has itself; tables outside of `public` have a prefix."""

    schemas: frozenset[str]
    tables: Mapping[str, str]
    """By name, whether policies restrict which rows may be read and written."""
    columns: Mapping[str, Column]
    """By table and name, as in "order_events.data"."""
    parts: Mapping[str, Part]
    """By kind and name, as in "the trigger order_events_never_change of order_events"."""
    files: Mapping[str, int]
    """By kind and name, as in "the table order_events": another file after it was rewritten."""


async def read_catalog(connection: asyncpg.Connection) -> Catalog:
    """The schema of a database, as the transaction of the connection sees it."""
    schemas = await connection.fetch(f"SELECT nspname FROM pg_namespace n WHERE {_OWN}")
    tables, columns, parts, files = [
        await connection.fetch(query.format(own=_OWN)) for query in _QUERIES
    ]
    return Catalog(
        frozenset(row[0] for row in schemas),
        dict(map(tuple, tables)),
        {name: Column(*column) for name, *column in columns},
        {name: Part(*part) for name, *part in parts},
        dict(map(tuple, files)),
    )


async def locked_tables(connection: asyncpg.Connection) -> dict[str, frozenset[str]]:
    """The modes of the locks that the transaction of the connection holds, by table."""
    rows = await connection.fetch(_LOCKS.format(own=_OWN))
    return {table: frozenset(modes) for table, modes in rows}


_OWN = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

_QUERIES = (
    """
    SELECT c.oid::regclass::text, concat(relrowsecurity, relforcerowsecurity)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm') AND {own}
    """,
    """
    SELECT c.oid::regclass || '.' || attname, format_type(atttypid, atttypmod), attnotnull,
           concat(attidentity, attgenerated, pg_get_expr(adbin, adrelid))
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
         JOIN pg_namespace n ON n.oid = relnamespace
         LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped AND {own}
    """,
    """
    SELECT format('the index %s of %s', indexrelid::regclass, indrelid::regclass), 'index',
           indrelid::regclass::text,
           pg_get_indexdef(indexrelid), indisvalid
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE {own}
    UNION ALL
    SELECT format('the constraint %s of %s', conname, conrelid::regclass), 'constraint',
           conrelid::regclass::text, replace(pg_get_constraintdef(r.oid), ' NOT VALID', ''),
           convalidated
    FROM pg_constraint r JOIN pg_namespace n ON n.oid = connamespace
    WHERE contype IN ('c', 'f') AND conrelid <> 0 AND {own}
    UNION ALL
    SELECT format('the reference %s to %s', conname, confrelid::regclass), 'reference',
           confrelid::regclass::text, pg_get_constraintdef(r.oid), true
    FROM pg_constraint r JOIN pg_namespace n ON n.oid = connamespace
    WHERE contype = 'f' AND {own}
    UNION ALL
    SELECT format('the trigger %s of %s', tgname, tgrelid::regclass), 'trigger',
           tgrelid::regclass::text, pg_get_triggerdef(t.oid) || tgenabled::text, true
    FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
    WHERE NOT tgisinternal AND {own}
    UNION ALL
    SELECT format('the rule %s of %s', rulename, ev_class::regclass), 'rule',
           ev_class::regclass::text, pg_get_ruledef(w.oid) || ev_enabled::text, true
    FROM pg_rewrite w JOIN pg_class c ON c.oid = ev_class
         JOIN pg_namespace n ON n.oid = relnamespace
    WHERE {own}
    UNION ALL
    SELECT 'the function ' || p.oid::regprocedure, 'function', NULL, pg_get_functiondef(p.oid),
           true
    FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
    WHERE prokind IN ('f', 'p') AND {own}
    """,
    """
    SELECT CASE relkind
               WHEN 'i' THEN format('the index %s of %s', c.oid::regclass, indrelid::regclass)
               WHEN 'S' THEN format('the sequence %s', c.oid::regclass)
               ELSE format('the table %s', c.oid::regclass) END,
           relfilenode
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         LEFT JOIN pg_index ON indexrelid = c.oid
    WHERE relkind IN ('r', 'm', 'i', 'S') AND {own}
    """,
)
_LOCKS = """
    SELECT c.oid::regclass::text, array_agg(mode)
    FROM pg_locks JOIN pg_class c ON c.oid = relation JOIN pg_namespace n ON n.oid = relnamespace
    WHERE locktype = 'relation' AND pid = pg_backend_pid() AND relkind IN ('r', 'p', 'm') AND {own}
    GROUP BY c.oid
"""
