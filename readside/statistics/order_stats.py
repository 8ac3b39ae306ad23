"""Statistics of orders: how many reached each stage, and the amounts, by day and currency."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel

from eventlog.log import SLICE
from eventlog.postgres import Connection, Reader
from orders.events import OrderEvent, OrderOpened, OrderPlaced, PaymentCaptured, PaymentRefunded
from readside.engine.projection import Projection, ProjectionError, Streams, columns

_TABLES = """
CREATE TABLE orders (
    order_id text    PRIMARY KEY,
    version  integer NOT NULL,
    currency text    NOT NULL
);
-- With the slice in the key, only one process updates a row, so none waits for another.
CREATE TABLE daily (
    day      date    NOT NULL,  -- in UTC
    currency text    NOT NULL,
    type     text    NOT NULL,  -- of event
    slice    integer NOT NULL,
    events   bigint  NOT NULL,
    amount   numeric NOT NULL,  -- minor units; the sum may exceed a bigint
    PRIMARY KEY (day, currency, type, slice)
);
"""

# By field of DailyOrderStats, the event type that it counts, or whose amounts it sums.
_COUNTS = {
    "opened": "order-opened",
    "placed": "order-placed",
    "confirmed": "order-confirmed",
    "completed": "order-completed",
    "cancelled": "order-cancelled",
    "expired": "order-expired",
}
_AMOUNTS = {
    "placed_amount": "order-placed",
    "captured_amount": "payment-captured",
    "refunded_amount": "payment-refunded",
}


class DailyOrderStats(BaseModel):
    """How many orders of one currency reached each stage on a day (UTC), and the amounts.

    Amounts are integer minor units. `placed_amount` is the total of the orders when placed.
    """

    day: date
    currency: str
    opened: int
    placed: int
    confirmed: int
    completed: int
    cancelled: int
    expired: int
    placed_amount: int
    captured_amount: int
    refunded_amount: int


async def project(connection: Connection, streams: Streams) -> None:
    """Adds events to the sums of their day; raises ProjectionError."""
    rows = await connection.fetch(
        "SELECT order_id, currency FROM orders WHERE order_id = ANY($1)", list(streams)
    )
    currencies: dict[str, str] = {row["order_id"]: row["currency"] for row in rows}
    counted = []
    for order_id, stream in streams.items():
        for logged in stream:
            event = logged.event()
            if isinstance(event, OrderOpened):
                currencies[order_id] = event.currency
            if order_id not in currencies:
                raise ProjectionError(order_id, logged.version, "its order-opened event is missing")
            day, currency = logged.occurred_at.date(), currencies[order_id]
            counted.append((order_id, day, currency, event.type, _amount(event)))
    await connection.execute(
        """
        INSERT INTO orders SELECT * FROM unnest($1::text[], $2::int[], $3::text[])
        ON CONFLICT (order_id) DO UPDATE SET version = excluded.version
        """,
        *columns((key, stream[-1].version, currencies[key]) for key, stream in streams.items()),
    )
    await connection.execute(
        f"""
        INSERT INTO daily SELECT day, currency, type, {SLICE}, count(*), sum(amount)
        FROM unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::bigint[])
             AS counted (order_id, day, currency, type, amount)
        GROUP BY 1, 2, 3, 4
        ON CONFLICT (day, currency, type, slice) DO UPDATE
        SET events = daily.events + excluded.events, amount = daily.amount + excluded.amount
        """,
        *columns(counted),
    )


def _amount(event: OrderEvent) -> int:
    match event:
        case OrderPlaced(total=amount):
            return amount
        case PaymentCaptured(amount=amount) | PaymentRefunded(amount=amount):
            return amount
        case _:
            return 0


async def by_day(
    connection: Reader, first: date, last: date, currency: str | None = None
) -> list[DailyOrderStats]:
    """The days with events from `first` to `last`, both included, in order."""
    sums = [f"sum(events) FILTER (WHERE type = '{t}') AS {name}" for name, t in _COUNTS.items()]
    sums += [f"sum(amount) FILTER (WHERE type = '{t}') AS {name}" for name, t in _AMOUNTS.items()]
    rows = await connection.fetch(
        f"""
        SELECT day, currency, {", ".join(sums)} FROM order_stats.daily
        WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR currency = $3)
        GROUP BY day, currency ORDER BY day, currency
        """,
        first,
        last,
        currency,
    )
    return [DailyOrderStats(**{key: value or 0 for key, value in row.items()}) for row in rows]


PROJECTION = Projection(
    name="order_stats",
    version=1,
    tables=_TABLES,
    project=project,
    types=(*_COUNTS.values(), "payment-captured", "payment-refunded"),
    pause_seconds=1,
)
