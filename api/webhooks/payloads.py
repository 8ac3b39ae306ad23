"""The payloads of inbound webhooks, and the step result or command that each becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from orders.commands import ConfirmDelivery, OrderCommand, ReportDeliveryFailure
from orders.steps import (
    PaymentApproved,
    PaymentRefused,
    Piece,
    ShipmentDeparted,
    StepDone,
    StepResult,
    StockLost,
)
from orders.text import Id, one_line

Reason = Annotated[str, AfterValidator(one_line)]


class _Data(BaseModel):
    """The data of a webhook; additional fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order_id: Id


class AuthorisationApproved(_Data):
    authorisation_id: Id
    reference: Annotated[str, Field(min_length=1, max_length=256)]

    def message(self) -> StepResult:
        return PaymentApproved(step_id=self.authorisation_id, reference=self.reference)


class AuthorisationDeclined(_Data):
    authorisation_id: Id
    reason: Reason

    def message(self) -> StepResult:
        return PaymentRefused(step_id=self.authorisation_id, reason=self.reason)


class StepCompleted(_Data):
    step_id: Id

    def message(self) -> StepResult:
        return StepDone(step_id=self.step_id)


class CaptureDeclined(_Data):
    step_id: Id
    reason: Reason

    def message(self) -> StepResult:
        return PaymentRefused(step_id=self.step_id, reason=self.reason)


class ReservedStockLost(_Data):
    loss_id: Id
    line_id: Id
    location: Id
    quantity: Annotated[int, Field(gt=0)]

    def message(self) -> StepResult:
        return StockLost.model_validate(self.model_dump(exclude={"order_id"}))


class ShipmentDispatched(_Data):
    shipment_id: Id
    tracking: Annotated[str, Field(max_length=100)] | None = None
    lines: Annotated[list[Piece], Field(max_length=1000)] | None = None

    def message(self) -> StepResult:
        return ShipmentDeparted.model_validate(self.model_dump(exclude={"order_id"}))


class ShipmentDelivered(_Data):
    shipment_id: Id

    def message(self) -> OrderCommand:
        return ConfirmDelivery(shipment_id=self.shipment_id)


class ShipmentFailed(_Data):
    shipment_id: Id
    reason: Reason | None = None
    goods: Literal["lost", "returned"] = "lost"

    def message(self) -> OrderCommand:
        return ReportDeliveryFailure(
            shipment_id=self.shipment_id, reason=self.reason or None, goods=self.goods
        )


CallbackData = (
    AuthorisationApproved
    | AuthorisationDeclined
    | StepCompleted
    | CaptureDeclined
    | ReservedStockLost
    | ShipmentDispatched
    | ShipmentDelivered
    | ShipmentFailed
)

# The types of events that orders process, by sender.
EVENTS: Mapping[str, Mapping[str, type[CallbackData]]] = {
    "payments": {
        "authorisation.approved": AuthorisationApproved,
        "authorisation.declined": AuthorisationDeclined,
        "capture.done": StepCompleted,
        "capture.declined": CaptureDeclined,
        "refund.done": StepCompleted,
        "void.done": StepCompleted,
    },
    "stock": {"stock.lost": ReservedStockLost},
    "shipping": {
        "shipment.dispatched": ShipmentDispatched,
        "shipment.delivered": ShipmentDelivered,
        "shipment.failed": ShipmentFailed,
    },
}


class CallbackEvent(BaseModel):
    """The body of a webhook, as in Standard Webhooks."""

    model_config = ConfigDict(extra="ignore")

    type: str
    timestamp: AwareDatetime
    """When the event happened; the same in each delivery."""
    data: dict[str, Any]
