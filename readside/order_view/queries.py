"""What is asked of `order_view`: one order, or pages of those that match, each by an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import asyncpg

from eventlog.postgres import Reader
from readside.order_view.row import OrderRow, Phase

SORTS = ("opened_at", "placed_at", "updated_at", "total")


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders a list shows; None does not restrict. Bounds are inclusive below only."""

    customer_id: str | None = None
    status: Sequence[str] | None = None
    needs_attention: bool | None = None
    sku: str | None = None
    external_reference: str | None = None
    placed_from: datetime | None = None
    placed_until: datetime | None = None
    total_from: int | None = None
    total_until: int | None = None

    @property
    def sorts(self) -> Sequence[str]:
        """Those of SORTS in which an index finds them, the usual one first."""
        if self.sku is not None:
            return ("opened_at",)
        ranges = {
            "placed_at": (self.placed_from, self.placed_until),
            "total": (self.total_from, self.total_until),
        }
        return [sort for sort, bounds in ranges.items() if bounds != (None, None)] or SORTS


_COLUMNS = """
    o.order_id, o.version, o.document, o.status, o.awaiting, o.has_policy,
    o.shipping_address, o.billing_address
"""


async def find(connection: Reader, order_id: str) -> OrderRow | None:
    """One order; None if the read model does not contain it."""
    return (await find_many(connection, [order_id])).get(order_id)


async def find_many(connection: Reader, order_ids: Sequence[str]) -> dict[str, OrderRow]:
    """By id, those of the orders that the read model contains."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM order_view.orders AS o WHERE o.order_id = ANY($1)", order_ids
    )
    return {row[0]: _order_row(row) for row in rows}


def _order_row(row: asyncpg.Record) -> OrderRow:
    return OrderRow(row[0], row[1], row[2], Phase(row[3], row[4], row[5]), *row[6:])


async def find_page(
    connection: Reader,
    filter: OrderFilter,
    sort: str,
    descending: bool,
    after: tuple[datetime | int, str] | None,
    limit: int,
) -> list[OrderRow]:
    """At most `limit` orders, sorted by one of `filter.sorts` and then by id.

    `after` is the sort value and the id of the last order of the page before.
    """
    if sort not in filter.sorts:
        raise ValueError(f"these orders cannot be sorted by {sort}")
    values: list[Any] = []

    def value(it: object) -> str:
        values.append(it)
        return f"${len(values)}"

    direction, beyond = ("DESC", "<") if descending else ("ASC", ">")
    source, key, status_column = "order_view.orders AS o", f"o.{sort}, o.order_id", "o.status"
    if filter.sku is not None:
        source = f"order_view.skus AS s JOIN {source} USING (order_id)"
        key, status_column = "s.opened_at, s.order_id", "s.status"
    clauses = _clauses(_without_passed_bound(filter, sort, descending, after), sort, value)
    if after is not None:
        clauses.append(f"({key}) {beyond} ({value(after[0])}, {value(after[1])})")
    row_limit = value(limit)

    def found(*more: str) -> str:
        where = " AND ".join([*clauses, *more]) or "true"
        order = ", ".join(f"{column} {direction}" for column in key.split(", "))
        columns = f"{_COLUMNS}, {key.split(', ')[0]} AS sort_value"
        return f"SELECT {columns} FROM {source} WHERE {where} ORDER BY {order} LIMIT {row_limit}"

    if filter.status is None:
        query = found()
    else:
        # One by one: an index has the orders of one status in order, but not those of several.
        statuses = [f"{status_column} = {value(status)}" for status in dict.fromkeys(filter.status)]
        query = (
            f"SELECT * FROM ({' UNION ALL '.join(f'({found(one)})' for one in statuses)}) AS found"
            f" ORDER BY sort_value {direction}, order_id {direction} LIMIT {row_limit}"
        )
    return [_order_row(row) for row in await connection.fetch(query, *values)]


def _without_passed_bound(
    filter: OrderFilter, sort: str, descending: bool, after: tuple[Any, str] | None
) -> OrderFilter:
    """The filter less the bound that a cursor has passed: a scan would begin there, not here."""
    passed = _BOUNDS.get((sort, descending))
    if passed is None or after is None:
        return filter
    bound = getattr(filter, passed)
    if bound is None or not (after[0] < bound if descending else after[0] >= bound):
        return filter
    return replace(filter, **{passed: None})


_BOUNDS = {
    ("placed_at", False): "placed_from",
    ("placed_at", True): "placed_until",
    ("total", False): "total_from",
    ("total", True): "total_until",
}


def _clauses(filter: OrderFilter, sort: str, value: Callable[[object], str]) -> list[str]:
    """SQL for all that restricts a list but its statuses."""
    clauses = [
        condition.format(value(wanted))
        for condition, wanted in {
            "s.sku = {}": filter.sku,
            "o.customer_id = {}": filter.customer_id,
            "o.external_reference = {}": filter.external_reference,
            "o.placed_at >= {}": filter.placed_from,
            "o.placed_at < {}": filter.placed_until,
            "o.total >= {}": filter.total_from,
            "o.total < {}": filter.total_until,
        }.items()
        if wanted is not None
    ]
    if filter.needs_attention is not None:  # In words: a parameter would hide the index.
        clauses.append("o.needs_attention" if filter.needs_attention else "NOT o.needs_attention")
    if sort == "placed_at":
        clauses.append("o.placed_at IS NOT NULL")
    return clauses
