"""What other services may tell, and what each event means to an order."""

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

# Words of another service, which go into events and logs: some, and on one line.
Reason = Annotated[str, AfterValidator(one_line)]


class _Data(BaseModel):
    """What an event is about; a sender may add to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order_id: Id


class Approved(_Data):
    authorisation_id: Id
    reference: Annotated[str, Field(min_length=1, max_length=256)]

    def message(self) -> StepResult:
        return PaymentApproved(step_id=self.authorisation_id, reference=self.reference)


class Declined(_Data):
    authorisation_id: Id
    reason: Reason

    def message(self) -> StepResult:
        return PaymentRefused(step_id=self.authorisation_id, reason=self.reason)


class Done(_Data):
    step_id: Id

    def message(self) -> StepResult:
        return StepDone(step_id=self.step_id)


class CaptureRefused(_Data):
    step_id: Id
    reason: Reason

    def message(self) -> StepResult:
        return PaymentRefused(step_id=self.step_id, reason=self.reason)


class Lost(_Data):
    loss_id: Id
    line_id: Id
    location: Id
    quantity: Annotated[int, Field(gt=0)]

    def message(self) -> StepResult:
        return StockLost.model_validate(self.model_dump(exclude={"order_id"}))


class Dispatched(_Data):
    shipment_id: Id
    tracking: Annotated[str, Field(max_length=100)] | None = None
    lines: Annotated[list[Piece], Field(max_length=1000)] | None = None

    def message(self) -> StepResult:
        return ShipmentDeparted.model_validate(self.model_dump(exclude={"order_id"}))


class Delivered(_Data):
    shipment_id: Id

    def message(self) -> OrderCommand:
        return ConfirmDelivery(shipment_id=self.shipment_id)


class Failed(_Data):
    shipment_id: Id
    reason: Reason | None = None
    goods: Literal["lost", "returned"] = "lost"

    def message(self) -> OrderCommand:
        return ReportDeliveryFailure(
            shipment_id=self.shipment_id, reason=self.reason or None, goods=self.goods
        )


AnyData = Approved | Declined | Done | CaptureRefused | Lost | Dispatched | Delivered | Failed

# By sender, the events that mean something to an order.
EVENTS: Mapping[str, Mapping[str, type[AnyData]]] = {
    "payments": {
        "authorisation.approved": Approved,
        "authorisation.declined": Declined,
        "capture.done": Done,
        "capture.refused": CaptureRefused,
        "refund.done": Done,
        "void.done": Done,
    },
    "stock": {"stock.lost": Lost},
    "shipping": {
        "shipment.dispatched": Dispatched,
        "shipment.delivered": Delivered,
        "shipment.failed": Failed,
    },
}


class CallbackEvent(BaseModel):
    """A webhook's body, as Standard Webhooks would have it."""

    model_config = ConfigDict(extra="ignore")

    type: str
    timestamp: AwareDatetime
    """When it happened, however often it is sent."""
    data: dict[str, Any]
