"""The projection of order_view: each order's document, and columns to filter and sort by."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import TypeAdapter

from eventlog.postgres import Connection
from orders import statuses
from orders.order import Order
from orders.rules.deadlines import next_deadline
from readside.engine.projection import Projection, Streams, columns
from readside.order_view import waiting
from readside.order_view.row import order_row
from readside.order_view.view import OrderView, fold_view

_TABLES = """
CREATE TABLE orders (
    order_id           text        PRIMARY KEY,
    version            integer     NOT NULL,
    status             text        NOT NULL,
    customer_id        text        NOT NULL,
    currency           text        NOT NULL,
    external_reference text,
    total              bigint      NOT NULL,
    needs_attention    boolean     NOT NULL,
    opened_at          timestamptz NOT NULL,
    placed_at          timestamptz,
    updated_at         timestamptz NOT NULL,
    payment_status     text        NOT NULL DEFAULT 'none',
    fulfilment_status  text        NOT NULL DEFAULT 'none',
    return_status      text        NOT NULL DEFAULT 'none',
    awaits             text,
    attention_since    timestamptz,
    deadline_at        timestamptz,
    allowed_commands   text        NOT NULL,  -- types, separated by spaces
    shipping_address   text,                  -- encrypted under the customer's key
    billing_address    text,
    state              json        NOT NULL,  -- the order itself; jsonb would reorder its lines
    texts              json        NOT NULL DEFAULT '{}',  -- of its notes, reasons and so on
    since              json        NOT NULL DEFAULT '{}',  -- when what it waits for began
    document           json        NOT NULL   -- what the API returns of it, as text
);
-- Which orders have a line of a SKU. No column changes with every event, so an order of many lines
-- costs no more than one of few; a status changes a few times per order.
CREATE TABLE skus (
    sku       text        NOT NULL,
    status    text        NOT NULL,
    opened_at timestamptz NOT NULL,
    order_id  text        NOT NULL
);
-- What people know an order by: external reference, tracking numbers, payment references.
CREATE TABLE terms (
    term      text        NOT NULL,
    opened_at timestamptz NOT NULL,
    order_id  text        NOT NULL
);
"""

# One for each filter and sort in queries.py.
_INDEXES = """
CREATE INDEX ON orders (opened_at, order_id);
CREATE INDEX ON orders (updated_at, order_id);
CREATE INDEX ON orders (total, order_id);
CREATE INDEX ON orders (placed_at, order_id) WHERE placed_at IS NOT NULL;
CREATE INDEX ON orders (customer_id, opened_at, order_id);
CREATE INDEX ON orders (customer_id, updated_at, order_id);
CREATE INDEX ON orders (customer_id, total, order_id);
CREATE INDEX ON orders (customer_id, placed_at, order_id) WHERE placed_at IS NOT NULL;
CREATE INDEX ON orders (status, opened_at, order_id);
CREATE INDEX ON orders (status, updated_at, order_id);
CREATE INDEX ON orders (status, total, order_id);
CREATE INDEX ON orders (status, placed_at, order_id) WHERE placed_at IS NOT NULL;
CREATE INDEX ON orders (external_reference) WHERE external_reference IS NOT NULL;
CREATE INDEX ON orders (opened_at, order_id) WHERE needs_attention;
CREATE INDEX ON orders (updated_at, order_id) WHERE needs_attention;
CREATE INDEX ON orders (total, order_id) WHERE needs_attention;
CREATE INDEX ON orders (placed_at, order_id) WHERE needs_attention AND placed_at IS NOT NULL;
CREATE INDEX ON orders (payment_status, opened_at, order_id);
CREATE INDEX ON orders (fulfilment_status, opened_at, order_id);
CREATE INDEX ON orders (return_status, opened_at, order_id) WHERE return_status <> 'none';
CREATE INDEX ON orders (awaits, opened_at, order_id) WHERE awaits IS NOT NULL;
CREATE INDEX ON orders (deadline_at, order_id) WHERE deadline_at IS NOT NULL;
CREATE UNIQUE INDEX ON terms (term, opened_at, order_id);
CREATE INDEX ON terms (order_id);
CREATE UNIQUE INDEX ON skus (sku, opened_at, order_id);
CREATE INDEX ON skus (sku, status, opened_at, order_id);
CREATE INDEX ON skus (order_id);
"""

_ORDER = TypeAdapter(Order)
_TEXTS = TypeAdapter(dict[str, str])
_SINCE = TypeAdapter(dict[str, datetime])


async def project(connection: Connection, streams: Streams) -> None:
    """Folds new events into the rows of their orders; raises ProjectionError."""
    before = await _load(connection, list(streams))
    views = [fold_view(before.get(key, OrderView(key)), stream) for key, stream in streams.items()]
    await _save(connection, views)
    await _save_skus(connection, before, views)
    await _save_terms(connection, before, views)


async def _load(connection: Connection, order_ids: list[str]) -> dict[str, OrderView]:
    rows = await connection.fetch(
        """
        SELECT order_id, state, texts, since, opened_at, placed_at, updated_at
        FROM orders WHERE order_id = ANY($1)
        """,
        order_ids,
    )
    return {
        row["order_id"]: OrderView(
            order_id=row["order_id"],
            order=_ORDER.validate_json(row["state"]),
            opened_at=row["opened_at"],
            placed_at=row["placed_at"],
            updated_at=row["updated_at"],
            texts=_TEXTS.validate_json(row["texts"]),
            since=_SINCE.validate_json(row["since"]),
        )
        for row in rows
    }


async def _save(connection: Connection, views: Sequence[OrderView]) -> None:
    await connection.execute(
        """
        INSERT INTO orders (
            order_id, version, status, customer_id, currency, external_reference, total,
            needs_attention, opened_at, placed_at, updated_at, allowed_commands, shipping_address,
            billing_address, state, texts, document, since, payment_status, fulfilment_status,
            return_status, awaits, attention_since, deadline_at
        )
        SELECT order_id, version, status, customer_id, currency, external_reference, total,
               needs_attention, opened_at, placed_at, updated_at, allowed_commands,
               shipping_address, billing_address, state::json, texts::json, document::json,
               since::json, payment_status, fulfilment_status, return_status, awaits,
               attention_since, deadline_at
        FROM unnest(
            $1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::boolean[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::text[],
            $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
            $19::text[], $20::text[], $21::text[], $22::text[], $23::timestamptz[],
            $24::timestamptz[]
        ) AS new (order_id, version, status, customer_id, currency, external_reference, total,
                  needs_attention, opened_at, placed_at, updated_at, allowed_commands,
                  shipping_address, billing_address, state, texts, document, since,
                  payment_status, fulfilment_status, return_status, awaits, attention_since,
                  deadline_at)
        ON CONFLICT (order_id) DO UPDATE SET
            version = excluded.version, status = excluded.status, total = excluded.total,
            needs_attention = excluded.needs_attention, placed_at = excluded.placed_at,
            updated_at = excluded.updated_at, allowed_commands = excluded.allowed_commands,
            shipping_address = excluded.shipping_address,
            billing_address = excluded.billing_address, state = excluded.state,
            texts = excluded.texts, document = excluded.document, since = excluded.since,
            payment_status = excluded.payment_status,
            fulfilment_status = excluded.fulfilment_status,
            return_status = excluded.return_status, awaits = excluded.awaits,
            attention_since = excluded.attention_since, deadline_at = excluded.deadline_at
        """,
        *columns(map(_values, views)),
    )


def _values(view: OrderView) -> Sequence[object]:
    order, row, deadline = view.order, order_row(view), next_deadline(view.order)
    attention = [view.since[key] for key in waiting.settled_by_person(order)]
    return (
        row.order_id,
        row.version,
        row.status,
        order.customer_id,
        order.currency,
        order.external_reference,
        order.total,
        bool(attention),
        view.opened_at,
        view.placed_at,
        view.updated_at,
        " ".join(row.allowed_commands),
        row.shipping_address,
        row.billing_address,
        _ORDER.dump_json(order).decode(),
        _TEXTS.dump_json(dict(view.texts)).decode(),
        row.document,
        _SINCE.dump_json(dict(view.since)).decode(),
        statuses.payment_status(order),
        statuses.fulfilment_status(order),
        statuses.return_status(order),
        order.awaiting,
        min(attention, default=None),
        deadline.at if deadline else None,
    )


async def _save_skus(
    connection: Connection, before: dict[str, OrderView], views: Sequence[OrderView]
) -> None:
    added: list[tuple[str, str, datetime | None, str]] = []
    removed: list[tuple[str, str]] = []
    changed: list[tuple[str, str]] = []
    for view in views:
        old, status = before.get(view.order_id), str(view.order.status)
        known, now = _skus(old), _skus(view)
        added += [(sku, status, view.opened_at, view.order_id) for sku in now - known]
        removed += [(sku, view.order_id) for sku in known - now]
        if old and known & now and old.order.status != view.order.status:
            changed.append((status, view.order_id))
    if removed:
        await connection.execute(
            "DELETE FROM skus USING unnest($1::text[], $2::text[]) AS gone (sku, order_id)"
            " WHERE (skus.sku, skus.order_id) = (gone.sku, gone.order_id)",
            *columns(removed),
        )
    if changed:
        await connection.execute(
            "UPDATE skus SET status = new.status FROM unnest($1::text[], $2::text[])"
            " AS new (status, order_id) WHERE skus.order_id = new.order_id",
            *columns(changed),
        )
    if added:
        await connection.execute(
            "INSERT INTO skus SELECT *"
            " FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[])",
            *columns(added),
        )


async def _save_terms(
    connection: Connection, before: dict[str, OrderView], views: Sequence[OrderView]
) -> None:
    added: list[tuple[str, datetime | None, str]] = []
    removed: list[tuple[str, str]] = []
    for view in views:
        known, now = _terms(before.get(view.order_id)), _terms(view)
        added += [(term, view.opened_at, view.order_id) for term in now - known]
        removed += [(term, view.order_id) for term in known - now]
    if removed:
        await connection.execute(
            "DELETE FROM terms USING unnest($1::text[], $2::text[]) AS gone (term, order_id)"
            " WHERE (terms.term, terms.order_id) = (gone.term, gone.order_id)",
            *columns(removed),
        )
    if added:
        await connection.execute(
            "INSERT INTO terms SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::text[])",
            *columns(added),
        )


def _terms(view: OrderView | None) -> set[str]:
    """What people know an order by, beside its id, its customer and its SKUs."""
    if view is None:
        return set()
    order = view.order
    terms = {order.external_reference, *(one.tracking for one in order.shipments.values())}
    terms |= {one.reference for one in order.authorisations.values()}
    return {term for term in terms if term}


def _skus(view: OrderView | None) -> set[str]:
    return {line.sku for line in view.order.lines.values()} if view else set()


PROJECTION = Projection(
    name="order_view", version=6, tables=_TABLES, indexes=_INDEXES, project=project
)
