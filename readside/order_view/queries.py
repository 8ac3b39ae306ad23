"""Queries of order_view: single orders, and pages of lists."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
from pydantic import TypeAdapter

from eventlog.postgres import Reader
from orders.lifecycle import ENDED
from orders.order import Order
from readside.order_view.list_query import ListQuery, Position
from readside.order_view.row import OrderRow

_ORDER = TypeAdapter(Order)
COLUMNS = """
    o.order_id, o.version, o.status, o.document, o.allowed_commands, o.shipping_address,
    o.billing_address,
    (SELECT reason FROM orphaned_orders AS orphan WHERE orphan.order_id = o.order_id) AS orphaned
"""


class OrderSummary(NamedTuple):
    """What a list shows of an order, without its document."""

    order_id: str
    external_reference: str | None
    customer_id: str
    status: str
    payment_status: str
    fulfilment_status: str
    return_status: str
    needs_attention: bool
    currency: str
    total: int
    opened_at: datetime
    placed_at: datetime | None
    updated_at: datetime
    sort_value: datetime | int

    @property
    def position(self) -> Position:
        return self.sort_value, self.order_id


_SUMMARY = """
    o.order_id, o.external_reference, o.customer_id, o.status, o.payment_status,
    o.fulfilment_status, o.return_status,
    (o.needs_attention OR EXISTS (SELECT FROM orphaned_orders AS orphan
                                  WHERE orphan.order_id = o.order_id)) AS needs_attention,
    o.currency, o.total, o.opened_at, o.placed_at, o.updated_at
"""


async def find(reader: Reader, order_id: str) -> OrderRow | None:
    """One order; None if the read model does not contain it."""
    return (await find_many(reader, [order_id])).get(order_id)


async def find_many(reader: Reader, order_ids: Sequence[str]) -> dict[str, OrderRow]:
    """By id, those of the orders that the read model contains."""
    records = await reader.fetch(
        f"SELECT {COLUMNS} FROM order_view.orders AS o WHERE o.order_id = ANY($1)", order_ids
    )
    return {record[0]: row_of(record) for record in records}


async def find_state(reader: Reader, order_id: str) -> Order | None:
    """The state that an order decides on; None if the read model does not contain it."""
    state = await reader.fetchval(
        "SELECT state FROM order_view.orders WHERE order_id = $1", order_id
    )
    return _ORDER.validate_json(state) if state is not None else None


async def count_open_with_address(reader: Reader, customer_id: str) -> int:
    """The customer's orders that have not ended and name an address."""
    found: int = await reader.fetchval(
        "SELECT count(*) FROM order_view.orders WHERE customer_id = $1 AND status <> ALL($2)"
        " AND (shipping_address IS NOT NULL OR billing_address IS NOT NULL)",
        customer_id,
        [*ENDED],
    )
    return found


async def find_page(reader: Reader, query: ListQuery) -> list[OrderRow]:
    """The orders of one page of a list."""
    sql, values = query.sql(COLUMNS)
    return [row_of(record) for record in await reader.fetch(sql, *values)]


async def find_summaries(reader: Reader, query: ListQuery) -> list[OrderSummary]:
    """The orders of one page of a list, without their documents."""
    sql, values = query.sql(_SUMMARY)
    return [OrderSummary(*record) for record in await reader.fetch(sql, *values)]


def row_of(record: asyncpg.Record) -> OrderRow:
    """The row of a record of COLUMNS, and in a list its sort value."""
    order_id, version, status, document, commands, *rest = record
    return OrderRow(order_id, version, status, document, tuple(commands.split()), *rest)
