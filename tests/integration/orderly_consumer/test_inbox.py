"""An inbox handles each event exactly once, at whichever step its consumer dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from orderly_consumer import Digest, Event, parse_event
from orderly_consumer.digest import order_hash
from orderly_consumer.postgres import Connection, PostgresInbox
from tests.support.consumed_events import PLACED, placed

Step = Callable[[Connection], Awaitable[object]]


@pytest.fixture
async def inbox(pool: asyncpg.Pool) -> PostgresInbox:
    inbox = PostgresInbox(pool, "invoicing")
    await inbox.create_tables()
    await pool.execute("CREATE TABLE invoices (event_id text)")
    return inbox


def event(number: int = 1, cursor: str | None = "c") -> Event:
    return parse_event(placed(f"ord_{number}"), cursor)


async def bill(connection: Connection, event: Event) -> None:
    await connection.execute("INSERT INTO invoices VALUES ($1)", event.id)


async def billed(pool: asyncpg.Pool) -> list[str]:
    rows = await pool.fetch("SELECT event_id FROM invoices ORDER BY event_id")
    return [row["event_id"] for row in rows]


async def test_effect_and_cursor_are_stored_together(
    inbox: PostgresInbox, pool: asyncpg.Pool
) -> None:
    assert (await inbox.cursor(), await inbox.digest()) == (None, Digest())
    assert await inbox.handle(event(1, "c1"), bill)
    assert await inbox.handle(event(2, "c2"), bill)
    assert await billed(pool) == ["ord_1@3", "ord_2@3"]
    assert await inbox.cursor() == "c2"
    assert await inbox.digest() == Digest.of("ord_1@3", "ord_2@3")
    other = PostgresInbox(pool, "warehouse")
    assert (await other.cursor(), await other.digest()) == (None, Digest())


async def raise_error(_: Connection) -> None:
    raise RuntimeError("killed")


async def lose_connection(connection: Connection) -> None:
    await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def cancel(_: Connection) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


KILLED = (RuntimeError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


@pytest.mark.parametrize("kill", [raise_error, lose_connection, cancel])
@pytest.mark.parametrize("at", ["before the effect", "after the effect", "after the cursor"])
async def test_consumer_that_dies_at_any_step_handles_the_event_once(
    inbox: PostgresInbox, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, at: str, kill: Step
) -> None:
    await inbox.handle(event(1, "c1"), bill)
    count = inbox._count

    async def bill_and_die(connection: Connection, event: Event) -> None:
        if at == "before the effect":
            await kill(connection)
        await bill(connection, event)
        if at == "after the effect":
            await kill(connection)

    async def count_and_die(connection: Connection, event: Event, *, is_new: bool) -> None:
        await count(connection, event, is_new=is_new)
        if at == "after the cursor":
            await kill(connection)

    monkeypatch.setattr(inbox, "_count", count_and_die)
    task = asyncio.create_task(inbox.handle(event(2, "c2"), bill_and_die))
    await asyncio.wait([task])
    assert task.cancelled() or isinstance(task.exception(), KILLED)
    assert await billed(pool) == ["ord_1@3"]
    assert (await inbox.cursor(), await inbox.digest()) == ("c1", Digest.of("ord_1@3"))

    restarted = PostgresInbox(pool, "invoicing")
    assert await restarted.handle(event(2, "c2"), bill)
    assert not await restarted.handle(event(2, "c2"), bill), "it comes again"
    assert await billed(pool) == ["ord_1@3", "ord_2@3"]
    assert await restarted.cursor() == "c2"
    assert await restarted.digest() == Digest.of("ord_1@3", "ord_2@3")


async def test_processes_that_run_the_same_consumer_share_the_events(
    inbox: PostgresInbox, pool: asyncpg.Pool
) -> None:
    async def run(first: int) -> None:
        for number in range(first, 25):
            await PostgresInbox(pool, "invoicing").handle(event(number, str(number)), bill)

    await asyncio.gather(*(run(first) for first in (0, 0, 5, 10)))
    expected = [f"ord_{number}@3" for number in range(25)]
    assert Counter(await billed(pool)) == Counter(expected)
    assert await inbox.digest() == Digest.of(*expected)
    assert await inbox.cursor() == "24"


async def test_webhook_beside_the_feed_leaves_the_cursor(
    inbox: PostgresInbox, pool: asyncpg.Pool
) -> None:
    assert await inbox.handle(event(1, "c1"), bill)
    assert await inbox.handle(event(2, None), bill)
    assert not await inbox.handle(event(1, None), bill)
    assert await inbox.cursor() == "c1"
    assert await inbox.handle(event(3, "c3"), bill)
    assert len(await billed(pool)) == 3


async def test_test_webhook_has_no_effect(inbox: PostgresInbox, pool: asyncpg.Pool) -> None:
    test = {**PLACED, "id": "test-1", "type": "orderly.test.v1", "subject": "we_1"}
    assert not await inbox.handle(parse_event(test), bill)
    assert (await billed(pool), await inbox.digest()) == ([], Digest())


async def test_inbox_knows_its_events_by_slice(inbox: PostgresInbox) -> None:
    for number in range(40):
        await inbox.handle(event(number), bill)
    held = {f"ord_{number}": f"ord_{number}@3" for number in range(40)}
    for slice in ("", order_hash("ord_7")[:1], order_hash("ord_8")[:6], "0" * 6):
        within = {one: id for one, id in held.items() if order_hash(one).startswith(slice)}
        names = {order_hash(one)[: len(slice) + 1] for one in within}
        assert await inbox.digests(slice) == {
            name: Digest.of(*(id for one, id in within.items() if order_hash(one).startswith(name)))
            for name in names
        }
        assert await inbox.ids_by_order(slice) == {one: {id} for one, id in within.items()}
