"""Rehearses a restore: starts a private Postgres on a copy of a backup, and examines all it has.

Every order is folded and compared with its view, every address opened, and every event compared
with production's. Neither the backup nor production is written to. One page is held at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from cli.backup_check import read_backup
from cli.backup_files import Manifest
from cli.history_comparison import order_pages
from cli.log_prefix import differences, growth
from cli.postgres_programs import BackupError
from cli.private_postgres import private_postgres
from cli.verify import VIEW, Report, verify
from eventlog import log
from eventlog.journal import count_entries
from eventlog.migrate import pending
from eventlog.postgres import UNAVAILABLE, connect, connect_pool
from privacy.keys import PostgresKeys
from privacy.sealing import BrokenSeal, key_id_of, unseal_all
from readside.engine.generations import LIVE, version_of
from readside.engine.projection import ProjectionError
from readside.order_view import projection as order_view
from readside.order_view.view import OrderView, fold_view
from runtime import EXIT_USAGE

STATEMENT_SECONDS_MAX = 3_600.0  # To count a large log.

Progress = Callable[[str], None]
"""Takes what is being done."""


@dataclass
class Rehearsal:
    """What a backup would restore, and all differences, each a sentence without its full stop."""

    taken_at: str
    age_seconds: float
    restore_seconds: float = 0.0
    """To check, copy and start it."""
    fold_seconds: float = 0.0
    """To fold and compare all orders."""
    orders: int = 0
    events: int = 0
    parked: int = 0
    addresses: int = 0
    """That can be read."""
    erased: int = 0
    unreadable: int = 0
    """Addresses whose key is missing, or that were changed."""
    intents: int = 0
    """Entries of the journal."""
    orders_since: int | None = None
    events_since: int | None = None
    """In production, and not in the backup; None if production is unavailable."""
    erased_since: int | None = None
    """Customers who were erased since it was taken."""
    differences: list[str] = field(default_factory=list)


def sentences(found: Rehearsal) -> Iterator[str]:
    """A rehearsal in words, the differences first."""
    yield from found.differences
    age = timedelta(seconds=round(found.age_seconds))
    yield f"The backup was begun at {found.taken_at}, {age} ago."
    yield (
        f"It was started in {found.restore_seconds:.1f} s; it was folded and compared in"
        f" {found.fold_seconds:.1f} s: {found.orders:,} orders, {found.parked:,} parked, with"
        f" {found.events:,} events and {found.intents:,} entries of the journal."
    )
    yield (
        f"{found.addresses:,} addresses can be read, {found.erased:,} are erased, and"
        f" {found.unreadable:,} cannot be read."
    )
    if found.events_since is not None:
        yield (
            f"Production has {found.orders_since:,} orders and {found.events_since:,} events more;"
            " without them in archived WAL or in Temporal, a restore would lose them."
        )
    if found.erased_since:
        yield f"{found.erased_since:,} customers were erased since: erase them after a restore."
    yield f"{len(found.differences):,} differences"


async def rehearse(backup: Path, dsn: str, progress: Progress) -> Rehearsal:
    """Restores a backup beside the production in `dsn`; raises BackupError."""
    began = time.monotonic()
    progress("checking …")
    manifest = await read_backup(backup)
    unavailable = await _check_is_of(manifest, dsn)
    age = datetime.now(UTC) - manifest.taken_at
    found = Rehearsal(manifest.taken_at.isoformat(timespec="seconds"), age.total_seconds())
    progress("copying and starting …")
    async with (
        private_postgres(backup, manifest) as private_dsn,
        await connect_pool(private_dsn, 2, STATEMENT_SECONDS_MAX) as copy,
        await connect_pool(dsn, 2, STATEMENT_SECONDS_MAX) as production,
    ):
        await check_release(backup, copy)
        found.restore_seconds = round(time.monotonic() - began, 3)
        await fold_all(copy, found, progress)
        if unavailable:
            found.differences.append(f"production was not compared: {unavailable}")
        else:
            await _compare(copy, production, found, progress)
            found.erased_since = await _erased_since(production, manifest.taken_at)
        found.fold_seconds = round(time.monotonic() - began - found.restore_seconds, 3)
    return found


async def _check_is_of(manifest: Manifest, dsn: str) -> str:
    """Whether a backup is of this database; why that is unknown, if it is unavailable."""
    try:
        connection = await connect(dsn)
    except UNAVAILABLE as error:
        return str(error).rstrip(".") or "it does not answer"
    try:
        row = await connection.fetchrow(
            "SELECT system_identifier, current_database() FROM pg_control_system()"
        )
    finally:
        await connection.close()
    if row is None or tuple(row) != (manifest.system_identifier, manifest.database):
        raise BackupError(
            "The backup is of another database than that in ORDERLY_POSTGRES_DSN.", EXIT_USAGE
        )
    return ""


async def check_release(backup: Path, copy: asyncpg.Pool) -> None:
    """Raises BackupError if the tables are those of another release."""
    missing = await pending(copy)
    async with copy.acquire() as connection:
        version = await version_of(connection, VIEW, LIVE)
    if version != order_view.PROJECTION.version:
        missing.append(f"version {order_view.PROJECTION.version} of {VIEW}")
    if missing:
        raise BackupError(
            f"{backup} is of another release, and lacks {', '.join(missing)}: rehearse it with the"
            " release that took it.",
            EXIT_USAGE,
        )


async def fold_all(copy: asyncpg.Pool, found: Rehearsal, progress: Progress) -> None:
    """Folds all events of all orders, and compares them with the views; opens all addresses."""
    report = Report()
    async for report in verify(copy, None):
        progress(f"{report.orders:,} orders compared with their views …")
    found.parked = report.parked
    found.differences += report.differences
    found.intents = await count_entries(copy)
    async for order_ids in order_pages(copy, "order_events"):
        tokens: set[str] = set()
        for order_id in order_ids:
            stream = await log.read_order(copy, order_id, after=0)
            found.orders += 1
            found.events += len(stream)
            tokens |= _tokens(stream)
            try:
                fold_view(OrderView(order_id), stream)
            except ProjectionError as error:
                found.differences.append(str(error))
        await _open_all(copy, tokens, found)
        progress(f"{found.orders:,} orders folded …")


def _tokens(stream: Iterable[log.LoggedEvent]) -> set[str]:
    """The encrypted addresses in events."""
    texts = (text for event in stream for text in event.data.values() if isinstance(text, str))
    return {text for text in texts if key_id_of(text) is not None}


async def _open_all(copy: asyncpg.Pool, tokens: set[str], found: Rehearsal) -> None:
    for address in (await unseal_all(tokens, PostgresKeys(copy))).values():
        if address is None:
            found.erased += 1
        elif isinstance(address, BrokenSeal):
            found.unreadable += 1
            found.differences.append(str(address))
        else:
            found.addresses += 1


async def _compare(
    copy: asyncpg.Pool, production: asyncpg.Pool, found: Rehearsal, progress: Progress
) -> None:
    compared = 0
    async for events, sentences in differences(copy, production):
        compared += events
        found.differences += sentences
        progress(f"{compared:,} events compared with production …")
    found.orders_since, found.events_since = await growth(copy, production)


async def _erased_since(production: asyncpg.Pool, taken_at: datetime) -> int:
    erased: int = await production.fetchval(
        "SELECT count(DISTINCT customer_id) FROM customer_keys"
        " WHERE erased_at >= $1 AND customer_id <> ''",  # No customer: a key that was forgotten.
        taken_at,
    )
    return erased
