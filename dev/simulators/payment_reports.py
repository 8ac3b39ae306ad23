"""What happens at the payment service without a request of the order, and its callbacks."""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import Field

from dev.simulators.idempotent_service import (
    CONTROL,
    Amount,
    Id,
    IdempotentService,
    Rejection,
    RequestRejected,
    ServiceRequest,
)
from dev.simulators.outbox import CallbackEvent


class Reduction(ServiceRequest):
    """What is left of an authorisation; 0 if it has expired."""

    amount: int = Field(0, ge=0)


class Reversal(ServiceRequest):
    """A capture or refund turns out not to have reached its account."""

    reason: str = "the account is closed"


class OutsideRefund(ServiceRequest):
    """A refund that no order requested, as people make it at the provider."""

    order_id: Id
    refund_id: Id
    amount: Amount


class Dispute(ServiceRequest):
    """The customer's bank takes money back, or has decided about it."""

    order_id: Id
    chargeback_id: Id
    amount: Amount
    reason: str = "fraud"
    state: Literal["opened", "won", "lost"] = "opened"


def add_routes(app: FastAPI, service: IdempotentService) -> None:
    """Adds a control route for each; it changes the records and sends the callback."""
    rejected: dict[int | str, dict[str, Any]] = {422: {"model": Rejection}}
    options: dict[str, Any] = {"status_code": 204, "responses": rejected, "tags": [*CONTROL]}

    @app.post("/control/authorisations/{order_id}/{authorisation_id}/reduce", **options)
    async def reduce_authorisation(order_id: str, authorisation_id: str, body: Reduction) -> None:
        """An authorisation expires or shrinks: `authorisation.expired` or `.reduced`."""
        with service.store.transaction() as db:
            service.send_callback(db, reduce(db, order_id, authorisation_id, body.amount))

    @app.post("/control/captures/{order_id}/{step_id}/decline", **options)
    async def decline_capture(order_id: str, step_id: str, body: Reversal) -> None:
        """A capture that was done is declined: `capture.declined`."""
        with service.store.transaction() as db:
            service.send_callback(db, reverse_capture(db, order_id, step_id, body.reason))

    @app.post("/control/refunds/{order_id}/{step_id}/fail", **options)
    async def fail_refund(order_id: str, step_id: str, body: Reversal) -> None:
        """A refund that was accepted fails: `refund.failed`."""
        with service.store.transaction() as db:
            service.send_callback(db, reverse_refund(db, order_id, step_id, body.reason))

    @app.post("/control/refunds", **options)
    async def refund_outside(body: OutsideRefund) -> None:
        """A refund is made at the provider: `refund.done`."""
        with service.store.transaction() as db:
            reference = _take_back(db, body.order_id, body.amount)
            data = {
                "order_id": body.order_id,
                "step_id": body.refund_id,
                "amount": body.amount,
                "authorisation_id": reference,
            }
            service.send_callback(db, CallbackEvent("refund.done", data))

    @app.post("/control/chargebacks", **options)
    async def report_chargeback(body: Dispute) -> None:
        """A chargeback is opened, won or lost: `chargeback.opened` and so on."""
        with service.store.transaction() as db:
            service.send_callback(db, dispute(db, **body.model_dump()))


def reduce(
    db: sqlite3.Connection, order_id: str, authorisation_id: str, amount: int
) -> CallbackEvent:
    """Of an authorisation, only this amount is left, or what is captured."""
    db.execute(
        "UPDATE authorisations SET amount = MAX(captured, ?)"
        " WHERE order_id = ? AND authorisation_id = ?",
        (amount, order_id, authorisation_id),
    )
    data = {"order_id": order_id, "authorisation_id": authorisation_id}
    if amount == 0:
        return CallbackEvent("authorisation.expired", data)
    return CallbackEvent("authorisation.reduced", {**data, "amount": amount})


def reverse_capture(
    db: sqlite3.Connection, order_id: str, step_id: str, reason: str
) -> CallbackEvent:
    """The money of a capture does not come; nothing more can be captured."""
    reference, amount = _reverse(db, order_id, step_id)
    db.execute(
        "UPDATE authorisations SET captured = captured - ?, status = 'voided' WHERE reference = ?",
        (amount, reference),
    )
    data = {"order_id": order_id, "step_id": step_id, "reason": reason}
    return CallbackEvent("capture.declined", data)


def reverse_refund(
    db: sqlite3.Connection, order_id: str, step_id: str, reason: str
) -> CallbackEvent:
    """The money of a refund came back."""
    reference, amount = _reverse(db, order_id, step_id)
    db.execute(
        "UPDATE authorisations SET refunded = refunded - ? WHERE reference = ?",
        (amount, reference),
    )
    data = {"order_id": order_id, "step_id": step_id, "reason": reason}
    return CallbackEvent("refund.failed", data)


def dispute(
    db: sqlite3.Connection, order_id: str, chargeback_id: str, amount: int, reason: str, state: str
) -> CallbackEvent:
    """A chargeback; one that is lost takes the money."""
    if state == "lost":
        _take_back(db, order_id, amount)
    data = {"order_id": order_id, "chargeback_id": chargeback_id, "amount": amount}
    return CallbackEvent(f"chargeback.{state}", {**data, "reason": reason})


def _reverse(db: sqlite3.Connection, order_id: str, step_id: str) -> tuple[str, int]:
    row = db.execute(
        "DELETE FROM movements WHERE order_id = ? AND step_id = ? RETURNING reference, amount",
        (order_id, step_id),
    ).fetchone()
    if row is None:
        raise RequestRejected("unknown-step", f"nothing was moved by {step_id}")
    return row["reference"], row["amount"]


def _take_back(db: sqlite3.Connection, order_id: str, amount: int) -> str:
    """Refunds a part of what is captured; returns the id of the authorisation."""
    row = db.execute(
        "UPDATE authorisations SET refunded = refunded + ? WHERE reference = (SELECT reference"
        " FROM authorisations WHERE order_id = ? AND captured - refunded >= ? LIMIT 1)"
        " RETURNING authorisation_id",
        (amount, order_id, amount),
    ).fetchone()
    if row is None:
        raise RequestRejected("too-much", f"{amount} is more than is captured and not refunded")
    key: str = row["authorisation_id"]
    return key
