"""Steps, which are requests to other services, and their results.

Types and field names are a storage format: the histories of open orders contain them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from orders.models import StoredModel


class Piece(StoredModel):
    """A quantity of a line, from any stock location."""

    line_id: str
    sku: str
    quantity: int


class Held(StoredModel):
    """A quantity of a line at one stock location."""

    line_id: str
    sku: str
    location: str
    quantity: int


Service = Literal["payments", "stock", "shipping"]
"""The external services, as settings, metrics and results name them."""
SERVICES: tuple[Service, ...] = get_args(Service)

# Steps. A `step_id` is unique in its order; order and step id are the idempotency key of the call.


class Step(StoredModel):
    """A request to one service, repeated until it has a result."""

    service: ClassVar[Service]
    step_id: str


class Reserve(Step):
    """Stock: reserve these pieces for the order, or as many of them as there are."""

    service: ClassVar[Service] = "stock"
    type: Literal["reserve"] = "reserve"
    lines: list[Piece]


class Release(Step):
    """Stock: release these reserved pieces."""

    service: ClassVar[Service] = "stock"
    type: Literal["release"] = "release"
    held: list[Held]


class Withdraw(Step):
    """Stock: these reserved pieces have left."""

    service: ClassVar[Service] = "stock"
    type: Literal["withdraw"] = "withdraw"
    held: list[Held]


class Restock(Step):
    """Stock: these pieces came back and can be sold again."""

    service: ClassVar[Service] = "stock"
    type: Literal["restock"] = "restock"
    held: list[Held]


class Authorise(Step):
    """Payments: authorise this amount. The step id is the id of the authorisation."""

    service: ClassVar[Service] = "payments"
    type: Literal["authorise"] = "authorise"
    amount: int
    method: str | None


class Capture(Step):
    """Payments: capture this part of an authorisation."""

    service: ClassVar[Service] = "payments"
    type: Literal["capture"] = "capture"
    authorisation_id: str
    reference: str
    amount: int


class Void(Step):
    """Payments: void what is authorised and not captured."""

    service: ClassVar[Service] = "payments"
    type: Literal["void"] = "void"
    authorisation_id: str
    reference: str


class Refund(Step):
    """Payments: refund this part of what was captured."""

    service: ClassVar[Service] = "payments"
    type: Literal["refund"] = "refund"
    authorisation_id: str
    reference: str
    amount: int


class Book(Step):
    """Shipping: book this shipment; a higher revision replaces an earlier booking."""

    service: ClassVar[Service] = "shipping"
    type: Literal["book"] = "book"
    shipment_id: str
    revision: int
    location: str
    lines: list[Piece]
    address: str | None
    """Encrypted; None if the order has none."""


class Stop(Step):
    """Shipping: stop this shipment and forget its bookings, even those still on their way."""

    service: ClassVar[Service] = "shipping"
    type: Literal["stop"] = "stop"
    shipment_id: str


AnyStep = Reserve | Release | Withdraw | Restock | Authorise | Capture | Void | Refund | Book | Stop
STEP_TYPES: tuple[type[AnyStep], ...] = get_args(AnyStep)
SERVICE_OF_STEP: dict[str, Service] = {
    step.model_fields["type"].default: step.service for step in STEP_TYPES
}
"""By the type of a step, the service that it calls."""


class StepRequest(StoredModel):
    """One step of one order, with all that the service has to know."""

    order_id: str
    customer_id: str
    currency: str
    step: Annotated[AnyStep, Field(discriminator="type")]
    traceparent: str | None = None

    @property
    def key(self) -> str:
        """The idempotency key of the call: the same for each attempt, and for no other step."""
        return f"{self.order_id}:{self.step.step_id}"


# Results. They are decided on like commands, but never rejected: a repeated one, or one for a
# finished step, changes nothing.


class StockHeld(StoredModel):
    """To Reserve: what is reserved now, which may be less than was requested."""

    type: Literal["stock-held"] = "stock-held"
    step_id: str
    held: list[Held]


class PaymentApproved(StoredModel):
    """To Authorise: approved; the reference is the payment service's own."""

    type: Literal["payment-approved"] = "payment-approved"
    step_id: str
    reference: str


class PaymentRefused(StoredModel):
    """To Authorise or Capture: declined; repeating it under the same key changes nothing."""

    type: Literal["payment-refused"] = "payment-refused"
    step_id: str
    reason: str


class BookingAccepted(StoredModel):
    """To Book: the carrier will take it."""

    type: Literal["booking-accepted"] = "booking-accepted"
    step_id: str
    tracking: str | None = None


class ShipmentDeparted(StoredModel):
    """To Book or Stop, or unrequested: the shipment has left, with these pieces."""

    type: Literal["shipment-gone"] = "shipment-gone"
    shipment_id: str
    tracking: str | None = None
    lines: list[Piece] | None = None
    """None if the carrier does not report them: all that was booked."""


class ShipmentArrived(StoredModel):
    """Unasked: the shipment was delivered. It may overtake the news that it departed."""

    type: Literal["shipment-arrived"] = "shipment-arrived"
    shipment_id: str


class ShipmentLost(StoredModel):
    """Unasked: the shipment will not be delivered."""

    type: Literal["shipment-lost"] = "shipment-lost"
    shipment_id: str
    goods: Literal["lost", "returned"]
    reason: str | None = None


class DeliveryDenied(StoredModel):
    """Unasked: the shipment was not delivered after all, and is still on its way."""

    type: Literal["delivery-denied"] = "delivery-denied"
    shipment_id: str
    reason: str | None = None


class StepDone(StoredModel):
    """To any other step: done. A service may also report an operation that no step requested."""

    type: Literal["step-done"] = "step-done"
    step_id: str
    operation: Literal["capture", "refund", "void"] | None = None
    """The kind of operation, if a callback reports it."""
    amount: int | None = None
    authorisation_id: str | None = None


class RefundFailed(StoredModel):
    """Unasked: a refund did not reach the customer, although it was accepted."""

    type: Literal["refund-failed"] = "refund-failed"
    step_id: str
    reason: str


class AuthorisationChanged(StoredModel):
    """Unasked: of an authorisation, only this amount is left; 0 if it has ended."""

    type: Literal["authorisation-changed"] = "authorisation-changed"
    authorisation_id: str
    amount: int
    """In all, including what was captured."""
    reason: str


class ChargebackReported(StoredModel):
    """Unasked: the customer's bank takes money back, or has decided about it."""

    type: Literal["chargeback-reported"] = "chargeback-reported"
    chargeback_id: str
    state: Literal["opened", "won", "lost"]
    amount: int
    authorisation_id: str | None = None
    reason: str


class StepFailed(StoredModel):
    """No usable answer after several attempts; the step stays pending."""

    type: Literal["step-failed"] = "step-failed"
    step_id: str
    reason: str


class StockLost(StoredModel):
    """Unrequested: reserved pieces are missing."""

    type: Literal["stock-lost"] = "stock-lost"
    loss_id: str
    line_id: str
    location: str
    quantity: int


class DeadlinePassed(StoredModel):
    """A deadline of the order has passed."""

    type: Literal["deadline-passed"] = "deadline-passed"
    deadline: str
    at: datetime


StepResult = (
    StockHeld
    | PaymentApproved
    | PaymentRefused
    | BookingAccepted
    | ShipmentDeparted
    | ShipmentArrived
    | ShipmentLost
    | DeliveryDenied
    | StepDone
    | StepFailed
    | RefundFailed
    | AuthorisationChanged
    | ChargebackReported
    | StockLost
    | DeadlinePassed
)
RESULT_TYPES: tuple[type[StepResult], ...] = get_args(StepResult)
