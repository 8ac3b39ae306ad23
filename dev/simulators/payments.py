"""The payment service's stand-in: authorise, capture, void, refund, and the books."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from dev.simulators import fault_injection as magic
from dev.simulators.idempotent_service import (
    CONTROL,
    Amount,
    Asked,
    Desk,
    Id,
    Keyed,
    No,
    Outcome,
    Rejected,
)
from dev.simulators.outbox import Event

TABLES = """
CREATE TABLE IF NOT EXISTS authorisations (
    reference TEXT PRIMARY KEY,
    order_id TEXT NOT NULL,
    authorisation_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    method TEXT,
    amount INTEGER NOT NULL,
    status TEXT NOT NULL,  -- authorised, declined, voided
    captured INTEGER NOT NULL DEFAULT 0,
    refunded INTEGER NOT NULL DEFAULT 0,
    captures INTEGER NOT NULL DEFAULT 0,
    refunds INTEGER NOT NULL DEFAULT 0,
    UNIQUE (order_id, authorisation_id)
);
"""


class Authorisation(Asked):
    """May this amount be taken from the customer?"""

    order_id: Id
    authorisation_id: Id = Field(description="the caller's own name for it, unique in its order")
    customer_id: Id
    amount: Amount
    currency: str = Field(pattern="^[A-Z]{3}$")
    method: str | None = Field(description="a token of this service, never a card number")


class Authorised(BaseModel):
    """The amount is set aside."""

    reference: str
    status: str = "authorised"


class Step(Asked):
    """Something is done with an authorisation."""

    order_id: Id
    step_id: Id = Field(description="the caller's own name for it; callbacks repeat it")


class Movement(Step):
    """So much of an authorisation is moved."""

    amount: Amount


class Done(BaseModel):
    """It is done."""

    status: str


def create(desk: Desk) -> FastAPI:
    """The service; its OpenAPI document is the contract for a real one."""
    app = FastAPI(title="Payments", version="1", description=__doc__)
    desk.install(app)
    declined: dict[int | str, dict[str, Any]] = {402: {"model": Rejected}, 422: {"model": Rejected}}

    @app.post("/authorisations", status_code=201, response_model=Authorised, responses=declined)
    async def authorise(call: Keyed, asked: Authorisation) -> Response:
        """Sets an amount aside; 402 with the code `declined` if it may not be taken."""
        trouble = magic.of_method(asked.method)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: _authorise(db, asked)
        )

    @app.post(
        "/authorisations/{reference}/captures",
        status_code=201,
        response_model=Done,
        responses=declined,
    )
    async def capture(call: Keyed, reference: str, asked: Movement) -> Response:
        """Takes some of it, or 402 with the code `declined`: never more than is left."""
        trouble = _trouble(desk, reference)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: _capture(db, reference, asked)
        )

    @app.post(
        "/authorisations/{reference}/void",
        response_model=Done,
        responses={422: {"model": Rejected}},
    )
    async def void(call: Keyed, reference: str, asked: Step) -> Response:
        """Gives up what was not captured; what was captured stays so."""
        trouble = _trouble(desk, reference)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: _void(db, reference, asked)
        )

    @app.post(
        "/authorisations/{reference}/refunds",
        status_code=201,
        response_model=Done,
        responses={422: {"model": Rejected}},
    )
    async def refund(call: Keyed, reference: str, asked: Movement) -> Response:
        """Gives some of it back; never more than was captured and not given back yet."""
        trouble = _trouble(desk, reference, refunds=True)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: _refund(db, reference, asked)
        )

    @app.get("/control/books", tags=[*CONTROL])
    async def books(order_id: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        """What is open, captured and refunded, by order and by currency."""
        with desk.store.transaction() as db:
            return {
                "orders": _sums(db, "order_id", order_id),
                "currencies": _sums(db, "currency", order_id),
            }

    return app


def _authorise(db: sqlite3.Connection, asked: Authorisation) -> Outcome:
    name = (asked.order_id, asked.authorisation_id)
    query = "SELECT authorisation_id FROM authorisations WHERE order_id = ?"
    earlier = {row[0] for row in db.execute(query, name[:1])}
    if asked.authorisation_id in earlier:
        raise No("exists", "this authorisation_id came under another key before")
    reference = f"auth_{hashlib.sha256(repr(name).encode()).hexdigest()[:16]}"
    is_declined = asked.method in ("pm_declined", "pm_declined_late") or (
        asked.method == "pm_declined_once" and not earlier
    )
    db.execute(
        "INSERT INTO authorisations VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)",
        (
            *(reference, *name, asked.currency, asked.method, asked.amount),
            "declined" if is_declined else "authorised",
        ),
    )
    about = {"order_id": asked.order_id, "authorisation_id": asked.authorisation_id}
    if is_declined:
        return _declined("the card was declined", "authorisation.declined", about)
    return Outcome(
        201,
        Authorised(reference=reference).model_dump(),
        Event("authorisation.approved", about | {"reference": reference}),
    )


def _capture(db: sqlite3.Connection, reference: str, asked: Movement) -> Outcome:
    row = _found(db, reference, asked)
    about = {"order_id": asked.order_id, "step_id": asked.step_id}
    if row["method"] == "pm_capture_refused":
        return _declined("the bank refuses the capture", "capture.refused", about)
    left = row["amount"] - row["captured"] if row["status"] == "authorised" else 0
    if asked.amount > left:
        reason = f"{asked.amount} cannot be captured: {left} is left of this authorisation"
        return _declined(reason, "capture.refused", about)
    db.execute(
        "UPDATE authorisations SET captured = captured + ?, captures = captures + 1"
        " WHERE reference = ?",
        (asked.amount, reference),
    )
    return Outcome(201, {"status": "captured"}, Event("capture.done", about))


def _void(db: sqlite3.Connection, reference: str, asked: Step) -> Outcome:
    row = _found(db, reference, asked)
    if row["status"] == "authorised":
        query = "UPDATE authorisations SET status = 'voided' WHERE reference = ?"
        db.execute(query, (reference,))
    about = {"order_id": asked.order_id, "step_id": asked.step_id}
    return Outcome(200, {"status": "voided"}, Event("void.done", about))


def _refund(db: sqlite3.Connection, reference: str, asked: Movement) -> Outcome:
    row = _found(db, reference, asked)
    left = row["captured"] - row["refunded"]
    if asked.amount > left:
        reason = f"{asked.amount} cannot be refunded: {left} is captured and not refunded"
        raise No("too-much", reason)
    db.execute(
        "UPDATE authorisations SET refunded = refunded + ?, refunds = refunds + 1"
        " WHERE reference = ?",
        (asked.amount, reference),
    )
    about = {"order_id": asked.order_id, "step_id": asked.step_id}
    return Outcome(201, {"status": "refunded"}, Event("refund.done", about))


def _found(db: sqlite3.Connection, reference: str, asked: Step) -> sqlite3.Row:
    query = "SELECT * FROM authorisations WHERE reference = ? AND order_id = ?"
    row: sqlite3.Row | None = db.execute(query, (reference, asked.order_id)).fetchone()
    if row is None:
        raise No("unknown-reference", f"this order has no authorisation {reference}", 404)
    return row


def _declined(reason: str, event: str, about: dict[str, str]) -> Outcome:
    return Outcome(
        402, {"code": "declined", "reason": reason}, Event(event, about | {"reason": reason})
    )


def _trouble(desk: Desk, reference: str, refunds: bool = False) -> magic.Trouble:
    with desk.store.transaction() as db:
        query = "SELECT method FROM authorisations WHERE reference = ?"
        row = db.execute(query, (reference,)).fetchone()
    return magic.of_method(row and row["method"], refunds)


def _sums(db: sqlite3.Connection, by: str, order_id: str | None) -> dict[str, dict[str, Any]]:
    rows = db.execute(
        f"""
        SELECT {by} AS whose, MIN(currency) AS currency,
            SUM(CASE status WHEN 'authorised' THEN amount - captured ELSE 0 END) AS authorised,
            SUM(captured) AS captured, SUM(refunded) AS refunded,
            SUM(captures) AS captures, SUM(refunds) AS refunds
        FROM authorisations WHERE ? IN (order_id, '') GROUP BY {by}
        """,
        (order_id or "",),
    )
    return {row["whose"]: {k: v for k, v in dict(row).items() if k != "whose"} for row in rows}
