"""The guarantees of each sort while orders change between two pages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from readside.order_view.list_query import SORTS, ListQuery, OrderFilter
from readside.order_view.queries import find_page

ORDERS = 60
PAGE = 5
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SORTS_BOTH_WAYS = [(sort, descending) for sort in SORTS for descending in (False, True)]

Change = Callable[[random.Random, int], dict[str, Any]]


def at(minute: int) -> datetime:
    return BEGAN + timedelta(minutes=minute)


def change_of_total(dice: random.Random, _: int) -> dict[str, Any]:
    return {"total": dice.randint(0, ORDERS)}


def change_of_status(dice: random.Random, step: int) -> dict[str, Any]:
    """Every change makes the order the most recently updated."""
    return {"status": dice.choice(["placed", "confirmed"]), "updated_at": at(10 * ORDERS + step)}


async def make_orders(pool: asyncpg.Pool, dice: random.Random) -> list[str]:
    """Orders with few different values, so that sorts have ties."""
    ids = [f"ord_{number:02}" for number in range(ORDERS)]
    await pool.executemany(
        "INSERT INTO order_view.orders (order_id, version, status, customer_id, currency, total,"
        " needs_attention, opened_at, placed_at, updated_at, allowed_commands, state, document)"
        " VALUES ($1, 1, 'placed', 'c', 'USD', $2, false, $3, $4, $5, '', '{}', '{}')",
        [
            (order_id, *(dice.randint(0, 20),), *(at(dice.randint(0, 20)) for _ in range(3)))
            for order_id in ids
        ],
    )
    return ids


async def change(pool: asyncpg.Pool, order_id: str, values: dict[str, Any]) -> None:
    columns = ", ".join(f"{column} = ${n}" for n, column in enumerate(values, start=2))
    await pool.execute(
        f"UPDATE order_view.orders SET {columns} WHERE order_id = $1", order_id, *values.values()
    )


async def page_through(
    pool: asyncpg.Pool, sort: str, descending: bool, dice: random.Random, changing: Change
) -> tuple[list[str], set[str]]:
    """The orders that all pages return, and those that are changed between the pages."""
    movers = [f"ord_{number:02}" for number in range(0, ORDERS, 3)]
    returned, changed, after, step = list[str](), set[str](), None, 0
    filter = OrderFilter(status=["placed", "confirmed"])
    while rows := await find_page(pool, ListQuery(filter, sort, descending, after, PAGE)):
        returned += [row.order_id for row in rows]
        assert rows[-1].sort_value is not None
        after = (rows[-1].sort_value, rows[-1].order_id)
        for order_id in dice.sample(movers, 3) if step < 2 * ORDERS / PAGE else []:
            step += 1
            changed.add(order_id)
            await change(pool, order_id, changing(dice, step))
    return returned, changed


@pytest.mark.parametrize("changing", [change_of_total, change_of_status])
@pytest.mark.parametrize(("sort", "descending"), SORTS_BOTH_WAYS)
async def test_order_that_keeps_its_sort_value_is_returned_exactly_once(
    pool: asyncpg.Pool, sort: str, descending: bool, changing: Change
) -> None:
    dice = random.Random(f"{sort} {descending}")
    ids = await make_orders(pool, dice)
    returned, changed = await page_through(pool, sort, descending, dice, changing)
    assert changed
    moved = "total" if changing is change_of_total else "updated_at"
    staying = set(ids) - changed if sort == moved else set(ids)
    counts = Counter(returned)
    assert {order_id: counts[order_id] for order_id in staying} == dict.fromkeys(staying, 1)


async def test_ascending_by_update_skips_no_order(pool: asyncpg.Pool) -> None:
    dice = random.Random(5)
    ids = await make_orders(pool, dice)
    returned, changed = await page_through(pool, "updated_at", False, dice, change_of_status)
    assert set(returned) == set(ids)
    repeated = {order_id for order_id, count in Counter(returned).items() if count > 1}
    assert repeated and repeated <= changed
    last = {order_id: place for place, order_id in enumerate(returned)}
    assert min(last[order_id] for order_id in changed) > max(
        last[order_id] for order_id in set(ids) - changed
    ), "changed orders must be repeated at the end"


async def test_descending_by_update_skips_changed_orders(pool: asyncpg.Pool) -> None:
    dice = random.Random(6)
    ids = await make_orders(pool, dice)
    returned, changed = await page_through(pool, "updated_at", True, dice, change_of_status)
    skipped = set(ids) - set(returned)
    assert skipped and skipped <= changed
    assert max(Counter(returned).values()) == 1


async def test_by_total_skips_or_repeats_orders_whose_total_changes(
    pool: asyncpg.Pool,
) -> None:
    for descending in (False, True):
        await pool.execute("TRUNCATE order_view.orders CASCADE")
        ids = await make_orders(pool, random.Random(7))
        for order_id in ids:
            await change(pool, order_id, {"total": 100 + int(order_id[-2:])})
        first, last = (ids[-1], ids[0]) if descending else (ids[0], ids[-1])
        query = ListQuery(OrderFilter(), "total", descending, None, PAGE)
        page = await find_page(pool, query)
        assert page[0].order_id == first
        # The first moves behind the page, the last before it.
        await change(pool, first, {"total": 150 if not descending else 105})
        await change(pool, last, {"total": 0 if not descending else 999})
        assert page[-1].sort_value is not None
        after = (page[-1].sort_value, page[-1].order_id)
        query = ListQuery(OrderFilter(), "total", descending, after, ORDERS)
        rest = [row.order_id for row in await find_page(pool, query)]
        assert first in rest and last not in rest


async def test_by_time_of_placing_lists_only_placed_orders(pool: asyncpg.Pool) -> None:
    ids = await make_orders(pool, random.Random(8))
    await change(pool, ids[0], {"placed_at": None})
    for descending in (False, True):
        query = ListQuery(OrderFilter(), "placed_at", descending, None, 100)
        assert {row.order_id for row in await find_page(pool, query)} == set(ids[1:])
