"""The carrier's stand-in: shipments are booked, stopped, and leave; and the books."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any, Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from dev.simulators import fault_injection as magic
from dev.simulators.idempotent_service import (
    CONTROL,
    Asked,
    Desk,
    Id,
    Keyed,
    No,
    Outcome,
    Quantity,
    Rejected,
)
from dev.simulators.outbox import Event

# Nothing of an address is kept: nobody has to erase it here.
TABLES = """
CREATE TABLE IF NOT EXISTS shipments (
    order_id TEXT,
    shipment_id TEXT,
    revision INTEGER NOT NULL,
    location TEXT,
    lines TEXT NOT NULL,
    has_address INTEGER NOT NULL,
    tracking TEXT,
    status TEXT NOT NULL,  -- booked, stopped, gone, delivered, failed
    PRIMARY KEY (order_id, shipment_id)
);
"""


class Pieces(Asked):
    """So many pieces of a line."""

    line_id: Id
    sku: Id
    quantity: Quantity


class Booking(Asked):
    """Take this shipment along; a higher revision replaces what was booked before."""

    step_id: Id
    revision: int = Field(ge=0)
    location: Id = Field(description="the stock location that it leaves from")
    lines: list[Pieces] = Field(min_length=1)
    address: dict[str, str | None] | None = Field(description="null where the order names none")


class Booked(BaseModel):
    """The carrier will take it."""

    tracking: str


class Stopping(Asked):
    """Let this shipment not leave."""

    step_id: Id


class Stopped(BaseModel):
    """It will not leave, whatever is still on its way."""

    status: str = "stopped"


class Gone(BaseModel):
    """It has left; or, with the code `stopped`, it was stopped before."""

    code: Literal["gone", "stopped"]
    reason: str
    tracking: str | None = None
    lines: list[Pieces] | None = None


class Failure(Asked):
    """It will not arrive."""

    reason: str = "nobody was at home"
    goods: Literal["lost", "returned"] = "lost"


def create(desk: Desk) -> FastAPI:
    """The service; its OpenAPI document is the contract for a real one."""
    app = FastAPI(title="Shipping", version="1", description=__doc__)
    desk.install(app)
    answers: dict[int | str, dict[str, Any]] = {409: {"model": Gone}, 422: {"model": Rejected}}
    refused: dict[int | str, dict[str, Any]] = {409: {"model": Rejected}}

    @app.put("/shipments/{order_id}/{shipment_id}", response_model=Booked, responses=answers)
    async def book(call: Keyed, order_id: str, shipment_id: str, asked: Booking) -> Response:
        """Books, unless a higher revision is booked already; 409 if it has left or was stopped."""
        trouble = magic.of_postal_code((asked.address or {}).get("postal_code"))
        return await desk.carry_out(
            call, asked, order_id, trouble, lambda db: _book(db, order_id, shipment_id, asked)
        )

    @app.post("/shipments/{order_id}/{shipment_id}/stop", response_model=Stopped, responses=answers)
    async def stop(call: Keyed, order_id: str, shipment_id: str, asked: Stopping) -> Response:
        """Stops it for ever, also before its booking has come; 409 if it has left."""
        return await desk.carry_out(
            call, asked, order_id, magic.Trouble.NONE, lambda db: _stop(db, order_id, shipment_id)
        )

    control = "/control/shipments/{order_id}/{shipment_id}"

    @app.post(f"{control}/leave", status_code=204, responses=refused, tags=[*CONTROL])
    async def leave(order_id: str, shipment_id: str) -> None:
        """It leaves; tells of it by the callback `shipment.dispatched`."""
        with desk.store.transaction() as db:
            row = _moved(db, order_id, shipment_id, "booked", "gone")
            left = {"tracking": row["tracking"], "lines": json.loads(row["lines"])}
            desk.tell(db, Event("shipment.dispatched", _name(row) | left))

    @app.post(f"{control}/deliver", status_code=204, responses=refused, tags=[*CONTROL])
    async def deliver(order_id: str, shipment_id: str) -> None:
        """It arrives; tells of it by the callback `shipment.delivered`."""
        with desk.store.transaction() as db:
            row = _moved(db, order_id, shipment_id, "gone", "delivered")
            desk.tell(db, Event("shipment.delivered", _name(row)))

    @app.post(f"{control}/fail", status_code=204, responses=refused, tags=[*CONTROL])
    async def fail(order_id: str, shipment_id: str, asked: Failure) -> None:
        """It left and will not arrive; tells of it by the callback `shipment.failed`."""
        with desk.store.transaction() as db:
            row = _moved(db, order_id, shipment_id, "gone", "failed")
            desk.tell(db, Event("shipment.failed", _name(row) | asked.model_dump()))

    @app.get("/control/books", tags=[*CONTROL])
    async def books(order_id: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        """The shipments of each order."""
        with desk.store.transaction() as db:
            rows = db.execute(
                "SELECT * FROM shipments WHERE ? IN (order_id, '')", (order_id or "",)
            ).fetchall()
        orders: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            shipment = {k: row[k] for k in ("status", "revision", "location", "tracking")}
            shipment |= {"lines": json.loads(row["lines"]), "has_address": bool(row["has_address"])}
            orders.setdefault(row["order_id"], {})[row["shipment_id"]] = shipment
        return {"orders": orders}

    return app


def _book(db: sqlite3.Connection, order_id: str, shipment_id: str, asked: Booking) -> Outcome:
    known = _known(db, order_id, shipment_id)
    if known is not None and known["status"] == "stopped":
        return _conflict(Gone(code="stopped", reason="this shipment was stopped"))
    if known is not None and known["status"] != "booked":
        return _gone(known)
    name = hashlib.sha256(f"{order_id} {shipment_id}".encode()).hexdigest()[:12]
    booked = Booked(tracking=f"TRACK-{name.upper()}")
    if known is None or known["revision"] < asked.revision:
        lines = json.dumps([line.model_dump() for line in asked.lines])
        db.execute(
            "INSERT OR REPLACE INTO shipments VALUES (?, ?, ?, ?, ?, ?, ?, 'booked')",
            (
                *(order_id, shipment_id, asked.revision, asked.location, lines),
                *(asked.address is not None, booked.tracking),
            ),
        )
    return Outcome(200, booked.model_dump())


def _stop(db: sqlite3.Connection, order_id: str, shipment_id: str) -> Outcome:
    known = _known(db, order_id, shipment_id)
    if known is not None and known["status"] not in ("booked", "stopped"):
        return _gone(known)
    # One that nobody has heard of, too: its booking may still be on its way.
    db.execute(
        "INSERT INTO shipments VALUES (?, ?, 0, NULL, '[]', 0, NULL, 'stopped')"
        " ON CONFLICT DO UPDATE SET status = 'stopped'",
        (order_id, shipment_id),
    )
    return Outcome(200, Stopped().model_dump())


def _known(db: sqlite3.Connection, order_id: str, shipment_id: str) -> sqlite3.Row | None:
    query = "SELECT * FROM shipments WHERE order_id = ? AND shipment_id = ?"
    row: sqlite3.Row | None = db.execute(query, (order_id, shipment_id)).fetchone()
    return row


def _gone(row: sqlite3.Row) -> Outcome:
    lines = [Pieces(**line) for line in json.loads(row["lines"])]
    reason = "this shipment has left"
    return _conflict(Gone(code="gone", reason=reason, tracking=row["tracking"], lines=lines))


def _conflict(gone: Gone) -> Outcome:
    return Outcome(409, gone.model_dump())


def _moved(
    db: sqlite3.Connection, order_id: str, shipment_id: str, old: str, new: str
) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(
        "UPDATE shipments SET status = ? WHERE order_id = ? AND shipment_id = ? AND status = ?"
        " RETURNING *",
        (new, order_id, shipment_id, old),
    ).fetchone()
    if row is None:
        raise No(f"not-{old}", f"this shipment is not {old}", 409)
    return row


def _name(row: sqlite3.Row) -> dict[str, str]:
    return {"order_id": row["order_id"], "shipment_id": row["shipment_id"]}
