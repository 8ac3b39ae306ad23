"""Baseline of projections: the same events and read model in pyeventsourcing, as documented.

Its Postgres recorders store the events and the projection's position; its ``ProjectionRunner``
passes each event to a materialised view, which folds it with orderly's rules, makes orderly's
document, and writes the row of order_view in the transaction that records the position.

A separate process: ``python -m dev.bench.pyeventsourcing_baseline catch_up DSN EVENTS`` saves this
many events, projects them, and prints the seconds that projecting took; ``freshness DSN RATE
SECONDS SEED`` prints percentiles of the time from saving an event until a wait for it returns.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from time import perf_counter, sleep
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg import Cursor
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow
from pydantic import TypeAdapter
from pydantic_core import to_json

from dev.bench.events import OrderEnvelope, generate_events
from dev.bench.report import percentiles_ms
from orders.events import ItemAdded
from orders.evolve import evolve
from orders.order import Order
from orders.upcasting import restore
from readside.order_view.document import needs_attention
from readside.order_view.row import order_row
from readside.order_view.view import OrderView, text_of

EVENTS_PER_SAVE = 500
POLL_S = 0.02
WAITING_MAX = 15  # The default size of the library's connection pool.
WAIT_S_MAX = 60.0
_ORDER = TypeAdapter(Order)


@dataclass(frozen=True)
class OrderEvent(DomainEvent):
    """An event of an order, with orderly's type and data."""

    type: str
    data: dict[str, Any]


class Orders(Application[UUID]):
    """Stores the events."""


class OrderViewRecorder(PostgresTrackingRecorder):
    """Orderly's order_view."""

    def project(self, event: OrderEvent, tracking: Tracking) -> None:
        """Applies one event to its order, and records the position."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            view = _load(cursor, str(event.originator_id))
            restored_event = restore(event.type, ItemAdded.schema_version, event.data)
            at = event.timestamp
            before = view.order
            view = replace(
                view,
                order=evolve(before, restored_event),
                texts={**view.texts, **(text_of(restored_event, before) or {})},
                opened_at=view.opened_at or at,
                placed_at=at if event.type == "order-placed" else view.placed_at,
                updated_at=at,
            )
            cursor.execute(_SAVE, _row(view), prepare=True)
            if isinstance(restored_event, ItemAdded):
                sku = (restored_event.sku, str(view.order.status), view.opened_at, view.order_id)
                cursor.execute(_SAVE_SKU, sku, prepare=True)
            elif view.order.status != before.status:
                changed = (str(view.order.status), view.order_id)
                cursor.execute(_CHANGE_STATUS, changed, prepare=True)


def _load(cursor: Cursor[DictRow], order_id: str) -> OrderView:
    cursor.execute(_LOAD, (order_id,), prepare=True)
    row = cursor.fetchone()
    if row is None:
        return OrderView(order_id)
    order = _ORDER.validate_json(row["state"])
    times = row["opened_at"], row["placed_at"], row["updated_at"]
    return OrderView(order_id, order, *times, json.loads(row["texts"]))


def _row(view: OrderView) -> dict[str, Any]:
    order, row = view.order, order_row(view)
    return {
        "order_id": view.order_id,
        "version": order.version,
        "status": str(order.status),
        "customer_id": order.customer_id,
        "currency": order.currency,
        "external_reference": order.external_reference,
        "total": order.total,
        "opened_at": view.opened_at,
        "placed_at": view.placed_at,
        "updated_at": view.updated_at,
        "state": _ORDER.dump_json(order).decode(),
        "texts": to_json(view.texts).decode(),
        "document": row.document,
        "allowed_commands": " ".join(row.allowed_commands),
        "shipping_address": row.shipping_address,
        "billing_address": row.billing_address,
        "needs_attention": needs_attention(order),
    }


_LOAD = """
SELECT state::text, texts::text, opened_at, placed_at, updated_at
FROM order_view.orders WHERE order_id = %s
"""
_COLUMNS = list(_row(OrderView("")))
_SAVE = (
    f"INSERT INTO order_view.orders ({', '.join(_COLUMNS)})"
    f" VALUES ({', '.join(f'%({name})s' for name in _COLUMNS)})"
    f" ON CONFLICT (order_id) DO UPDATE SET"
    f" {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)
_SAVE_SKU = "INSERT INTO order_view.skus VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
_CHANGE_STATUS = "UPDATE order_view.skus SET status = %s WHERE order_id = %s"


class OrderViewProjection(Projection[OrderViewRecorder]):
    """Passes events to the view."""

    @singledispatchmethod
    def process_event(self, domain_event: object, tracking: Tracking) -> None:
        """All events are OrderEvents."""

    @process_event.register
    def _(self, domain_event: OrderEvent, tracking: Tracking) -> None:
        self.view.project(domain_event, tracking)


Runner = ProjectionRunner[Orders, OrderViewRecorder]


def environment(dsn: str) -> dict[str, str]:
    """The library's settings for a database."""
    parts = conninfo_to_dict(dsn)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_PORT": str(parts["port"]),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": "",
    }


def start_runner(dsn: str) -> Runner:
    """Starts the projection in a thread."""
    return ProjectionRunner(
        application_class=Orders,
        projection_class=OrderViewProjection,
        view_class=OrderViewRecorder,
        env=environment(dsn),
    )


def event_of(one: OrderEnvelope, at: datetime | None = None) -> OrderEvent:
    """Orderly's event as one of the library's, by default with the same time."""
    order_id, envelope = one
    return OrderEvent(
        originator_id=UUID(order_id),
        originator_version=envelope.version,
        timestamp=at or envelope.occurred_at,
        type=envelope.type,
        data=envelope.data,
    )


def catch_up(dsn: str, events: int) -> float:
    """The seconds from starting the runner until the view has all events."""
    with Orders(environment(dsn)) as app:
        generated = map(event_of, generate_events(events))
        while some := list(islice(generated, EVENTS_PER_SAVE)):
            recordings = app.save(*some)
    last = recordings[-1].notification.id
    began = perf_counter()
    with start_runner(dsn) as runner:
        while not runner.view.has_tracking_id(runner.app_name, last):
            sleep(POLL_S)
            if runner.is_interrupted.is_set():
                runner.run_forever()  # Raises the error that stopped it.
        return perf_counter() - began


def freshness(dsn: str, rate: int, seconds: int, seed: int) -> dict[str, float]:
    """Percentiles from saving an event until `wait` returns, in ms, at a constant rate."""
    with start_runner(dsn) as runner, ThreadPoolExecutor(WAITING_MAX) as waiting:
        began = perf_counter()
        waits: list[Future[float]] = []
        for number, one in enumerate(generate_events(rate * seconds, seed)):
            sleep(max(began + number / rate - perf_counter(), 0))
            saved_at = perf_counter()
            recordings = runner.app.save(event_of(one, datetime.now(UTC)))
            waits.append(waiting.submit(_wait, runner, recordings[-1].notification.id, saved_at))
        return percentiles_ms(wait.result() for wait in waits)


def _wait(runner: Runner, notification_id: int, saved_at: float) -> float:
    runner.wait(notification_id, timeout=WAIT_S_MAX)
    return perf_counter() - saved_at


if __name__ == "__main__":
    part, dsn, *numbers = sys.argv[1:]
    if part == "catch_up":
        print(catch_up(dsn, *map(int, numbers)))
    else:
        print(json.dumps(freshness(dsn, *map(int, numbers))))
