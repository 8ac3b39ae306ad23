"""Datasets of synthetic orders, written directly into order_view, each with an API process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dev.bench.http_connection import ConnectionPool
from dev.bench.servers import PostgresServer
from dev.bench.sql_upper_bound import DRAFT, document_of, json_like, quoted, state_of, time
from eventlog.postgres import connect
from readside.order_view.list_query import SORTS

ORDERS_PER_CUSTOMER = 10
SKUS = 200
START, DAYS = datetime(2025, 1, 1, microsecond=1, tzinfo=UTC), 720
FILL_S_MAX = 1_200.0
MIDDLE = [0.495 + 0.001 * n for n in range(11)]


@dataclass(frozen=True)
class Dataset:
    """A database with orders, and the API in front of it."""

    orders: int
    api: ConnectionPool
    middle_values: dict[str, list[Any]]
    """By sort, its values in orders near the middle."""

    @property
    def customers(self) -> int:
        return _customers(self.orders)


def _customers(orders: int) -> int:
    return max(orders // ORDERS_PER_CUSTOMER, 1)


_ORDERS = f"""
WITH drawn AS MATERIALIZED (
    SELECT n, md5(n::text) AS order_id, a, b,
        'customer-' || floor($2 * random() ^ 3) AS customer_id,
        CASE WHEN a < 0.80 THEN 'completed' WHEN a < 0.88 THEN 'cancelled'
             WHEN a < 0.94 THEN 'confirmed' WHEN a < 0.97 THEN 'draft' WHEN a < 0.985 THEN 'placed'
             WHEN a < 0.99 THEN 'awaiting_customer' WHEN a < 0.995 THEN 'on_hold'
             WHEN a < 0.999 THEN 'expired' ELSE 'cancelling' END AS status,
        floor(exp(4 + 6 * b))::bigint AS total,
        ARRAY['sku-' || floor({SKUS} * random() ^ 4), 'sku-' || floor({SKUS} * random() ^ 4)]
            AS skus,
        $3::timestamptz + interval '{DAYS} days' * n / $1 AS opened_at
    FROM (SELECT n, random() AS a, random() AS b FROM generate_series(1, $1) AS n) AS numbers
), with_skus AS (
    INSERT INTO order_view.skus
    SELECT DISTINCT sku, status, opened_at, order_id FROM drawn, unnest(skus) AS sku
)
INSERT INTO order_view.orders (
    order_id, version, status, customer_id, currency, external_reference, total,
    opened_at, placed_at, updated_at, allowed_commands, state, document, needs_attention
)
SELECT order_id, 10, status, customer_id, 'USD', CASE WHEN n % 5 = 0 THEN 'reference-' || n END,
    total, opened_at,
    CASE WHEN status NOT IN ('draft', 'expired') THEN opened_at + interval '1 hour' * a END,
    opened_at + interval '30 days' * b * b, 'add-note', {
    json_like(state_of(DRAFT), customer_id=quoted("customer_id"))
}::json, {
    json_like(
        document_of(DRAFT).model_dump(),
        order_id=quoted("order_id"),
        status=quoted("status"),
        customer_id=quoted("customer_id"),
        total="total",
        opened_at=time("opened_at"),
    )
}::json, random() < 0.01
FROM drawn
"""


async def create_dataset(server: PostgresServer, name: str, orders: int) -> Dataset:
    """Fills order_view in a new database; few customers, SKUs and statuses have most orders.

    Most filters match at least a page of 10,000 orders: shorter pages would be faster.
    """
    dsn = await server.database(name)
    connection = await connect(dsn)
    await connection.execute("SELECT setseed(0.5)")
    await connection.execute(_ORDERS, orders, _customers(orders), START, timeout=FILL_S_MAX)
    await connection.execute(
        "VACUUM ANALYZE order_view.orders, order_view.skus", timeout=FILL_S_MAX
    )
    middle_values = {
        sort: await connection.fetchval(
            f"SELECT percentile_disc($1::float8[]) WITHIN GROUP (ORDER BY {sort})"
            " FROM order_view.orders",
            MIDDLE,
            timeout=FILL_S_MAX,
        )
        for sort in SORTS
    }
    await connection.close()
    url, _ = await server.start_api(dsn, name)
    return Dataset(orders, ConnectionPool(url), middle_values)
