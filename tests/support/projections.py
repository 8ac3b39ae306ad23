"""The order view, projected from events that are appended to the log directly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from eventlog import log
from eventlog.announcements import announce
from eventlog.envelope import Envelope
from orders.decider import allowed_commands
from orders.events import (
    ItemAdded,
    OrderEvent,
    OrderOpened,
)
from readside.engine import generations
from readside.engine.batches import BatchStatus, project_batch
from readside.engine.checkpoints import ALL_SLICES
from readside.order_view import projection as order_view
from readside.order_view import queries as order_lists
from readside.order_view.document import OrderDocument, document
from readside.order_view.row import order_row
from readside.order_view.view import OrderView, fold_view
from tests.support.event_log import ABOUT, AT, settled

ORDER_VIEW = order_view.PROJECTION
OPENED = OrderOpened(customer_id="900", currency="USD")
BAGELS = ItemAdded(
    line_id="1", sku="1095275", title="BAGELS", quantity=2, unit_price=50, discount=10, tax=0
)
UNREADABLE = "order-teleported"


async def publish(pool: asyncpg.Pool, order_id: str, first: int, *events: OrderEvent) -> None:
    envelopes = [Envelope.of(e, version, AT, ABOUT) for version, e in enumerate(events, first)]
    async with pool.acquire() as connection:
        await log.append(connection, order_id, envelopes)
        await announce(connection)


async def publish_unreadable(pool: asyncpg.Pool, order_id: str, version: int) -> None:
    await pool.execute(
        "INSERT INTO order_events (order_id, version, type, schema_version, occurred_at, data,"
        " metadata) VALUES ($1, $2, $3, 1, now(), '{}', $4)",
        order_id,
        version,
        UNREADABLE,
        ABOUT.model_dump(),
    )
    await announce(pool)


async def project_all(dsn: str, slices: Sequence[int] = ALL_SLICES) -> None:
    async with generations.connected(dsn, ORDER_VIEW) as connection:
        await settled(connection)
        while await project_batch(connection, ORDER_VIEW, slices) is not BatchStatus.CAUGHT_UP:
            pass


async def shown(pool: asyncpg.Pool, order_id: str) -> OrderDocument:
    row = await order_lists.find(pool, order_id)
    assert row is not None
    return OrderDocument.model_validate_json(row.document)


async def assert_views_equal_folds(pool: asyncpg.Pool) -> None:
    orders = await pool.fetch("SELECT DISTINCT order_id FROM order_events")
    assert await pool.fetchval("SELECT count(*) FROM order_view.orders") == len(orders)
    for (order_id,) in orders:
        view = fold_view(OrderView(order_id), await log.read_stream(pool, order_id))
        assert await order_lists.find(pool, order_id) == order_row(view)


def order_as_shown(view: OrderView, addresses: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The order as the API shows it to an operator; `addresses` are decrypted, by their tokens."""

    def shown(address: str | None) -> Any:
        return addresses[address] if address is not None else None

    order = document(view).model_dump(mode="json")
    return {
        **order,
        "shipments": [{**s, "address": shown(s["address"])} for s in order["shipments"]],
        "shipping_address": shown(view.order.shipping_address),
        "billing_address": shown(view.order.billing_address),
        "allowed_commands": allowed_commands(view.order),
    }
