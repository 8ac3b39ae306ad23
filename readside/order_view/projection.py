"""The read model of one order: a document, and the columns that lists filter and sort by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from pydantic import TypeAdapter

from eventlog.postgres import Connection
from orders.events import OrderEvent, OrderPlaced
from orders.evolve import evolve
from orders.order import Order
from orders.upcasting import UnreadableEvent
from readside.engine.projection import Projection, ProjectionError, Streams, columns
from readside.order_view.document import View, document

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
    state              json        NOT NULL,  -- the order itself; jsonb would shuffle its lines
    document           json        NOT NULL   -- what the API answers, letter for letter
);
-- Which orders have a line of a SKU. Nothing in it changes with each event, so that an order of
-- many lines costs no more than one of few; a status changes a few times in an order's life.
CREATE TABLE skus (
    sku       text        NOT NULL,
    status    text        NOT NULL,
    opened_at timestamptz NOT NULL,
    order_id  text        NOT NULL
);
"""

# One for each filter and sort of a list: readside/order_lists.py.
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
CREATE UNIQUE INDEX ON skus (sku, opened_at, order_id);
CREATE INDEX ON skus (sku, status, opened_at, order_id);
CREATE INDEX ON skus (order_id);
"""

_ORDER = TypeAdapter(Order)


class StoredEvent(Protocol):
    """An event of an order as the log has it, in whatever form it was read."""

    @property
    def version(self) -> int: ...
    @property
    def occurred_at(self) -> datetime: ...
    def event(self) -> OrderEvent: ...


async def project(connection: Connection, streams: Streams) -> None:
    """Brings the views of some orders up to date; raises Undigestible."""
    before = await _load(connection, list(streams))
    views = [fold_view(before.get(key, View(key)), stream) for key, stream in streams.items()]
    await _save(connection, views)
    await _save_skus(connection, before, views)


def fold_view(view: View, stream: Iterable[StoredEvent]) -> View:
    """The view after more events of its order; raises Undigestible for one it cannot read."""
    order, opened_at, placed_at = view.order, view.opened_at, view.placed_at
    updated_at = view.updated_at
    for happening in stream:
        try:
            event = happening.event()
        except UnreadableEvent as error:
            raise ProjectionError(view.order_id, happening.version, str(error)) from error
        order, updated_at = evolve(order, event), happening.occurred_at
        opened_at = opened_at or updated_at
        placed_at = updated_at if isinstance(event, OrderPlaced) else placed_at
    return View(view.order_id, order, opened_at, placed_at, updated_at)


async def _load(connection: Connection, order_ids: list[str]) -> dict[str, View]:
    rows = await connection.fetch(
        """
        SELECT order_id, state, opened_at, placed_at, updated_at
        FROM orders WHERE order_id = ANY($1)
        """,
        order_ids,
    )
    return {
        row["order_id"]: View(
            order_id=row["order_id"],
            order=_ORDER.validate_json(row["state"]),
            opened_at=row["opened_at"],
            placed_at=row["placed_at"],
            updated_at=row["updated_at"],
        )
        for row in rows
    }


async def _save(connection: Connection, views: Sequence[View]) -> None:
    await connection.execute(
        """
        INSERT INTO orders (
            order_id, version, status, customer_id, currency, external_reference, total,
            needs_attention, opened_at, placed_at, updated_at, state, document
        )
        SELECT order_id, version, status, customer_id, currency, external_reference, total,
               needs_attention, opened_at, placed_at, updated_at, state::json, document::json
        FROM unnest(
            $1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::boolean[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[],
            $12::text[], $13::text[]
        ) AS new (order_id, version, status, customer_id, currency, external_reference, total,
                  needs_attention, opened_at, placed_at, updated_at, state, document)
        ON CONFLICT (order_id) DO UPDATE SET
            version = excluded.version, status = excluded.status, total = excluded.total,
            needs_attention = excluded.needs_attention, placed_at = excluded.placed_at,
            updated_at = excluded.updated_at, state = excluded.state,
            document = excluded.document
        """,
        [v.order_id for v in views],
        [v.order.version for v in views],
        [v.order.status for v in views],
        [v.order.customer_id for v in views],
        [v.order.currency for v in views],
        [v.order.external_reference for v in views],
        [v.order.total for v in views],
        [bool(v.order.stuck_steps) for v in views],
        [v.opened_at for v in views],
        [v.placed_at for v in views],
        [v.updated_at for v in views],
        [_ORDER.dump_json(v.order).decode() for v in views],
        [document(v).model_dump_json() for v in views],
    )


async def _save_skus(
    connection: Connection, before: dict[str, View], views: Sequence[View]
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


def _skus(view: View | None) -> set[str]:
    return {line.sku for line in view.order.lines.values()} if view else set()


PROJECTION = Projection(
    name="order_view", version=3, tables=_TABLES, indexes=_INDEXES, project=project
)
