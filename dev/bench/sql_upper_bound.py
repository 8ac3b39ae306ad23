"""Upper bound of projections: one SQL statement that makes the rows of order_view.

It knows the few event types in events.py, and that a line's quantity changes at most once. All
other parts of a row are equal in all such orders, and are copied from one that orderly makes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from eventlog.postgres import Connection
from orders.decider import allowed_commands
from orders.events import ItemAdded, OrderOpened, OrderPlaced
from orders.evolve import fold
from orders.order import Order
from readside.order_view.document import OrderDocument, document
from readside.order_view.projection import PROJECTION
from readside.order_view.view import OrderView

LONG_S = 600.0  # The timeout of a statement over the whole log.
_ITEM = ItemAdded(line_id="", sku="", title="", quantity=1, unit_price=1, discount=0, tax=0)
EMPTY = fold([OrderOpened(customer_id="", currency="")])
DRAFT = fold([_ITEM], EMPTY)
PLACED = fold([OrderPlaced(total=1)], DRAFT)
_TERMS = ("quantity", "unit_price", "discount", "tax")
_LINE_TOTAL = "quantity * unit_price - discount + tax"


def state_of(order: Order) -> dict[str, Any]:
    """The order as order_view stores it."""
    kept: dict[str, Any] = TypeAdapter(Order).dump_python(order, mode="json")
    return kept


def document_of(order: Order) -> OrderDocument:
    """The order as order_view shows it, without id and times."""
    return document(OrderView("", order))


def _offered(order: Order) -> str:
    return " ".join(allowed_commands(order))


def json_like(shape: Mapping[str, Any], **values: str) -> str:
    """SQL that makes compact JSON like `shape`, with SQL expressions as values of some keys."""
    assert list(values) == sorted(values, key=list(shape).index), "format() takes them in order"
    text = json.dumps({**shape, **{key: f"<{key}>" for key in values}}, separators=(",", ":"))
    text = text.replace("%", "%%").replace("'", "''")
    for key in values:
        text = text.replace(f'"<{key}>"', "%s", 1)
    return f"format('{text}', {', '.join(values.values())})"


def quoted(column: str) -> str:
    """SQL for a JSON string of a column without characters to escape."""
    return f"""'"' || {column} || '"'"""


def time(column: str) -> str:
    """SQL for a time in JSON, with its microseconds."""
    utc = f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return quoted(utc)


def _line(shape: Mapping[str, Any], **more: str) -> str:
    names = {"line_id": quoted("line_id"), "sku": quoted("sku"), "title": "to_json(title)"}
    return json_like(shape, **names, **{term: term for term in _TERMS}, **more)


_LINE = _line(state_of(DRAFT)["lines"][""])
_SHOWN_LINE = _line(document_of(DRAFT).lines[0].model_dump(), total=_LINE_TOTAL)
_NOTE_ID = quoted("(data->>'note_id')")
_FINGERPRINT = "left(encode(sha256(convert_to(data->>'text', 'UTF8')), 'hex'), 16)"
_NOTE = f"""{_NOTE_ID} || ':' || {quoted(_FINGERPRINT)}"""
_TEXT = f"""{quoted("('note:' || (data->>'note_id'))")} || ':' || (data->'text')"""
_SHOWN_NOTE = json_like({"note_id": 0, "text": 0}, note_id="data->'note_id'", text="data->'text'")
_STATE = json_like(
    state_of(DRAFT),
    version="version",
    status=quoted("status"),
    customer_id=quoted("customer_id"),
    currency=quoted("currency"),
    lines="lines",
    notes="notes",
    shipping_charge="shipping_charge",
)
_DOCUMENT = json_like(
    document_of(DRAFT).model_dump(),
    order_id=quoted("order_id"),
    version="version",
    status=quoted("status"),
    customer_id=quoted("customer_id"),
    currency=quoted("currency"),
    total="total",
    shipping_charge="shipping_charge",
    lines="shown_lines",
    notes="shown_notes",
    opened_at=time("opened_at"),
    placed_at=f"coalesce({time('placed_at')}, 'null')",
    updated_at=time("updated_at"),
)


async def prepare(connection: Connection, schema: str) -> None:
    """Creates an empty schema like order_view."""
    await connection.execute(
        f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema};"
        f"SET search_path = {schema}, public;"
        f"{PROJECTION.tables} {PROJECTION.indexes} RESET search_path"
    )


def statement(schema: str) -> str:
    """SQL that projects the log into a schema like order_view."""
    return f"""
WITH parts AS (  -- Each line of each order; events of no line are one more part.
    SELECT order_id, data->>'line_id' AS line_id,
        min(version) AS first, max(version) AS last,
        min(occurred_at) AS began, max(occurred_at) AS ended,
        max(data->>'sku') AS sku, max(data->>'title') AS title,
        coalesce(max((data->>'quantity')::int) FILTER (WHERE type = 'item-quantity-changed'),
                 max((data->>'quantity')::int)) AS quantity,
        max((data->>'unit_price')::int) AS unit_price,
        max((data->>'discount')::int) AS discount,
        max((data->>'tax')::int) AS tax,
        max(data->>'customer_id') AS customer_id, max(data->>'currency') AS currency,
        max((data->>'amount')::int) AS shipping_charge,
        max(occurred_at) FILTER (WHERE type = 'order-placed') AS placed_at,
        string_agg({_NOTE}, ',' ORDER BY version) FILTER (WHERE type = 'note-added') AS notes,
        string_agg({_TEXT}, ',' ORDER BY version) FILTER (WHERE type = 'note-added') AS texts,
        string_agg({_SHOWN_NOTE}, ',' ORDER BY version)
            FILTER (WHERE type = 'note-added') AS shown_notes
    FROM order_events GROUP BY 1, 2
), orders AS (
    SELECT order_id, max(last) AS version, max(customer_id) AS customer_id,
        max(currency) AS currency, min(began) AS opened_at, max(placed_at) AS placed_at,
        max(ended) AS updated_at,
        CASE WHEN max(placed_at) IS NULL THEN 'draft' ELSE 'placed' END AS status,
        coalesce(max(shipping_charge), 0) AS shipping_charge,
        coalesce(sum({_LINE_TOTAL}), 0) + coalesce(max(shipping_charge), 0) AS total,
        '{{' || coalesce(string_agg({quoted("line_id")} || ':' || {_LINE}, ',' ORDER BY first)
            FILTER (WHERE line_id IS NOT NULL), '') || '}}' AS lines,
        '[' || coalesce(string_agg({_SHOWN_LINE}, ',' ORDER BY first)
            FILTER (WHERE line_id IS NOT NULL), '') || ']' AS shown_lines,
        '{{' || coalesce(max(notes), '') || '}}' AS notes,
        '{{' || coalesce(max(texts), '') || '}}' AS texts,
        '[' || coalesce(max(shown_notes), '') || ']' AS shown_notes
    FROM parts GROUP BY 1
), with_skus AS (
    INSERT INTO {schema}.skus SELECT DISTINCT sku, status, opened_at, order_id
    FROM parts JOIN orders USING (order_id) WHERE sku IS NOT NULL
)
INSERT INTO {schema}.orders (
    order_id, version, status, customer_id, currency, external_reference, total,
    needs_attention, opened_at, placed_at, updated_at, allowed_commands, state, texts, document
)
SELECT order_id, version, status, customer_id, currency, NULL, total,
    false, opened_at, placed_at, updated_at,
    CASE WHEN status = 'placed' THEN '{_offered(PLACED)}'
         WHEN lines = '{{}}' THEN '{_offered(EMPTY)}' ELSE '{_offered(DRAFT)}' END,
    {_STATE}::json, texts::json, {_DOCUMENT}::json
FROM orders
"""


async def count_differing_rows(connection: Connection, one: str, other: str) -> int:
    """How many rows are in only one of two schemas like order_view."""
    return sum([await _count_differing(connection, one, other, t) for t in ("orders", "skus")])


async def _count_differing(connection: Connection, one: str, other: str, table: str) -> int:
    names = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = $1 AND table_name = $2",
        one,
        table,
    )
    columns = ", ".join(
        name + "::text" * (kind == "json")  # JSON has no equality; compared as text.
        for name, kind in names
    )
    query = " UNION ALL ".join(
        f"(SELECT {columns} FROM {a}.{table} EXCEPT SELECT {columns} FROM {b}.{table})"
        for a, b in [(one, other), (other, one)]
    )
    found: int = await connection.fetchval(
        f"SELECT count(*) FROM ({query}) AS rows", timeout=LONG_S
    )
    return found
