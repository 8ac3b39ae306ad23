"""What an order asks of other services, step by step, and what they say to it.

Tags and field names of both are a storage format: they stand in the histories of open orders.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field

from orders.models import StoredModel


class Piece(StoredModel):
    """So many pieces of a line that are wanted from wherever they are."""

    line_id: str
    sku: str
    quantity: int


class Held(StoredModel):
    """So many pieces of a line at one stock location."""

    line_id: str
    sku: str
    location: str
    quantity: int


# Steps. A `step_id` is unique in its order: together they are the idempotency key of the call.


class Step(StoredModel):
    """One thing owed, to be asked of one service until it has answered."""

    step_id: str


class Reserve(Step):
    """Stock: hold these pieces for the order, or as many of them as there are."""

    type: Literal["reserve"] = "reserve"
    lines: list[Piece]


class Release(Step):
    """Stock: these pieces are no longer held."""

    type: Literal["release"] = "release"
    held: list[Held]


class Withdraw(Step):
    """Stock: these held pieces have left."""

    type: Literal["withdraw"] = "withdraw"
    held: list[Held]


class Restock(Step):
    """Stock: these pieces came back and can be sold again."""

    type: Literal["restock"] = "restock"
    held: list[Held]


class Authorise(Step):
    """Payments: may this amount be taken? The step's id names the authorisation from then on."""

    type: Literal["authorise"] = "authorise"
    amount: int
    method: str | None


class Capture(Step):
    """Payments: take this much of what was authorised."""

    type: Literal["capture"] = "capture"
    authorisation_id: str
    reference: str
    amount: int


class Void(Step):
    """Payments: what is authorised and not captured will not be needed."""

    type: Literal["void"] = "void"
    authorisation_id: str
    reference: str


class Refund(Step):
    """Payments: give back this much of what was captured."""

    type: Literal["refund"] = "refund"
    authorisation_id: str
    reference: str
    amount: int


class Book(Step):
    """Shipping: take this shipment along; a higher revision replaces what was booked before."""

    type: Literal["book"] = "book"
    shipment_id: str
    revision: int
    location: str
    lines: list[Piece]
    address: str | None
    """Sealed; None where the order names none."""


class Stop(Step):
    """Shipping: let this shipment not leave, and forget it, whatever is still on its way."""

    type: Literal["stop"] = "stop"
    shipment_id: str


AnyStep = Reserve | Release | Withdraw | Restock | Authorise | Capture | Void | Refund | Book | Stop


class StepRequest(StoredModel):
    """One step of one order, with all that the other service has to know."""

    order_id: str
    customer_id: str
    currency: str
    step: Annotated[AnyStep, Field(discriminator="type")]
    traceparent: str | None = None

    @property
    def key(self) -> str:
        """The idempotency key of the call: the same for each attempt, and for no other step."""
        return f"{self.order_id}:{self.step.step_id}"


# Results: each is decided on as a command is, and none is ever refused. What has come already, or
# comes for a step that nobody waits for any more, changes nothing.


class StockHeld(StoredModel):
    """To Reserve: what is held now, which may be less than was asked for."""

    type: Literal["stock-held"] = "stock-held"
    step_id: str
    held: list[Held]


class PaymentApproved(StoredModel):
    """To Authorise: yes; the reference is the payment service's own."""

    type: Literal["payment-approved"] = "payment-approved"
    step_id: str
    reference: str


class PaymentRefused(StoredModel):
    """To Authorise or Capture: no, and asking again under the same key will not change that."""

    type: Literal["payment-refused"] = "payment-refused"
    step_id: str
    reason: str


class BookingAccepted(StoredModel):
    """To Book: the carrier will take it."""

    type: Literal["booking-accepted"] = "booking-accepted"
    step_id: str
    tracking: str | None = None


class ShipmentDeparted(StoredModel):
    """To Book or Stop, or unasked: the shipment has left, with these pieces."""

    type: Literal["shipment-gone"] = "shipment-gone"
    shipment_id: str
    tracking: str | None = None
    lines: list[Piece] | None = None
    """None where the carrier does not say: then what was booked."""


class StepDone(StoredModel):
    """To any other step: done."""

    type: Literal["step-done"] = "step-done"
    step_id: str


class StepFailed(StoredModel):
    """No answer to work with, after some patience; the step stays owed."""

    type: Literal["step-failed"] = "step-failed"
    step_id: str
    reason: str


class StockLost(StoredModel):
    """Unasked: pieces that were held are not there after all."""

    type: Literal["stock-lost"] = "stock-lost"
    loss_id: str
    line_id: str
    location: str
    quantity: int


class DeadlinePassed(StoredModel):
    """A deadline of the order's own has passed."""

    type: Literal["deadline-passed"] = "deadline-passed"
    deadline: str
    at: datetime


StepResult = (
    StockHeld
    | PaymentApproved
    | PaymentRefused
    | BookingAccepted
    | ShipmentDeparted
    | StepDone
    | StepFailed
    | StockLost
    | DeadlinePassed
)
RESULT_TYPES: tuple[type[StepResult], ...] = get_args(StepResult)
