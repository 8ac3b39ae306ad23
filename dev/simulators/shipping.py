"""The simulated carrier: books and stops shipments, ships and delivers them; and the ledger."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any, Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from dev.simulators.fault_injection import Fault, booking_fault
from dev.simulators.idempotent_service import (
    CONTROL,
    Id,
    IdempotentService,
    KeyedRequest,
    Quantity,
    Rejection,
    RequestRejected,
    ServiceRequest,
    ServiceResponse,
    Tracking,
)
from dev.simulators.outbox import CallbackEvent

# Addresses are not stored, so there is no personal data to erase.
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


class Pieces(ServiceRequest):
    """Pieces of a line."""

    line_id: Id
    sku: Id
    quantity: Quantity


class Booking(ServiceRequest):
    """Book a shipment; a higher revision replaces an earlier booking."""

    step_id: Id
    revision: int = Field(ge=0)
    location: Id = Field(description="the stock location that it leaves from")
    lines: list[Pieces] = Field(min_length=1)
    address: dict[str, str | None] | None = Field(description="null where the order names none")


class Booked(BaseModel):
    """The shipment is booked."""

    tracking: Tracking


class StopRequest(ServiceRequest):
    """Stop a shipment before it leaves."""

    step_id: Id


class Stopped(BaseModel):
    """The shipment will not leave, even if a booking arrives later."""

    status: str = "stopped"


class ShipmentConflict(BaseModel):
    """The shipment has left (`gone`), or was stopped before (`stopped`)."""

    code: Literal["gone", "stopped"]
    reason: str
    tracking: Tracking | None = None
    lines: list[Pieces] | None = None


class Departure(ServiceRequest):
    """A shipment leaves, perhaps not as it was booked."""

    lines: list[Pieces] | None = Field(None, description="what leaves, if not what was booked")
    although_stopped: bool = False
    report_after_s: float = Field(0, ge=0, le=60, description="when the scan is uploaded")


class Revocation(ServiceRequest):
    """A delivery that was none."""

    reason: str = "it was delivered to another address"


class DeliveryFailure(ServiceRequest):
    """A delivery that failed."""

    reason: str = "the recipient was absent"
    goods: Literal["lost", "returned"] = "lost"


def create(service: IdempotentService) -> FastAPI:
    """The application; its OpenAPI document is the contract for a real carrier."""
    app = FastAPI(title="Shipping", version="1", description=__doc__)
    service.add_common_routes(app)
    answers: dict[int | str, dict[str, Any]] = {
        409: {"model": ShipmentConflict},
        422: {"model": Rejection},
    }
    rejected: dict[int | str, dict[str, Any]] = {409: {"model": Rejection}}

    @app.put("/shipments/{order_id}/{shipment_id}", response_model=Booked, responses=answers)
    async def book(keyed: KeyedRequest, order_id: str, shipment_id: str, body: Booking) -> Response:
        """Books, unless a higher revision is booked already; 409 if it has left or was stopped."""
        fault = booking_fault((body.address or {}).get("postal_code"))
        return await service.execute(
            keyed, body, order_id, fault, lambda db: _book(db, order_id, shipment_id, body)
        )

    @app.post("/shipments/{order_id}/{shipment_id}/stop", response_model=Stopped, responses=answers)
    async def stop(
        keyed: KeyedRequest, order_id: str, shipment_id: str, body: StopRequest
    ) -> Response:
        """Stops it for ever, even before its booking arrives; 409 if it has left."""
        return await service.execute(
            keyed, body, order_id, Fault.NONE, lambda db: _stop(db, order_id, shipment_id)
        )

    control = "/control/shipments/{order_id}/{shipment_id}"

    @app.post(f"{control}/leave", status_code=204, responses=rejected, tags=[*CONTROL])
    async def leave(order_id: str, shipment_id: str, body: Departure | None = None) -> None:
        """The shipment leaves; sends the callback `shipment.dispatched`."""
        body = body or Departure()
        old = "stopped" if body.although_stopped else "booked"
        with service.store.transaction() as db:
            row = _change_status(db, order_id, shipment_id, old, "gone")
            lines = json.loads(row["lines"])
            if body.lines is not None:
                lines = [line.model_dump() for line in body.lines]
            left = {"tracking": row["tracking"], "lines": lines}
            event = CallbackEvent("shipment.dispatched", _shipment_key(row) | left)
            service.send_callback(db, event, body.report_after_s)

    @app.post(f"{control}/deliver", status_code=204, responses=rejected, tags=[*CONTROL])
    async def deliver(order_id: str, shipment_id: str) -> None:
        """The shipment arrives; sends the callback `shipment.delivered`."""
        with service.store.transaction() as db:
            row = _change_status(db, order_id, shipment_id, "gone", "delivered")
            service.send_callback(db, CallbackEvent("shipment.delivered", _shipment_key(row)))

    @app.post(f"{control}/fail", status_code=204, responses=rejected, tags=[*CONTROL])
    async def fail(order_id: str, shipment_id: str, body: DeliveryFailure) -> None:
        """The delivery fails; sends the callback `shipment.failed`."""
        with service.store.transaction() as db:
            row = _change_status(db, order_id, shipment_id, "gone", "failed")
            service.send_callback(
                db, CallbackEvent("shipment.failed", _shipment_key(row) | body.model_dump())
            )

    @app.post(f"{control}/revoke-delivery", status_code=204, responses=rejected, tags=[*CONTROL])
    async def revoke_delivery(order_id: str, shipment_id: str, body: Revocation) -> None:
        """The shipment was not delivered after all: `shipment.delivery-revoked`."""
        with service.store.transaction() as db:
            row = _change_status(db, order_id, shipment_id, "delivered", "gone")
            data = _shipment_key(row) | body.model_dump()
            service.send_callback(db, CallbackEvent("shipment.delivery-revoked", data))

    @app.get("/control/books", tags=[*CONTROL])
    async def show_ledger(order_id: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        """The shipments of each order."""
        with service.store.transaction() as db:
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


def _book(
    db: sqlite3.Connection, order_id: str, shipment_id: str, body: Booking
) -> ServiceResponse:
    known = _find_shipment(db, order_id, shipment_id)
    if known is not None and known["status"] == "stopped":
        return _conflict(ShipmentConflict(code="stopped", reason="this shipment was stopped"))
    if known is not None and known["status"] != "booked":
        return _departed(known)
    name = hashlib.sha256(f"{order_id} {shipment_id}".encode()).hexdigest()[:12]
    booked = Booked(tracking=f"TRACK-{name.upper()}")
    if known is None or known["revision"] < body.revision:
        lines = json.dumps([line.model_dump() for line in body.lines])
        db.execute(
            "INSERT OR REPLACE INTO shipments VALUES (?, ?, ?, ?, ?, ?, ?, 'booked')",
            (
                *(order_id, shipment_id, body.revision, body.location, lines),
                *(body.address is not None, booked.tracking),
            ),
        )
    return ServiceResponse(200, booked.model_dump())


def _stop(db: sqlite3.Connection, order_id: str, shipment_id: str) -> ServiceResponse:
    known = _find_shipment(db, order_id, shipment_id)
    if known is not None and known["status"] not in ("booked", "stopped"):
        return _departed(known)
    # An unknown shipment, too: its booking may arrive later.
    db.execute(
        "INSERT INTO shipments VALUES (?, ?, 0, NULL, '[]', 0, NULL, 'stopped')"
        " ON CONFLICT DO UPDATE SET status = 'stopped'",
        (order_id, shipment_id),
    )
    return ServiceResponse(200, Stopped().model_dump())


def _find_shipment(db: sqlite3.Connection, order_id: str, shipment_id: str) -> sqlite3.Row | None:
    query = "SELECT * FROM shipments WHERE order_id = ? AND shipment_id = ?"
    row: sqlite3.Row | None = db.execute(query, (order_id, shipment_id)).fetchone()
    return row


def _departed(row: sqlite3.Row) -> ServiceResponse:
    lines = [Pieces(**line) for line in json.loads(row["lines"])]
    reason = "this shipment has left"
    return _conflict(
        ShipmentConflict(code="gone", reason=reason, tracking=row["tracking"], lines=lines)
    )


def _conflict(gone: ShipmentConflict) -> ServiceResponse:
    return ServiceResponse(409, gone.model_dump())


def _change_status(
    db: sqlite3.Connection, order_id: str, shipment_id: str, old: str, new: str
) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(
        "UPDATE shipments SET status = ? WHERE order_id = ? AND shipment_id = ? AND status = ?"
        " RETURNING *",
        (new, order_id, shipment_id, old),
    ).fetchone()
    if row is None:
        raise RequestRejected(f"not-{old}", f"this shipment is not {old}", 409)
    return row


def _shipment_key(row: sqlite3.Row) -> dict[str, str]:
    return {"order_id": row["order_id"], "shipment_id": row["shipment_id"]}
