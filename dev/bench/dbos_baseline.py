"""Peer of orderly: DBOS doing the same job over FastAPI, written as its documentation has it.

It serves orderly's routes for opening an order and adding an item. Each command is a durable
workflow, whose id is the idempotency key, of two steps: one decides, and appends the event and
writes the order's row in one transaction; the other publishes, which does nothing here. A response
is sent when both are done. It checks no token, records no personal data and has no read model but
the row; orderly does all that, too.

``python -m dev.bench.dbos_baseline PORT`` serves it. DBOS_SYSTEM_DATABASE_URL and APP_DATABASE_URL
name the databases.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any
from uuid import NAMESPACE_OID, uuid5

import uvicorn
from dbos import DBOS, DBOSConfig, SetWorkflowID, SQLAlchemyDatasource
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import text

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    order_id text PRIMARY KEY, version int NOT NULL, status text NOT NULL, document json NOT NULL
);
CREATE TABLE IF NOT EXISTS order_events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id text NOT NULL,
    version int NOT NULL,
    type text NOT NULL,
    data json NOT NULL,
    command_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (order_id, version)
);
"""
SELECT_ORDER = text("SELECT document FROM orders WHERE order_id = :order_id FOR UPDATE")
INSERT_EVENT = text(
    "INSERT INTO order_events (order_id, version, type, data, command_id)"
    " VALUES (:order_id, :version, :type, :data, :command_id)"
)
WRITE_ORDER = text(
    "INSERT INTO orders VALUES (:order_id, :version, :status, :document)"
    " ON CONFLICT (order_id) DO UPDATE SET version = excluded.version,"
    " status = excluded.status, document = excluded.document"
)

Json = dict[str, Any]


class NewOrder(BaseModel):
    """The body of an opening."""

    customer_id: str = Field(min_length=1, max_length=100)
    currency: str = Field(pattern="^[A-Z]{3}$")


class Item(BaseModel):
    """The body of an addition."""

    sku: str = Field(min_length=1, max_length=100)
    title: str = Field(max_length=500)
    quantity: int = Field(ge=1)
    unit_price: int = Field(ge=0)


def open_order(order: Json | None, command: Json) -> tuple[str, Json]:
    """Decides on an opening: the event's type, and the order after it."""
    if order is not None:
        raise ValueError("the order is already open")
    return "order-opened", {**command, "version": 1, "status": "draft", "lines": [], "total": 0}


def add_item(order: Json | None, command: Json) -> tuple[str, Json]:
    """Decides on an addition: the event's type, and the order after it."""
    if order is None or order["status"] != "draft":
        raise ValueError("only drafts can be changed")
    total = order["total"] + command["quantity"] * command["unit_price"]
    lines = [*order["lines"], command]
    return "item-added", {**order, "version": order["version"] + 1, "lines": lines, "total": total}


DECIDERS = {"open-order": open_order, "add-item-to-order": add_item}

app = FastAPI()
ds = SQLAlchemyDatasource.create(os.environ["APP_DATABASE_URL"], engine_kwargs={"pool_size": 20})


# Its documentation's default is SERIALIZABLE; with the row locked this is as safe, and faster.
@ds.transaction(isolation_level="READ COMMITTED")
def decide(order_id: str, name: str, command: Json) -> Json:
    """Decides, and writes the event and the order in one transaction."""
    session = ds.sql_session()
    before = session.execute(SELECT_ORDER, {"order_id": order_id}).scalar()
    event_type, order = DECIDERS[name](before, command)
    key = {"order_id": order_id, "version": order["version"]}
    event = {"type": event_type, "data": json.dumps(command), "command_id": DBOS.workflow_id}
    session.execute(INSERT_EVENT, key | event)
    row = {"status": order["status"], "document": json.dumps(order)}
    session.execute(WRITE_ORDER, key | row)
    return {**key, "status": order["status"], "events": [event_type], "total": order["total"]}


@DBOS.step()
def publish(result: Json) -> None:
    """Where another system would be told."""


@DBOS.workflow()
def execute_command(order_id: str, name: str, command: Json) -> Json:
    """One command, with its consequence."""
    result = decide(order_id, name, command)
    publish(result)
    return result


def _execute(key: str, order_id: str, name: str, command: BaseModel) -> Json:
    try:
        with SetWorkflowID(key):
            return execute_command(order_id, name, command.model_dump())
    except ValueError as rejection:
        raise HTTPException(409, str(rejection)) from None


IdempotencyKey = Annotated[str, Header()]


@app.post("/v1/orders", status_code=201)
def post_order(body: NewOrder, idempotency_key: IdempotencyKey) -> Json:
    """Opens an order; the same key opens the same one."""
    order_id = str(uuid5(NAMESPACE_OID, idempotency_key))
    return _execute(idempotency_key, order_id, "open-order", body)


@app.post("/v1/orders/{order_id}/commands/add-item-to-order")
def post_item(order_id: str, body: Item, idempotency_key: IdempotencyKey) -> Json:
    """Adds an item to an order."""
    return _execute(idempotency_key, order_id, "add-item-to-order", body)


if __name__ == "__main__":
    with ds.engine.begin() as connection:
        connection.execute(text(SCHEMA))
    config: DBOSConfig = {
        "name": "orders",
        "application_version": "1",
        "executor_id": sys.argv[1],
        "system_database_url": os.environ["DBOS_SYSTEM_DATABASE_URL"],
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()
    port, keep_alive_s = int(sys.argv[1]), 60
    uvicorn.run(app, port=port, timeout_keep_alive=keep_alive_s, access_log=False, log_config=None)
