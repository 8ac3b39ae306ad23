"""Lists equal a plain search, page by page, for every filter and sort."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from readside.order_view.list_query import SORTS, ListQuery, OrderFilter
from readside.order_view.queries import find_page

ORDERS = 300
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = ("draft", "placed", "confirmed", "completed")


@dataclass(frozen=True)
class Made:
    """The fields of an order that lists use; few different values, so that sorts have ties."""

    order_id: str
    status: str
    customer_id: str
    external_reference: str | None
    total: int
    needs_attention: bool
    opened_at: datetime
    placed_at: datetime | None
    updated_at: datetime
    payment_status: str
    fulfilment_status: str
    return_status: str
    awaits: str | None
    attention_since: datetime | None
    deadline_at: datetime | None
    skus: frozenset[str]
    terms: frozenset[str]


def made(dice: random.Random, number: int) -> Made:
    def at() -> datetime:
        return BEGAN + timedelta(hours=dice.randint(0, 40))

    needs_attention = dice.random() < 0.2
    return Made(
        order_id=f"ord_{number:03}",
        status=dice.choice(STATUSES),
        customer_id=f"c-{dice.randint(1, 4)}",
        external_reference=dice.choice([None, "a", "b"]),
        total=dice.randint(0, 12),
        needs_attention=needs_attention,
        opened_at=at(),
        placed_at=at() if dice.random() < 0.7 else None,
        updated_at=at(),
        payment_status=dice.choice(["none", "captured", "declined"]),
        fulfilment_status=dice.choice(["none", "shipped"]),
        return_status=dice.choice(["none", "none", "requested"]),
        awaits=dice.choice([None, None, "payment", "shortfall"]),
        attention_since=at() if needs_attention else None,
        deadline_at=at() if dice.random() < 0.7 else None,
        skus=frozenset(dice.sample(["milk", "bread", "eggs"], dice.randint(0, 3))),
        terms=frozenset(dice.sample(["auth_1", "milk", "c-1"], dice.randint(0, 3))),
    )


async def insert(pool: asyncpg.Pool, orders: Sequence[Made]) -> None:
    await pool.executemany(
        "INSERT INTO order_view.orders (order_id, version, status, customer_id, currency,"
        " external_reference, total, needs_attention, opened_at, placed_at, updated_at,"
        " payment_status, fulfilment_status, return_status, awaits, attention_since, deadline_at,"
        " allowed_commands, state, document)"
        " VALUES ($1, 1, $2, $3, 'USD', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, '',"
        " '{}', '{}')",
        [list(vars(order).values())[:15] for order in orders],
    )
    await pool.executemany(
        "INSERT INTO order_view.terms VALUES ($1, $2, $3)",
        [(term, o.opened_at, o.order_id) for o in orders for term in o.terms],
    )
    await pool.executemany(
        "INSERT INTO order_view.skus VALUES ($1, $2, $3, $4)",
        [(sku, o.status, o.opened_at, o.order_id) for o in orders for sku in o.skus],
    )


def any_filter(dice: random.Random) -> OrderFilter:
    def maybe(value: Any, chance: float = 0.3) -> Any:
        return value if dice.random() < chance else None

    hours = sorted(dice.sample(range(41), 2))
    totals = sorted(dice.sample(range(13), 2))
    return OrderFilter(
        customer_id=maybe(f"c-{dice.randint(1, 4)}"),
        status=maybe([dice.choice(STATUSES) for _ in range(dice.randint(1, 3))]),
        needs_attention=maybe(dice.random() < 0.5),
        sku=maybe(dice.choice(["milk", "bread", "caviar"])),
        external_reference=maybe("a"),
        placed_from=maybe(BEGAN + timedelta(hours=hours[0])),
        placed_until=maybe(BEGAN + timedelta(hours=hours[1])),
        total_from=maybe(totals[0]),
        total_until=maybe(totals[1]),
        payment_status=maybe("captured", 0.1),
        fulfilment_status=maybe("shipped", 0.1),
        return_status=maybe(dice.choice(["none", "requested"]), 0.1),
        awaits=maybe("payment", 0.1),
        attention_until=maybe(BEGAN + timedelta(hours=hours[1]), 0.1),
        deadline_until=maybe(BEGAN + timedelta(hours=hours[1]), 0.1),
        search=maybe(dice.choice(["auth_1", "milk", "c-1", "ord_007"]), 0.2),
    )


def before(value: datetime | None, until: datetime | None) -> bool:
    return until is None or (value is not None and value < until)


def matches(filter: OrderFilter, order: Made) -> bool:
    placed = order.placed_at
    return (
        filter.customer_id in (None, order.customer_id)
        and (filter.status is None or order.status in filter.status)
        and filter.needs_attention in (None, order.needs_attention)
        and (filter.sku is None or filter.sku in order.skus)
        and filter.external_reference in (None, order.external_reference)
        and (filter.placed_from is None or (placed is not None and placed >= filter.placed_from))
        and (filter.placed_until is None or (placed is not None and placed < filter.placed_until))
        and (filter.total_from is None or order.total >= filter.total_from)
        and (filter.total_until is None or order.total < filter.total_until)
        and filter.payment_status in (None, order.payment_status)
        and filter.fulfilment_status in (None, order.fulfilment_status)
        and filter.return_status in (None, order.return_status)
        and filter.awaits in (None, order.awaits)
        and before(order.attention_since, filter.attention_until)
        and before(order.deadline_at, filter.deadline_until)
        and filter.search in (None, order.order_id, order.customer_id, *order.skus, *order.terms)
    )


@pytest.mark.parametrize("searches", [80, pytest.param(1_000, marks=pytest.mark.soak)])
async def test_pages_equal_a_plain_search(pool: asyncpg.Pool, searches: int) -> None:
    dice = random.Random(3)
    orders = [made(dice, number) for number in range(ORDERS)]
    await insert(pool, orders)
    found_some = 0
    for _ in range(searches):
        filter = any_filter(dice)
        sort, descending = dice.choice(filter.sorts), dice.random() < 0.5
        found: list[str] = []
        after, limit = None, dice.choice([2, 7, 50])
        while rows := await find_page(pool, ListQuery(filter, sort, descending, after, limit)):
            found += [row.order_id for row in rows]
            last = rows[-1]
            assert last.sort_value is not None
            after = (last.sort_value, last.order_id)
        wanted = [
            order for order in orders if matches(filter, order) and getattr(order, sort) is not None
        ]
        wanted.sort(key=lambda o: (getattr(o, sort), o.order_id), reverse=descending)
        assert found == [order.order_id for order in wanted], (filter, sort, descending)
        found_some += bool(found)
    assert found_some > 0.3 * searches


async def test_cursor_outside_the_range_returns_only_orders_inside_it(
    pool: asyncpg.Pool,
) -> None:
    dice = random.Random(4)
    await insert(pool, [made(dice, number) for number in range(ORDERS)])
    filter = OrderFilter(total_from=3, total_until=6)
    for descending, after in ((True, (99, "x")), (False, (-1, "")), (True, (5, "x"))):
        rows = await find_page(pool, ListQuery(filter, "total", descending, after, 100))
        assert rows
        assert {row.sort_value for row in rows} <= {3, 4, 5}


def test_filter_names_the_sorts_that_an_index_supports() -> None:
    assert tuple(OrderFilter(customer_id="c").sorts) == SORTS
    assert tuple(OrderFilter(placed_from=BEGAN).sorts) == ("placed_at",)
    assert tuple(OrderFilter(placed_from=BEGAN, total_from=1).sorts) == ("placed_at", "total")
    assert tuple(OrderFilter(sku="milk", total_from=1).sorts) == ("opened_at",)
    assert tuple(OrderFilter(search="milk", total_from=1).sorts) == ("opened_at",)
    assert tuple(OrderFilter(return_status="requested").sorts) == ("opened_at",)
    assert tuple(OrderFilter(deadline_until=BEGAN).sorts) == ("deadline_at",)


async def test_unsupported_sort_is_rejected(pool: asyncpg.Pool) -> None:
    with pytest.raises(ValueError, match="cannot be sorted by total"):
        await find_page(pool, ListQuery(OrderFilter(sku="milk"), "total", False, None, 1))
