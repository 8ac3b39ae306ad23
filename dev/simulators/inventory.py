"""Pieces of stock, free and held, at two locations: no more are held than there are."""

from __future__ import annotations

import sqlite3
from typing import Any

from pydantic import BaseModel, Field

from dev.simulators import fault_injection as magic
from dev.simulators.idempotent_service import Asked, Id, No, Outcome, Quantity

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
    lost INTEGER NOT NULL DEFAULT 0,  -- while they were held, and the order may not know it yet
    PRIMARY KEY (order_id, line_id, sku, location)
);
CREATE INDEX IF NOT EXISTS pieces_by_sku ON pieces (sku, location);
"""


class Wanted(Asked):
    """So many pieces, wherever they are."""

    line_id: Id
    sku: Id
    quantity: Quantity


class Reservation(Asked):
    """Hold these pieces, or as many of them as there are."""

    order_id: Id
    step_id: Id
    lines: list[Wanted] = Field(min_length=1)


class HeldPieces(Asked):
    """So many pieces of an order's line at one location."""

    line_id: Id
    sku: Id
    location: Id
    quantity: Quantity


class Reserved(BaseModel):
    """What is held by this reservation now."""

    held: list[HeldPieces]


class Move(Asked):
    """Something is done with pieces of an order."""

    order_id: Id
    step_id: Id
    held: list[HeldPieces] = Field(min_length=1)


class Loss(Asked):
    """Held pieces are not there after all."""

    order_id: Id
    loss_id: Id
    line_id: Id
    location: Id
    quantity: Quantity


def reserved(db: sqlite3.Connection, asked: Reservation) -> Outcome:
    held = []
    for line in asked.lines:
        wanted = line.quantity
        for location in magic.LOCATIONS:
            taken = min(wanted, _free(db, line.sku, location))
            if taken:
                _put(db, line.sku, location, -taken)
                place = {"line_id": line.line_id, "sku": line.sku, "location": location}
                db.execute(
                    "INSERT INTO pieces (order_id, line_id, sku, location, held)"
                    " VALUES (:order_id, :line_id, :sku, :location, :taken)"
                    " ON CONFLICT DO UPDATE SET held = held + :taken",
                    place | {"order_id": asked.order_id, "taken": taken},
                )
                held.append(place | {"quantity": taken})
                wanted -= taken
    return Outcome(201, {"held": held})


def let_go(db: sqlite3.Connection, asked: Move, onto: str) -> Outcome:
    """Held pieces become free or withdrawn.

    Those that were lost are not asked about: the order may not have heard of it yet.
    """
    for pieces in asked.held:
        row = _row(db, asked.order_id, pieces)
        if pieces.quantity > row["held"] + row["lost"]:
            raise _not_there(pieces, "held")
        there = min(pieces.quantity, row["held"])
        withdrawn = 0 if onto == "free" else there
        db.execute(
            "UPDATE pieces SET held = held - ?, lost = lost - ?, withdrawn = withdrawn + ?"
            " WHERE rowid = ?",
            (there, pieces.quantity - there, withdrawn, row["rowid"]),
        )
        _put(db, pieces.sku, pieces.location, there - withdrawn)
    return Outcome(200, {"status": "done"})


def put_back(db: sqlite3.Connection, asked: Move) -> Outcome:
    for pieces in asked.held:
        row = _row(db, asked.order_id, pieces)
        if pieces.quantity > row["withdrawn"] - row["returned"]:
            raise _not_there(pieces, "out")
        db.execute(
            "UPDATE pieces SET returned = returned + ? WHERE rowid = ?",
            (pieces.quantity, row["rowid"]),
        )
        _put(db, pieces.sku, pieces.location, pieces.quantity)
    return Outcome(200, {"status": "done"})


def lose(db: sqlite3.Connection, asked: Loss) -> None:
    """Held pieces are gone; raises No if so many are not held."""
    lost = db.execute(
        "UPDATE pieces SET held = held - :quantity, lost = lost + :quantity"
        " WHERE order_id = :order_id AND line_id = :line_id AND location = :location"
        " AND held >= :quantity",
        asked.model_dump(),
    ).rowcount
    if not lost:
        raise No("not-held", "so many pieces are not held there")


def set_free(db: sqlite3.Connection, sku: str, location: str, pieces: int) -> None:
    """So many pieces are there beside those that are held."""
    db.execute("INSERT OR REPLACE INTO shelves VALUES (?, ?, ?)", (sku, location, pieces))


def _row(db: sqlite3.Connection, order_id: str, pieces: HeldPieces) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute(
        "SELECT rowid, * FROM pieces"
        " WHERE order_id = ? AND line_id = ? AND sku = ? AND location = ?",
        (order_id, pieces.line_id, pieces.sku, pieces.location),
    ).fetchone()
    if row is None:
        raise _not_there(pieces, "held")
    return row


def _not_there(pieces: HeldPieces, how: str) -> No:
    where = f"of line {pieces.line_id} at {pieces.location}"
    return No(f"not-{how}", f"{pieces.quantity} pieces {where} are not {how}")


def _free(db: sqlite3.Connection, sku: str, location: str) -> int:
    query = "SELECT free FROM shelves WHERE sku = ? AND location = ?"
    row = db.execute(query, (sku, location)).fetchone()
    return magic.pieces_at_first(sku, location) if row is None else row["free"]


def _put(db: sqlite3.Connection, sku: str, location: str, pieces: int) -> None:
    set_free(db, sku, location, _free(db, sku, location) + pieces)


def orders(db: sqlite3.Connection, order_id: str | None) -> dict[str, Any]:
    states = ("held", "withdrawn", "returned", "lost")
    sums = ", ".join(f"SUM({state}) AS {state}" for state in states)
    rows = db.execute(
        f"SELECT order_id, sku, {sums} FROM pieces WHERE ? IN (order_id, '')"
        " GROUP BY order_id, sku",
        (order_id or "",),
    )
    found: dict[str, Any] = {}
    for row in rows:
        order = found.setdefault(row["order_id"], {state: {} for state in states})
        for state in states:
            if row[state]:
                order[state][row["sku"]] = row[state]
    return found


def shelves(db: sqlite3.Connection) -> dict[str, dict[str, dict[str, int]]]:
    """By SKU and location: pieces that are free, and pieces that are there in all."""
    rows = db.execute(
        "SELECT sku, location, free, (SELECT COALESCE(SUM(held), 0) FROM pieces"
        " WHERE pieces.sku = shelves.sku AND pieces.location = shelves.location) AS held"
        " FROM shelves"
    )
    found: dict[str, dict[str, dict[str, int]]] = {}
    for row in rows:
        there = {"free": row["free"], "on_hand": row["free"] + row["held"]}
        found.setdefault(row["sku"], {})[row["location"]] = there
    return found
