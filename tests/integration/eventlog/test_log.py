"""The log stores each event exactly once and immutably, and its readers miss none."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from activities.publishing import Publishing
from eventlog import log, migrate
from eventlog.envelope import digest
from eventlog.log import START, Checkpoint, ConflictingEvent
from tests.support.command_builders import new_order_id
from tests.support.event_log import ABOUT, append, append_unsettled, note, settled


async def test_appended_events_are_read_back_unchanged(pool: asyncpg.Pool) -> None:
    order_id = new_order_id()
    await append(pool, order_id, note(2, 'größer, 注文, "quoted"'), note(1))
    assert await log.read_stream(pool, order_id) == [note(1), note(2, 'größer, 注文, "quoted"')]
    assert await log.read_stream(pool, order_id, after=1, limit=5) == [
        note(2, 'größer, 注文, "quoted"')
    ]
    assert await log.head(pool, order_id) == 2
    assert await log.head(pool, new_order_id()) == 0


async def test_page_of_the_log_fits_in_a_result_whatever_its_script(pool: asyncpg.Pool) -> None:
    """Temporal takes no result of more than 2 MiB; a bagel has four bytes."""
    order_id, publishing = new_order_id(), Publishing(pool)
    await append(pool, order_id, *(note(version, "🥯" * 1_000) for version in range(1, 701)))
    versions, sizes = list[int](), list[int]()
    while (page := await publishing.log_after(order_id, len(versions))).events:
        versions += [envelope.version for envelope in page.events]
        sizes.append(len(page.model_dump_json().encode()))
    assert versions == [*range(1, 701)]
    assert max(sizes) < 2**20


async def test_repeated_append_changes_nothing(pool: asyncpg.Pool) -> None:
    order_id = new_order_id()
    await append(pool, order_id, note(1), note(2))
    await append(pool, order_id, note(1), note(2), note(3))
    assert await log.read_stream(pool, order_id) == [note(1), note(2), note(3)]


async def test_batch_with_a_conflicting_event_is_rejected_as_a_whole(
    pool: asyncpg.Pool,
) -> None:
    order_id = new_order_id()
    await append(pool, order_id, note(1))
    with pytest.raises(ConflictingEvent, match=f"{order_id} already has another event"):
        await append(pool, order_id, note(1, "other"), note(2))
    assert await log.read_stream(pool, order_id) == [note(1)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE order_events SET type = 'x'",
        "UPDATE order_events SET recorded_at = now()",
        "DELETE FROM order_events",
        "TRUNCATE order_events",
    ],
)
async def test_events_cannot_be_changed_or_removed(pool: asyncpg.Pool, statement: str) -> None:
    order_id = new_order_id()
    await append(pool, order_id, note(1))
    with pytest.raises(asyncpg.PostgresError):
        await pool.execute(statement)
    assert await log.read_stream(pool, order_id) == [note(1)]


async def test_late_and_retried_appends_commit_in_version_order(
    pool: asyncpg.Pool,
) -> None:
    """A publish fails while its retry and a longer batch wait: the order of events is kept."""
    at_once = asyncio.Semaphore(6)

    async def race(order_id: str) -> None:
        five, ten = ([note(version) for version in range(1, last + 1)] for last in (5, 10))
        async with at_once, pool.acquire() as dying:
            transaction = dying.transaction()
            await transaction.start()
            await log.append(dying, order_id, five)
            longer = asyncio.create_task(append_unsettled(pool, order_id, *ten))
            await asyncio.sleep(0.05)  # The longer batch starts first, so its transaction is older.
            retried = asyncio.create_task(append_unsettled(pool, order_id, *five))
            await asyncio.sleep(0.05)
            await transaction.rollback()
            await asyncio.gather(longer, retried)

    orders = [new_order_id() for _ in range(40)]
    await asyncio.gather(*(race(order_id) for order_id in orders))
    for order_id in orders:
        rows = await pool.fetch(
            "SELECT version FROM order_events WHERE order_id = $1"
            " ORDER BY transaction_id, position",
            order_id,
        )
        assert [row["version"] for row in rows] == list(range(1, 11))


async def test_late_commit_is_not_skipped(
    pool: asyncpg.Pool,
) -> None:
    """An early position is committed after later ones were read: a naive reader loses it."""
    early, late = new_order_id(), new_order_id()
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await log.append(slow, early, [note(1)])  # Has its position, but is not committed.
        await append_unsettled(pool, late, note(1))

        naive = await pool.fetch("SELECT order_id, position FROM order_events ORDER BY position")
        assert [row["order_id"] for row in naive] == [late]
        naive_checkpoint = naive[-1]["position"]
        reading = await read(pool, START)
        assert reading.events == []
        assert reading.unsettled, (
            "the reader must know that more events will follow without a notification"
        )

        await transaction.commit()

    lost = await pool.fetch("SELECT 1 FROM order_events WHERE position > $1", naive_checkpoint)
    assert lost == [], "a reader by position alone never sees the early event"
    await settled(pool)
    reading = await read(pool, START)
    assert [event.order_id for event in reading.events] == [early, late]
    assert not reading.unsettled
    assert (await read(pool, reading.events[-1].checkpoint)).events == []


async def test_reader_continues_after_its_checkpoint(pool: asyncpg.Pool) -> None:
    orders = [new_order_id() for _ in range(7)]
    for order_id in orders:
        await append(pool, order_id, note(1), note(2), note(3))
    seen, checkpoint = [], START
    while events := (await read(pool, checkpoint, limit=4)).events:
        assert len(events) <= 4
        seen += [(event.order_id, event.version) for event in events]
        checkpoint = events[-1].checkpoint
    assert seen == [(order_id, version) for order_id in orders for version in (1, 2, 3)]


async def test_repeated_and_concurrent_migrations_change_nothing(dsn: str) -> None:
    again = await asyncio.gather(migrate.migrate(dsn), migrate.migrate(dsn))
    assert list(again) == [[], []]


def test_digest_depends_on_events_but_not_on_metadata() -> None:
    other_actor = note(1).model_copy(update={"metadata": ABOUT.model_copy(update={"actor": "b"})})
    assert digest([note(1)]) == digest([other_actor])
    assert digest([note(1)]) != digest([note(1, "other")])
    assert digest([note(1)]) != digest([note(2)])
    assert digest([note(1), note(2)]) != digest([note(1)])


async def read(pool: asyncpg.Pool, after: Checkpoint, limit: int = 100) -> log.Reading:
    async with pool.acquire() as connection:
        return await log.read_settled(connection, after, limit)
