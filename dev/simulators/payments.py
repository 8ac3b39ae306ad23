"""The simulated payment service: authorise, capture, void, refund, and the ledger."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from dev.simulators import payment_reports
from dev.simulators.fault_injection import Fault, is_declined, payment_fault
from dev.simulators.idempotent_service import (
    CONTROL,
    Amount,
    Id,
    IdempotentService,
    KeyedRequest,
    Reference,
    Rejection,
    RequestRejected,
    ServiceRequest,
    ServiceResponse,
)
from dev.simulators.outbox import CallbackEvent

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
CREATE TABLE IF NOT EXISTS movements (  -- captures and refunds that were not reversed
    order_id TEXT,
    step_id TEXT,
    reference TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (order_id, step_id)
);
"""


class Authorisation(ServiceRequest):
    """Authorise an amount of the customer's money."""

    order_id: Id
    authorisation_id: Id = Field(description="the caller's own name for it, unique in its order")
    customer_id: Id
    amount: Amount
    currency: str = Field(pattern="^[A-Z]{3}$")
    method: str | None = Field(description="a token of this service, never a card number")


class Authorised(BaseModel):
    """The amount is authorised."""

    reference: Reference
    status: str = "authorised"


class PaymentStep(ServiceRequest):
    """An operation on an authorisation."""

    order_id: Id
    step_id: Id = Field(description="the caller's own name for it; callbacks repeat it")


class PaymentMovement(PaymentStep):
    """A capture or refund of an amount."""

    amount: Amount


class Done(BaseModel):
    """It is done."""

    status: str


def create(service: IdempotentService) -> FastAPI:
    """The application; its OpenAPI document is the contract for a real payment service."""
    app = FastAPI(title="Payments", version="1", description=__doc__)
    service.add_common_routes(app)
    rejected: dict[int | str, dict[str, Any]] = {422: {"model": Rejection}}
    declined = {402: {"model": Rejection}, **rejected}
    unknown: dict[int | str, dict[str, Any]] = {404: {"model": Rejection}}

    @app.post("/authorisations", status_code=201, response_model=Authorised, responses=declined)
    async def authorise(keyed: KeyedRequest, body: Authorisation) -> Response:
        """Authorises an amount; 402 with the code `declined` if it is declined."""
        fault = payment_fault(body.method)
        return await service.execute(
            keyed, body, body.order_id, fault, lambda db: _authorise(db, body)
        )

    @app.post(
        "/authorisations/{reference}/captures",
        status_code=201,
        response_model=Done,
        responses={**declined, **unknown},
    )
    async def capture(keyed: KeyedRequest, reference: str, body: PaymentMovement) -> Response:
        """Captures a part of it, never more than is left; 402 with the code `declined`."""
        fault = _fault(service, reference)
        return await service.execute(
            keyed, body, body.order_id, fault, lambda db: _capture(db, reference, body)
        )

    @app.post(
        "/authorisations/{reference}/void",
        response_model=Done,
        responses={**rejected, **unknown},
    )
    async def void(keyed: KeyedRequest, reference: str, body: PaymentStep) -> Response:
        """Voids what is not captured; captured money stays captured."""
        fault = _fault(service, reference)
        return await service.execute(
            keyed, body, body.order_id, fault, lambda db: _void(db, reference, body)
        )

    @app.post(
        "/authorisations/{reference}/refunds",
        status_code=201,
        response_model=Done,
        responses={**rejected, **unknown},
    )
    async def refund(keyed: KeyedRequest, reference: str, body: PaymentMovement) -> Response:
        """Refunds a part of it; never more than is captured and not refunded yet."""
        fault = _fault(service, reference, is_refund=True)
        return await service.execute(
            keyed, body, body.order_id, fault, lambda db: _refund(db, reference, body)
        )

    @app.get("/control/books", tags=[*CONTROL])
    async def show_ledger(order_id: str | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        """What is authorised, captured and refunded, by order and by currency."""
        with service.store.transaction() as db:
            return {
                "orders": _sums_by(db, "order_id", order_id),
                "currencies": _sums_by(db, "currency", order_id),
            }

    payment_reports.add_routes(app, service)
    return app


def _authorise(db: sqlite3.Connection, body: Authorisation) -> ServiceResponse:
    name = (body.order_id, body.authorisation_id)
    query = "SELECT authorisation_id FROM authorisations WHERE order_id = ?"
    earlier = {row[0] for row in db.execute(query, name[:1])}
    if body.authorisation_id in earlier:
        raise RequestRejected("exists", "this authorisation_id came under another key before")
    reference = f"auth_{hashlib.sha256(repr(name).encode()).hexdigest()[:16]}"
    declined = is_declined(body.method, is_first=not earlier)
    db.execute(
        "INSERT INTO authorisations VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0)",
        (
            *(reference, *name, body.currency, body.method, body.amount),
            "declined" if declined else "authorised",
        ),
    )
    about = {"order_id": body.order_id, "authorisation_id": body.authorisation_id}
    if declined:
        return _declined("the card was declined", "authorisation.declined", about)
    approved = CallbackEvent("authorisation.approved", about | {"reference": reference})
    later = None
    if body.method == "pm_expires" and not earlier:
        later = payment_reports.reduce(db, *name, 0)
    return ServiceResponse(201, Authorised(reference=reference).model_dump(), approved, later)


def _capture(db: sqlite3.Connection, reference: str, body: PaymentMovement) -> ServiceResponse:
    row = _find_authorisation(db, reference, body)
    about = {"order_id": body.order_id, "step_id": body.step_id}
    if row["method"] == "pm_capture_declined":
        return _declined("the bank declined the capture", "capture.declined", about)
    left = row["amount"] - row["captured"] if row["status"] == "authorised" else 0
    if body.amount > left:
        reason = f"{body.amount} cannot be captured: {left} is left of this authorisation"
        return _declined(reason, "capture.declined", about)
    db.execute(
        "UPDATE authorisations SET captured = captured + ?, captures = captures + 1"
        " WHERE reference = ?",
        (body.amount, reference),
    )
    _record(db, reference, body)
    later = None
    if row["method"] == "pm_capture_reversed":
        later = payment_reports.reverse_capture(db, body.order_id, body.step_id, "no cover")
    if row["method"] == "pm_chargeback":
        key = f"chargeback-{body.step_id}"
        later = payment_reports.dispute(db, body.order_id, key, body.amount, "fraud", "opened")
    done = CallbackEvent("capture.done", about)
    return ServiceResponse(201, {"status": "captured"}, done, later)


def _void(db: sqlite3.Connection, reference: str, body: PaymentStep) -> ServiceResponse:
    row = _find_authorisation(db, reference, body)
    if row["status"] == "authorised":
        query = "UPDATE authorisations SET status = 'voided' WHERE reference = ?"
        db.execute(query, (reference,))
    about = {"order_id": body.order_id, "step_id": body.step_id}
    return ServiceResponse(200, {"status": "voided"}, CallbackEvent("void.done", about))


def _refund(db: sqlite3.Connection, reference: str, body: PaymentMovement) -> ServiceResponse:
    row = _find_authorisation(db, reference, body)
    left = row["captured"] - row["refunded"]
    if body.amount > left:
        reason = f"{body.amount} cannot be refunded: {left} is captured and not refunded"
        raise RequestRejected("too-much", reason)
    db.execute(
        "UPDATE authorisations SET refunded = refunded + ?, refunds = refunds + 1"
        " WHERE reference = ?",
        (body.amount, reference),
    )
    _record(db, reference, body)
    later = None
    if row["method"] == "pm_refund_fails":
        reason = "the account is closed"
        later = payment_reports.reverse_refund(db, body.order_id, body.step_id, reason)
    about = {"order_id": body.order_id, "step_id": body.step_id}
    done = CallbackEvent("refund.done", about)
    return ServiceResponse(201, {"status": "refunded"}, done, later)


def _record(db: sqlite3.Connection, reference: str, body: PaymentMovement) -> None:
    row = (body.order_id, body.step_id, reference, body.amount)
    db.execute("INSERT INTO movements VALUES (?, ?, ?, ?)", row)


def _find_authorisation(db: sqlite3.Connection, reference: str, body: PaymentStep) -> sqlite3.Row:
    query = "SELECT * FROM authorisations WHERE reference = ? AND order_id = ?"
    row: sqlite3.Row | None = db.execute(query, (reference, body.order_id)).fetchone()
    if row is None:
        raise RequestRejected(
            "unknown-reference", f"this order has no authorisation {reference}", 404
        )
    return row


def _declined(reason: str, event: str, about: dict[str, str]) -> ServiceResponse:
    return ServiceResponse(
        402,
        {"code": "declined", "reason": reason},
        CallbackEvent(event, about | {"reason": reason}),
    )


def _fault(service: IdempotentService, reference: str, is_refund: bool = False) -> Fault:
    with service.store.transaction() as db:
        query = "SELECT method FROM authorisations WHERE reference = ?"
        row = db.execute(query, (reference,)).fetchone()
    return payment_fault(row and row["method"], is_refund)


def _sums_by(db: sqlite3.Connection, by: str, order_id: str | None) -> dict[str, dict[str, Any]]:
    rows = db.execute(
        f"""
        SELECT {by} AS key, MIN(currency) AS currency,
            SUM(CASE status WHEN 'authorised' THEN amount - captured ELSE 0 END) AS authorised,
            SUM(captured) AS captured, SUM(refunded) AS refunded,
            SUM(captures) AS captures, SUM(refunds) AS refunds
        FROM authorisations WHERE ? IN (order_id, '') GROUP BY {by}
        """,
        (order_id or "",),
    )
    return {row["key"]: {k: v for k, v in dict(row).items() if k != "key"} for row in rows}
