"""A digest is of exactly the events that a filter names, and is kept as the log grows."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable
from itertools import count, product
from random import Random
from typing import Any, cast

import asyncpg
import pytest

from eventlog import digest_blocks, digests, log
from eventlog.digests import Digest, Digests, DigestsBehind, TooManyOrders
from eventlog.feed import EventFilter
from eventlog.log import START, Checkpoint
from eventlog.postgres import Connection
from tests.support.command_builders import new_order_id
from tests.support.event_log import append, append_unsettled, note, settled

ORDERS, VERSIONS = 40, 10
CUSTOMERS = "a", "b"
FILTERS = {
    "all": EventFilter(),
    "a type": EventFilter(types=("order-opened",)),
    "types": EventFilter(types=("note-added", "order-opened")),
    "a customer": EventFilter(customer_id="a"),
    "a type of a customer": EventFilter(types=("note-added",), customer_id="b"),
    "an order": EventFilter(order_id="o-7"),
    "an order of another customer": EventFilter(order_id="o-7", customer_id="a"),
    "nothing": EventFilter(types=("order-held",)),
}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of which a short log has many, on three levels."""
    monkeypatch.setattr(digest_blocks, "BLOCK_EVENTS", 8)
    monkeypatch.setattr(digest_blocks, "ROWS_MAX", 3)
    monkeypatch.setattr(digests, "LEVEL_FACTOR", 4)


async def fill(pool: asyncpg.Pool) -> list[asyncpg.Record]:
    """Appends events of orders in turn; returns all of the log."""
    await pool.execute(
        """
        INSERT INTO order_events
            (order_id, version, type, schema_version, occurred_at, data, metadata)
        SELECT 'o-' || number, version,
               CASE version WHEN 1 THEN 'order-opened' ELSE 'note-added' END, 1, now(),
               jsonb_build_object('customer_id', CASE number % 2 WHEN 0 THEN 'a' ELSE 'b' END), '{}'
        FROM generate_series(1, $2) AS version, generate_series(1, $1) AS number
        ORDER BY version, number
        """,
        ORDERS,
        VERSIONS,
    )
    await settled(pool)
    return await read_log(pool)


async def read_log(pool: asyncpg.Pool) -> list[asyncpg.Record]:
    return await pool.fetch("SELECT * FROM order_events ORDER BY transaction_id, position")


async def keep_all(pool: asyncpg.Pool) -> int:
    """Adds all blocks; returns how many."""
    added = 0
    async with pool.acquire() as connection:
        while await digest_blocks.add_block(connection):
            added += 1
    return added


def expected(
    rows: list[asyncpg.Record], filter: EventFilter, slice: str, after: Checkpoint = START
) -> dict[str, Digest]:
    """The digests of the slices within a slice, from the definition."""
    found: dict[str, Digest] = defaultdict(Digest)
    for row in rows:
        order_id = row["order_id"]
        customer = CUSTOMERS[int(order_id.removeprefix("o-")) % 2]
        order_hash = hashlib.sha256(order_id.encode()).hexdigest()
        if (
            (row["transaction_id"], row["position"]) > after
            and filter.order_id in (None, order_id)
            and filter.customer_id in (None, customer)
            and (filter.types is None or row["type"] in filter.types)
            and order_hash.startswith(slice)
        ):
            event_hash = hashlib.sha256(f"{order_id}@{row['version']}".encode()).digest()[:8]
            found[order_hash[: len(slice) + 1]] += Digest(1, int.from_bytes(event_hash))
    return dict(found)


async def read(
    pool: asyncpg.Pool,
    until: Checkpoint,
    filter: EventFilter | None = None,
    slice: str = "",
    after: Checkpoint = START,
) -> Digests:
    return await digests.read(pool, after, until, filter or EventFilter(), slice)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "not kept"])
async def test_digest_is_of_exactly_the_events_that_the_filter_names(
    pool: asyncpg.Pool, is_kept: bool
) -> None:
    rows = await fill(pool)
    assert await keep_all(pool) == 50 + 12 + 3 if is_kept else True
    random = Random(1)
    slices = ["", "0", "7", "f", digests.order_hash("o-7")[:2], digests.order_hash("o-8")[:5]]
    for name, slice in product(FILTERS, slices):
        first, last = sorted(random.sample(range(len(rows)), 2))
        after, until = (Checkpoint(*_at(rows[n])) for n in (first, last))
        whole = await read(pool, until, FILTERS[name], slice)
        assert whole.slices == expected(rows[: last + 1], FILTERS[name], slice), (name, slice)
        part = await read(pool, until, FILTERS[name], slice, after)
        assert part.slices == expected(rows[: last + 1], FILTERS[name], slice, after), (name, slice)


def _at(row: asyncpg.Record) -> tuple[int, int]:
    return row["transaction_id"], row["position"]


@pytest.mark.usefixtures("small_blocks")
async def test_nothing_lies_between_a_position_and_an_earlier_one(pool: asyncpg.Pool) -> None:
    rows = await fill(pool)
    await keep_all(pool)
    earlier, later = (Checkpoint(*_at(rows[n])) for n in (3, -1))
    for filter, slice, after in product(FILTERS.values(), ("", "7", "77"), (earlier, later)):
        found = await read(pool, earlier, filter, slice, after)
        assert (found.slices, found.whole) == ({}, Digest()), (filter, slice)


@pytest.mark.usefixtures("small_blocks")
async def test_digest_is_right_at_every_position(pool: asyncpg.Pool) -> None:
    rows = await fill(pool)
    await keep_all(pool)
    sum_up_to_here = Digest()
    for row in rows:
        sum_up_to_here += digests.total(expected([row], EventFilter(), "").values())
        assert (await read(pool, Checkpoint(*_at(row)))).whole == sum_up_to_here


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "not kept"])
async def test_sum_that_ends_in_zeros_is_read_exactly(
    pool: asyncpg.Pool, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver has it as a number with an exponent: one in 10,000 events is such a sum alone."""
    order_id = next(one for n in count() if _signed_hash(one := f"o-{n}", 1) % 10_000 == 0)
    monkeypatch.setattr(digest_blocks, "BLOCK_EVENTS", 1)
    await append(pool, order_id, note(1))
    rows = await read_log(pool)
    assert await keep_all(pool) == 1 if is_kept else True
    for filter in (EventFilter(), EventFilter(order_id=order_id)):
        found = await read(pool, Checkpoint(*_at(rows[0])), filter)
        assert found.slices == expected(rows, filter, "")


def _signed_hash(order_id: str, version: int) -> int:
    event_hash = hashlib.sha256(f"{order_id}@{version}".encode()).digest()[:8]
    return int.from_bytes(event_hash, signed=True)


@pytest.mark.usefixtures("small_blocks")
async def test_digest_is_kept_and_not_computed(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = await fill(pool)
    end = Checkpoint(*_at(rows[-1]))
    monkeypatch.setattr(digests, "UNKEPT_EVENTS_MAX", 8)
    with pytest.raises(DigestsBehind):
        await read(pool, end)
    await keep_all(pool)
    before = await read(pool, end)
    await pool.execute("UPDATE digest_sums SET events = events + 1 WHERE level = 2 AND number = 0")
    changed = await pool.fetchval("SELECT count(*) FROM digest_sums WHERE level = 2 AND number = 0")
    assert (await read(pool, end)).whole.count == before.whole.count + changed


@pytest.mark.usefixtures("small_blocks")
async def test_blocks_that_are_added_meanwhile_change_no_digest(pool: asyncpg.Pool) -> None:
    rows = await fill(pool)
    end, whole = Checkpoint(*_at(rows[-1])), expected(rows, EventFilter(), "")
    async with pool.acquire() as connection:
        growing = Growing(connection)
        while growing.has_grown:
            growing.has_grown = False
            assert (await read(cast(asyncpg.Pool, growing), end)).slices == whole


class Growing:
    """A connection that adds a block after each statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.has_grown = True

    async def fetch(self, *statement: Any) -> Any:
        return await self._and_grow(self._connection.fetch(*statement))

    async def fetchrow(self, *statement: Any) -> Any:
        return await self._and_grow(self._connection.fetchrow(*statement))

    async def _and_grow(self, result: Awaitable[Any]) -> Any:
        found = await result
        self.has_grown |= await digest_blocks.add_block(self._connection)
        return found


async def test_slice_of_too_many_orders_is_rejected(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "ORDERS_MAX", 5)
    rows = await fill(pool)
    end, of_customer = Checkpoint(*_at(rows[-1])), EventFilter(customer_id="a")
    with pytest.raises(TooManyOrders):
        await read(pool, end, of_customer)
    parts = [await read(pool, end, of_customer, f"{digit:x}") for digit in range(16)]
    whole = digests.total(expected(rows, of_customer, "").values())
    assert digests.total(part.whole for part in parts) == whole


@pytest.mark.usefixtures("small_blocks")
async def test_event_that_commits_late_is_in_the_block_that_it_precedes(
    pool: asyncpg.Pool,
) -> None:
    early, late = new_order_id(), new_order_id()
    async with pool.acquire() as slow:
        holding = slow.transaction()
        await holding.start()
        await log.append(slow, early, [note(1)])  # Has its position, but is not committed.
        await append_unsettled(pool, late, *(note(version) for version in range(1, 9)))
        assert await keep_all(pool) == 0, "a block may only have settled events"
        assert (await read(pool, await log.settled_head(pool))).whole == Digest()
        await holding.commit()
    await settled(pool)
    assert await keep_all(pool) == 1
    kept = await pool.fetchval(
        "SELECT sum(events) FROM digest_sums WHERE slice = $1",
        int(digests.order_hash(early)[0], 16),
    )
    assert kept >= 1
    assert (await read(pool, await log.settled_head(pool))).whole.count == 9


@pytest.mark.usefixtures("small_blocks")
async def test_two_processes_add_the_same_blocks(pool: asyncpg.Pool) -> None:
    rows = await fill(pool)
    await asyncio.gather(*(keep_all(pool) for _ in range(3)))
    assert await pool.fetchval("SELECT count(*) FROM digest_blocks") == 50 + 12 + 3
    assert [block async for block in digest_blocks.find_wrong(pool)] == []
    whole = (await read(pool, Checkpoint(*_at(rows[-1])))).whole
    assert whole == digests.total(expected(rows, EventFilter(), "").values())


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("level", [0, 1, 2])
async def test_wrong_sums_are_found_and_can_be_computed_again(
    pool: asyncpg.Pool, level: int
) -> None:
    await fill(pool)
    await keep_all(pool)
    await pool.execute(
        "UPDATE digest_sums SET sum = sum + 1 WHERE level = $1 AND number = 1", level
    )
    first, *_ = [block async for block in digest_blocks.find_wrong(pool)]
    assert (first.level, first.number) == (level, 1)
    await pool.execute("TRUNCATE digest_blocks, digest_sums")
    await keep_all(pool)
    assert [block async for block in digest_blocks.find_wrong(pool)] == []


@pytest.mark.usefixtures("small_blocks")
async def test_blocks_are_added_in_the_background(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digest_blocks, "POLL_SECONDS", 0.05)
    stopped = asyncio.Event()
    running = asyncio.create_task(digest_blocks.run(dsn, stopped))
    await fill(pool)
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM digest_blocks") < 50 + 12 + 3:
            await asyncio.sleep(0.05)
    stopped.set()
    await running


async def test_hashes_are_computed_in_the_query_and_not_by_calls(pool: asyncpg.Pool) -> None:
    """A call of a function takes ten times as long; only immutable expressions are inlined."""
    rows = await pool.fetch(
        "EXPLAIN VERBOSE SELECT event_hash(order_id, version), order_hash(order_id)"
        " FROM order_events"
    )
    plan = " ".join(row[0] for row in rows)
    assert plan.count("sha256(") == 2
    assert "_hash(" not in plan
