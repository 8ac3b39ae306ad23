"""Pieces of stock at two locations, free and held: never more held than there are."""

from __future__ import annotations

import sqlite3
from typing import Any

from pydantic import BaseModel, Field

from dev.simulators.fault_injection import LOCATIONS, initial_stock
from dev.simulators.idempotent_service import (
    Id,
    Location,
    Quantity,
    RequestRejected,
    ServiceRequest,
    ServiceResponse,
)

TABLES = """
CREATE TABLE IF NOT EXISTS shelves (
    sku TEXT, location TEXT, free INTEGER NOT NULL CHECK (free >= 0), PRIMARY KEY (sku, location)
);
CREATE TABLE IF NOT EXISTS pieces (
    order_id TEXT,
    line_id TEXT,
    sku TEXT,
    location TEXT,
    held INTEGER NOT NULL DEFAULT 0,
    withdrawn INTEGER NOT NULL DEFAULT 0,
    returned INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,  -- while they were held; the order may not know it yet
    PRIMARY KEY (order_id, line_id, sku, location)
);
CREATE INDEX IF NOT EXISTS pieces_by_sku ON pieces (sku, location);
"""


class ReservationLine(ServiceRequest):
    """A number of pieces at any location."""

    line_id: Id
    sku: Id
    quantity: Quantity


class Reservation(ServiceRequest):
    """Hold these pieces, or as many of them as there are."""

    order_id: Id
    step_id: Id
    lines: list[ReservationLine] = Field(min_length=1)


class HeldPieces(ServiceRequest):
    """Pieces of an order's line at one location."""

    line_id: Id
    sku: Id
    location: Location
    quantity: Quantity


class ReservationResult(BaseModel):
    """What this reservation holds."""

    held: list[HeldPieces]


class StockMovement(ServiceRequest):
    """Pieces of an order to release, withdraw or restock."""

    order_id: Id
    step_id: Id
    held: list[HeldPieces] = Field(min_length=1)


class Loss(ServiceRequest):
    """Held pieces that turn out to be missing."""

    order_id: Id
    loss_id: Id
    line_id: Id
    location: Id
    quantity: Quantity


def reserve(db: sqlite3.Connection, body: Reservation) -> ServiceResponse:
    held = []
    for line in body.lines:
        missing = line.quantity
        for location in LOCATIONS:
            taken = min(missing, _free(db, line.sku, location))
            if taken:
                _add_free(db, line.sku, location, -taken)
                row = {"line_id": line.line_id, "sku": line.sku, "location": location}
                db.execute(
                    "INSERT INTO pieces (order_id, line_id, sku, location, held)"
                    " VALUES (:order_id, :line_id, :sku, :location, :taken)"
                    " ON CONFLICT DO UPDATE SET held = held + :taken",
                    row | {"order_id": body.order_id, "taken": taken},
                )
                held.append(row | {"quantity": taken})
                missing -= taken
    return ServiceResponse(201, {"held": held})


def release(db: sqlite3.Connection, body: StockMovement) -> ServiceResponse:
    """Held pieces become free."""
    for pieces in body.held:
        _add_free(db, pieces.sku, pieces.location, _take_held(db, body.order_id, pieces))
    return ServiceResponse(200, {"status": "done"})


def withdraw(db: sqlite3.Connection, body: StockMovement) -> ServiceResponse:
    """Held pieces leave the location."""
    for pieces in body.held:
        taken = _take_held(db, body.order_id, pieces)
        db.execute(
            "UPDATE pieces SET withdrawn = withdrawn + ? WHERE rowid = ?",
            (taken, _find(db, body.order_id, pieces)["rowid"]),
        )
    return ServiceResponse(200, {"status": "done"})


def restock(db: sqlite3.Connection, body: StockMovement) -> ServiceResponse:
    """Withdrawn pieces become free."""
    for pieces in body.held:
        row = _find(db, body.order_id, pieces)
        if pieces.quantity > row["withdrawn"] - row["returned"]:
            raise _too_few(pieces, "out")
        db.execute(
            "UPDATE pieces SET returned = returned + ? WHERE rowid = ?",
            (pieces.quantity, row["rowid"]),
        )
        _add_free(db, pieces.sku, pieces.location, pieces.quantity)
    return ServiceResponse(200, {"status": "done"})


def lose(db: sqlite3.Connection, body: Loss) -> None:
    """Removes held pieces; raises RequestRejected if fewer are held."""
    lost = db.execute(
        "UPDATE pieces SET held = held - :quantity, lost = lost + :quantity"
        " WHERE order_id = :order_id AND line_id = :line_id AND location = :location"
        " AND held >= :quantity",
        body.model_dump(),
    ).rowcount
    if not lost:
        raise RequestRejected("not-held", "fewer pieces are held there")


def set_free(db: sqlite3.Connection, sku: str, location: str, pieces: int) -> None:
    """Sets the number of pieces that are not held."""
    db.execute("INSERT OR REPLACE INTO shelves VALUES (?, ?, ?)", (sku, location, pieces))


def _take_held(db: sqlite3.Connection, order_id: str, pieces: HeldPieces) -> int:
    """Removes held pieces; returns how many there were.

    Lost pieces count as taken: the order may not know of the loss yet.
    """
    row = _find(db, order_id, pieces)
    if pieces.quantity > row["held"] + row["lost"]:
        raise _too_few(pieces, "held")
    taken: int = min(pieces.quantity, row["held"])
    db.execute(
        "UPDATE pieces SET held = held - ?, lost = lost - ? WHERE rowid = ?",
        (taken, pieces.quantity - taken, row["rowid"]),
    )
    return taken


def _find(db: sqlite3.Connection, order_id: str, pieces: HeldPieces) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(
        "SELECT rowid, * FROM pieces"
        " WHERE order_id = ? AND line_id = ? AND sku = ? AND location = ?",
        (order_id, pieces.line_id, pieces.sku, pieces.location),
    ).fetchone()
    if row is None:
        raise _too_few(pieces, "held")
    return row


def _too_few(pieces: HeldPieces, state: str) -> RequestRejected:
    where = f"of line {pieces.line_id} at {pieces.location}"
    return RequestRejected(f"not-{state}", f"{pieces.quantity} pieces {where} are not {state}")


def _free(db: sqlite3.Connection, sku: str, location: str) -> int:
    query = "SELECT free FROM shelves WHERE sku = ? AND location = ?"
    row = db.execute(query, (sku, location)).fetchone()
    return initial_stock(sku, location) if row is None else row["free"]


def _add_free(db: sqlite3.Connection, sku: str, location: str, pieces: int) -> None:
    set_free(db, sku, location, _free(db, sku, location) + pieces)


def ledger(db: sqlite3.Connection, order_id: str | None) -> dict[str, Any]:
    """By order: pieces held, withdrawn, returned and lost, each by SKU."""
    states = ("held", "withdrawn", "returned", "lost")
    sums = ", ".join(f"SUM({state}) AS {state}" for state in states)
    rows = db.execute(
        f"SELECT order_id, sku, {sums} FROM pieces WHERE ? IN (order_id, '')"
        " GROUP BY order_id, sku",
        (order_id or "",),
    )
    orders: dict[str, Any] = {}
    for row in rows:
        order = orders.setdefault(row["order_id"], {state: {} for state in states})
        for state in states:
            if row[state]:
                order[state][row["sku"]] = row[state]
    return orders


def stock_levels(db: sqlite3.Connection) -> dict[str, dict[str, dict[str, int]]]:
    """By SKU and location: `free` pieces, and all pieces `on_hand`."""
    rows = db.execute(
        "SELECT sku, location, free, (SELECT COALESCE(SUM(held), 0) FROM pieces"
        " WHERE pieces.sku = shelves.sku AND pieces.location = shelves.location) AS held"
        " FROM shelves"
    )
    levels: dict[str, dict[str, dict[str, int]]] = {}
    for row in rows:
        level = {"free": row["free"], "on_hand": row["free"] + row["held"]}
        levels.setdefault(row["sku"], {})[row["location"]] = level
    return levels
