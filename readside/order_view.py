"""The read model of one order: a document, and the columns that lists filter and sort by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter

from eventlog.envelope import Envelope
from eventlog.log import LoggedEvent
from eventlog.postgres import Connection, Reader
from orders.events import OrderPlaced, UnreadableEvent
from orders.evolve import evolve
from orders.order import Order
from readside.order_document import View, document
from readside.projection import Undigestible

NAME = "order_view"

TABLE = """
CREATE TABLE IF NOT EXISTS order_view (
    order_id           text        PRIMARY KEY,
    version            integer     NOT NULL,
    status             text        NOT NULL,
    customer_id        text        NOT NULL,
    currency           text        NOT NULL,
    external_reference text,
    total              bigint      NOT NULL,
    skus               text[]      NOT NULL,
    opened_at          timestamptz NOT NULL,
    placed_at          timestamptz,
    updated_at         timestamptz NOT NULL,
    state              json        NOT NULL,  -- the order itself; jsonb would shuffle its lines
    document           json        NOT NULL   -- what the API answers, letter for letter
);
ALTER TABLE order_view ADD COLUMN IF NOT EXISTS needs_attention boolean NOT NULL DEFAULT false;
CREATE INDEX IF NOT EXISTS order_view_opened  ON order_view (opened_at, order_id);
CREATE INDEX IF NOT EXISTS order_view_updated ON order_view (updated_at, order_id);
CREATE INDEX IF NOT EXISTS order_view_total   ON order_view (total, order_id);
CREATE INDEX IF NOT EXISTS order_view_customer ON order_view (customer_id, opened_at, order_id);
CREATE INDEX IF NOT EXISTS order_view_reference ON order_view (external_reference);
CREATE INDEX IF NOT EXISTS order_view_troubles ON order_view (updated_at) WHERE needs_attention;
CREATE INDEX IF NOT EXISTS order_view_skus ON order_view USING gin (skus);
"""

_ORDER = TypeAdapter(Order)


async def project(connection: Connection, events: list[LoggedEvent]) -> None:
    """Brings the views of a batch's orders up to date; raises Undigestible, changing nothing."""
    by_order = sorted(events, key=lambda e: (e.order_id, e.envelope.version))
    streams = {
        order_id: [event.envelope for event in group]
        for order_id, group in groupby(by_order, key=lambda e: e.order_id)
    }
    views = await _load(connection, streams)
    await _save(connection, [digested(views[key], stream) for key, stream in streams.items()])


def digested(view: View, stream: Iterable[Envelope]) -> View:
    """The view after more events of its order, which must follow one another without a gap."""
    for envelope in stream:
        if envelope.version != view.order.version + 1:
            raise Undigestible(
                view.order_id, envelope.version, f"expected version {view.order.version + 1}"
            )
        try:
            event = envelope.event()
        except UnreadableEvent as error:
            raise Undigestible(view.order_id, envelope.version, str(error)) from error
        at = envelope.occurred_at
        view = replace(
            view,
            order=evolve(view.order, event),
            opened_at=view.opened_at or at,
            placed_at=at if isinstance(event, OrderPlaced) else view.placed_at,
            updated_at=at,
        )
    return view


async def _load(connection: Connection, order_ids: Iterable[str]) -> dict[str, View]:
    views = {order_id: View(order_id) for order_id in order_ids}
    rows = await connection.fetch(
        """
        SELECT order_id, state, opened_at, placed_at, updated_at
        FROM order_view WHERE order_id = ANY($1)
        """,
        list(views),
    )
    for row in rows:
        views[row["order_id"]] = View(
            order_id=row["order_id"],
            order=_ORDER.validate_json(row["state"]),
            opened_at=row["opened_at"],
            placed_at=row["placed_at"],
            updated_at=row["updated_at"],
        )
    return views


async def _save(connection: Connection, views: list[View]) -> None:
    await connection.execute(
        """
        INSERT INTO order_view (
            order_id, version, status, customer_id, currency, external_reference, total, skus,
            opened_at, placed_at, updated_at, state, document, needs_attention
        )
        SELECT order_id, version, status, customer_id, currency, external_reference, total,
               ARRAY(SELECT json_array_elements_text(skus::json)), opened_at, placed_at, updated_at,
               state::json, document::json, needs_attention
        FROM unnest(
            $1::text[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
            $8::text[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[],
            $12::text[], $13::text[], $14::boolean[]
        ) AS new (order_id, version, status, customer_id, currency, external_reference, total,
                  skus, opened_at, placed_at, updated_at, state, document,
                  needs_attention)
        ON CONFLICT (order_id) DO UPDATE SET
            version = excluded.version, status = excluded.status, total = excluded.total,
            skus = excluded.skus, placed_at = excluded.placed_at,
            updated_at = excluded.updated_at, state = excluded.state,
            document = excluded.document, needs_attention = excluded.needs_attention
        """,
        [v.order_id for v in views],
        [v.order.version for v in views],
        [v.order.status for v in views],
        [v.order.customer_id for v in views],
        [v.order.currency for v in views],
        [v.order.external_reference for v in views],
        [v.order.total for v in views],
        [json.dumps(sorted({line.sku for line in v.order.lines.values()})) for v in views],
        [v.opened_at for v in views],
        [v.placed_at for v in views],
        [v.updated_at for v in views],
        [_ORDER.dump_json(v.order).decode() for v in views],
        [document(v).model_dump_json() for v in views],
        [bool(v.order.troubles) for v in views],
    )


# Queries

SORTS = ("opened_at", "updated_at", "total")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which orders a list shows; None does not restrict. Bounds are inclusive below only."""

    customer_id: str | None = None
    status: Sequence[str] | None = None
    needs_attention: bool | None = None
    sku: str | None = None
    external_reference: str | None = None
    placed_from: datetime | None = None
    placed_before: datetime | None = None
    total_from: int | None = None
    total_below: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One order as a query finds it; `document` is JSON."""

    order_id: str
    version: int
    document: str
    sort_value: datetime | int | None = None


async def find(connection: Reader, order_id: str) -> Row | None:
    """One order as the projection last saw it."""
    row = await connection.fetchrow(
        "SELECT order_id, version, document FROM order_view WHERE order_id = $1", order_id
    )
    return Row(**row) if row else None


async def page(
    connection: Reader,
    filter: Filter,
    sort: str,
    descending: bool,
    after: tuple[datetime | int, str] | None,
    limit: int,
) -> list[Row]:
    """At most `limit` orders, sorted by one of SORTS, then by id, from a place in that order on."""
    if sort not in SORTS:
        raise ValueError(f"orders cannot be sorted by {sort}")
    direction, beyond = ("DESC", "<") if descending else ("ASC", ">")
    conditions = {
        "customer_id = {}": filter.customer_id,
        "status = ANY({})": filter.status,
        "needs_attention = {}": filter.needs_attention,
        "skus @> ARRAY[{}]": filter.sku,
        "external_reference = {}": filter.external_reference,
        "placed_at >= {}": filter.placed_from,
        "placed_at < {}": filter.placed_before,
        "total >= {}": filter.total_from,
        "total < {}": filter.total_below,
    }
    values: list[Any] = []
    clauses = ["true"]
    for clause, value in conditions.items():
        if value is not None:
            values.append(value)
            clauses.append(clause.format(f"${len(values)}"))
    if after is not None:
        values += after
        clauses.append(f"({sort}, order_id) {beyond} (${len(values) - 1}, ${len(values)})")
    values.append(limit)
    rows = await connection.fetch(
        f"SELECT order_id, version, document, {sort} AS sort_value FROM order_view"
        f" WHERE {' AND '.join(clauses)}"
        f" ORDER BY {sort} {direction}, order_id {direction} LIMIT ${len(values)}",
        *values,
    )
    return [Row(**row) for row in rows]
