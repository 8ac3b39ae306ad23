"""Long logs, written directly into the tables: copies of a block of orders under other ids.

Orderly itself projects the first block into order_view; its rows are copied likewise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import md5
from random import Random
from uuid import UUID

import asyncpg

from dev.bench import orderly_projector
from dev.bench.events import START, insert_events, metadata_of, synthetic_items
from dev.bench.servers import PostgresServer
from dev.bench.sql_upper_bound import time
from eventlog import digest_blocks
from eventlog.envelope import Envelope
from eventlog.log import SLICES, settled_head
from orders.events import (
    ItemQuantityChanged,
    NoteAdded,
    OrderEvent,
    OrderOpened,
    OrderPlaced,
    ShippingChargeSet,
)
from readside.engine.checkpoints import ALL_SLICES

BLOCK_ORDERS = 1_000  # That are open at the same time: their events alternate in the log.
EVENTS_PER_ORDER = 20
BLOCK_EVENTS = BLOCK_ORDERS * EVENTS_PER_ORDER
ORDERS_PER_CUSTOMER = 5
LINES = 3
NOTES = 11
TRANSACTION_EVENTS = 5
BLOCK_TIME = timedelta(minutes=20)


class LongLog:
    """A database with a long log, whose events are all projected but those added since."""

    def __init__(self, dsn: str, connection: asyncpg.Connection, orders: Sequence[str]) -> None:
        self.dsn = dsn
        self.blocks = 1
        self._connection = connection
        self._orders = orders
        """The ids of the orders of the first block."""

    def random_order(self, dice: Random) -> tuple[str, str]:
        """The id of an order, and that of its customer."""
        block, number = dice.randrange(self.blocks), dice.randrange(BLOCK_ORDERS)
        first = self._orders[number]
        order_id = first if block == 0 else str(UUID(md5(f"{block}{first}".encode()).hexdigest()))
        return order_id, f"{_customer(number)}-{block}" if block else _customer(number)

    async def add_block(self) -> None:
        """Adds BLOCK_EVENTS events of new orders."""
        block, self.blocks = self.blocks, self.blocks + 1
        await self._connection.execute(_USE_TRANSACTION_IDS)
        first = await self._connection.fetchval(
            f"SELECT pg_current_xact_id()::text::bigint - {BLOCK_EVENTS // TRANSACTION_EVENTS}"
        )
        await self._connection.execute(_ADD_EVENTS, block, first, BLOCK_TIME * block)

    async def project_all(self) -> None:
        """Copies the rows of all blocks to order_view, and moves all checkpoints to the head."""
        await self._connection.execute(_ADD_ORDERS, self.blocks - 1, BLOCK_TIME)
        await self._connection.execute(_ADD_SKUS, self.blocks - 1, BLOCK_TIME)
        await self._connection.execute(
            "UPDATE projection_checkpoints SET transaction_id = $1, position = $2",
            *await settled_head(self._connection),
        )


_USE_TRANSACTION_IDS = f"""
DO $$ BEGIN
    SET synchronous_commit = off;
    FOR n IN 1..{BLOCK_EVENTS // TRANSACTION_EVENTS} LOOP
        PERFORM pg_current_xact_id();
        COMMIT;
    END LOOP;
END $$
"""

_COPIED_ID = "md5({block} || order_id)::uuid::text"
_ADD_EVENTS = f"""
INSERT INTO order_events (
    transaction_id, order_id, version, type, schema_version, occurred_at, data, metadata
)
SELECT ($2 + (number - 1) / {TRANSACTION_EVENTS})::text::xid8,
    {_COPIED_ID.format(block="$1::int")},
    version, type, schema_version, occurred_at + $3,
    CASE WHEN version > 1 THEN data ELSE jsonb_set(
        data, '{{customer_id}}', to_jsonb((data->>'customer_id') || '-' || $1::int)) END,
    metadata
FROM template_events ORDER BY number
"""


def _copied(column: str) -> str:
    """SQL for a JSON document of a copied order; its times are of the first and last event."""
    copied = f"replace({column}::text, order_id, {_COPIED_ID.format(block='block')})"
    customer = "'\"' || customer_id || '\"', '\"' || customer_id || '-' || block || '\"'"
    copied = f"replace({copied}, {customer})"
    for name in ("opened_at", "updated_at"):
        copied = f"replace({copied}, {time(name)}, {time(f'({name} + block * $2::interval)')})"
    return f"{copied}::json"


_ADD_ORDERS = f"""
INSERT INTO order_view.orders (
    order_id, version, status, customer_id, currency, total, needs_attention, opened_at, placed_at,
    updated_at, allowed_commands, state, texts, document
)
SELECT {_COPIED_ID.format(block="block")}, version, status, customer_id || '-' || block, currency,
    total, needs_attention, opened_at + block * $2::interval, placed_at + block * $2::interval,
    updated_at + block * $2::interval, allowed_commands,
    {_copied("state")}, texts, {_copied("document")}
FROM generate_series(1, $1::int) AS block, template_orders
"""
_ADD_SKUS = f"""
INSERT INTO order_view.skus
SELECT sku, status, opened_at + block * $2::interval, {_COPIED_ID.format(block="block")}
FROM generate_series(1, $1::int) AS block, template_skus
"""
_TEMPLATES = """
CREATE TABLE template_events AS
    SELECT row_number() OVER (ORDER BY position) AS number, * FROM order_events;
CREATE TABLE template_orders AS SELECT * FROM order_view.orders;
CREATE TABLE template_skus AS SELECT * FROM order_view.skus;
"""
_PARTITIONED = """
ALTER TABLE order_events RENAME TO unpartitioned;
CREATE TABLE order_events (
    LIKE unpartitioned INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING CONSTRAINTS,
    PRIMARY KEY (order_id, version)
) PARTITION BY HASH (order_id);
CREATE INDEX ON order_events (transaction_id, position);
CREATE INDEX ON order_events ((data->>'customer_id')) WHERE version = 1;
CREATE INDEX ON order_events (order_hash(order_id)) WHERE version = 1;
CREATE TRIGGER order_events_never_change BEFORE UPDATE OR DELETE ON order_events
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_events();
"""


@asynccontextmanager
async def long_log(
    server: PostgresServer, name: str, events: int, *, is_partitioned: bool
) -> AsyncIterator[LongLog]:
    """A log of about this many events, in whole blocks, in a database of its own.

    If it is partitioned, by a hash of the order ids into as many parts as there are slices.
    """
    dsn = await server.database(name)
    connection = await asyncpg.connect(dsn)
    try:
        if is_partitioned:
            await _partition(connection)
        orders = await _write_first_block(connection)
        await orderly_projector.catch_up(dsn)
        await connection.execute(_TEMPLATES)
        log = LongLog(dsn, connection, orders)
        async with _without_indexes(connection, "public.order_events"):
            while log.blocks * BLOCK_EVENTS < events:
                await log.add_block()
        async with (
            _without_indexes(connection, "order_view.orders"),
            _without_indexes(connection, "order_view.skus"),
        ):
            await log.project_all()
        while await digest_blocks.add_block(connection):
            pass
        await connection.execute("VACUUM ANALYZE")
        yield log
    finally:
        await connection.close()


async def _partition(connection: asyncpg.Connection) -> None:
    await connection.execute(_PARTITIONED)
    for slice in ALL_SLICES:
        await connection.execute(
            f"CREATE TABLE order_events_{slice} PARTITION OF order_events"
            f" FOR VALUES WITH (MODULUS {SLICES}, REMAINDER {slice})"
        )


async def _write_first_block(connection: asyncpg.Connection) -> list[str]:
    """The ids of its orders."""
    dice = Random(7)
    order_ids = [str(UUID(int=dice.getrandbits(128), version=4)) for _ in range(BLOCK_ORDERS)]
    streams = [_events_of_order(number, dice) for number in range(BLOCK_ORDERS)]
    for version in range(1, EVENTS_PER_ORDER + 1):
        events = [stream[version - 1] for stream in streams]
        at = START + BLOCK_TIME * version / EVENTS_PER_ORDER
        envelopes = [Envelope.of(e, version, at, metadata_of(e, dice)) for e in events]
        await insert_events(connection, list(zip(order_ids, envelopes, strict=True)))
    return order_ids


def _customer(number: int) -> str:
    return f"customer-{number // ORDERS_PER_CUSTOMER:04}"


def _events_of_order(number: int, dice: Random) -> list[OrderEvent]:
    lines = synthetic_items(dice, LINES)
    changed = [
        ItemQuantityChanged(line_id=line.line_id, quantity=line.quantity + 1) for line in lines
    ]
    notes = [NoteAdded(note_id=f"note-{n}", text="Please ring twice.") for n in range(NOTES)]
    total = sum(n.quantity * n.unit_price - n.discount + n.tax for n in lines)
    total += sum(line.unit_price for line in lines) + 499
    return [
        OrderOpened(customer_id=_customer(number), currency="USD"),
        *lines,
        *changed,
        *notes,
        ShippingChargeSet(amount=499),
        OrderPlaced(total=total),
    ]


@asynccontextmanager
async def _without_indexes(connection: asyncpg.Connection, table: str) -> AsyncIterator[None]:
    """Drops all indexes of a table, and creates them again after the `async with`."""
    keys = await connection.fetch(
        "SELECT conname AS name, pg_get_constraintdef(oid) AS definition FROM pg_constraint"
        " WHERE conrelid = $1::text::regclass AND contype = 'p'",
        table,
    )
    for key in keys:
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key['name']}")
    indexes = await connection.fetch(
        "SELECT indexrelid::regclass AS name, pg_get_indexdef(indexrelid) AS definition"
        " FROM pg_index WHERE indrelid = $1::text::regclass",
        table,
    )
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    yield
    for key in keys:
        await connection.execute(f"ALTER TABLE {table} ADD {key['definition']}")
    for index in indexes:
        await connection.execute(index["definition"].replace(" ON ONLY ", " ON "))
