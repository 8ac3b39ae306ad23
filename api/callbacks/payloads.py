"""The payloads of callbacks, and the report that each becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orders.money import AMOUNT_MAX
from orders.rules.draft import LINES_MAX
from orders.service_fields import Reason, ReportedPiece, Tracking
from orders.steps import (
    AuthorisationChanged,
    ChargebackReported,
    DeliveryDenied,
    PaymentApproved,
    PaymentRefused,
    RefundFailed,
    ShipmentArrived,
    ShipmentDeparted,
    ShipmentLost,
    StepDone,
    StepResult,
    StockLost,
)
from orders.text import Id, LongName, Reference

Amount = Annotated[int, Field(gt=0, le=AMOUNT_MAX, description="integer minor units")]


class _Data(BaseModel):
    """The data of a callback; additional fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    order_id: Id

    def fields(self) -> dict[str, Any]:
        return self.model_dump(exclude={"order_id"})


class AuthorisationApproved(_Data):
    authorisation_id: Id
    reference: Reference

    def message(self) -> StepResult:
        return PaymentApproved(step_id=self.authorisation_id, reference=self.reference)


class AuthorisationDeclined(_Data):
    authorisation_id: Id
    reason: Reason

    def message(self) -> StepResult:
        return PaymentRefused(step_id=self.authorisation_id, reason=self.reason)


class AuthorisationExpired(_Data):
    authorisation_id: Id
    reason: Reason = "it has expired"

    def message(self) -> StepResult:
        return AuthorisationChanged(amount=0, **self.fields())


class AuthorisationReduced(_Data):
    authorisation_id: Id
    amount: Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
    """What is left of it in all, including what was captured."""
    reason: Reason = "it was reduced"

    def message(self) -> StepResult:
        return AuthorisationChanged(**self.fields())


class _MoneyMoved(_Data):
    """With `amount`, also for an operation that no step of the order requested."""

    step_id: Id
    amount: Amount | None = None
    authorisation_id: Id | None = None


class Captured(_MoneyMoved):
    def message(self) -> StepResult:
        return StepDone(operation="capture", **self.fields())


class Refunded(_MoneyMoved):
    def message(self) -> StepResult:
        return StepDone(operation="refund", **self.fields())


class Voided(_Data):
    step_id: Id

    def message(self) -> StepResult:
        return StepDone(operation="void", step_id=self.step_id)


class CaptureDeclined(_Data):
    step_id: Id
    reason: Reason

    def message(self) -> StepResult:
        return PaymentRefused(step_id=self.step_id, reason=self.reason)


class RefundNotPaid(_Data):
    step_id: Id
    reason: Reason

    def message(self) -> StepResult:
        return RefundFailed(step_id=self.step_id, reason=self.reason)


class _Chargeback(_Data):
    chargeback_id: Id
    amount: Amount
    authorisation_id: Id | None = None
    reason: Reason = "not given"


class ChargebackOpened(_Chargeback):
    def message(self) -> StepResult:
        return ChargebackReported(state="opened", **self.fields())


class ChargebackWon(_Chargeback):
    def message(self) -> StepResult:
        return ChargebackReported(state="won", **self.fields())


class ChargebackLost(_Chargeback):
    def message(self) -> StepResult:
        return ChargebackReported(state="lost", **self.fields())


class ReservedStockLost(_Data):
    loss_id: Id
    line_id: Id
    location: LongName
    quantity: Annotated[int, Field(gt=0)]

    def message(self) -> StepResult:
        return StockLost(**self.fields())


class ShipmentDispatched(_Data):
    shipment_id: Id
    tracking: Tracking = None
    lines: Annotated[list[ReportedPiece], Field(max_length=LINES_MAX)] | None = None

    def message(self) -> StepResult:
        return ShipmentDeparted.model_validate(self.fields())


class ShipmentDelivered(_Data):
    shipment_id: Id

    def message(self) -> StepResult:
        return ShipmentArrived(shipment_id=self.shipment_id)


class ShipmentFailed(_Data):
    shipment_id: Id
    reason: Reason | None = None
    goods: Literal["lost", "returned"] = "lost"

    def message(self) -> StepResult:
        return ShipmentLost(
            shipment_id=self.shipment_id, reason=self.reason or None, goods=self.goods
        )


class DeliveryRevoked(_Data):
    shipment_id: Id
    reason: Reason | None = None

    def message(self) -> StepResult:
        return DeliveryDenied(shipment_id=self.shipment_id, reason=self.reason or None)


CallbackData = (
    AuthorisationApproved
    | AuthorisationDeclined
    | AuthorisationExpired
    | AuthorisationReduced
    | Captured
    | CaptureDeclined
    | Refunded
    | RefundNotPaid
    | Voided
    | ChargebackOpened
    | ChargebackWon
    | ChargebackLost
    | ReservedStockLost
    | ShipmentDispatched
    | ShipmentDelivered
    | ShipmentFailed
    | DeliveryRevoked
)

# The types of events that orders process, by sender.
EVENTS: Mapping[str, Mapping[str, type[CallbackData]]] = {
    "payments": {
        "authorisation.approved": AuthorisationApproved,
        "authorisation.declined": AuthorisationDeclined,
        "authorisation.expired": AuthorisationExpired,
        "authorisation.reduced": AuthorisationReduced,
        "capture.done": Captured,
        "capture.declined": CaptureDeclined,
        "refund.done": Refunded,
        "refund.failed": RefundNotPaid,
        "void.done": Voided,
        "chargeback.opened": ChargebackOpened,
        "chargeback.won": ChargebackWon,
        "chargeback.lost": ChargebackLost,
    },
    "stock": {"stock.lost": ReservedStockLost},
    "shipping": {
        "shipment.dispatched": ShipmentDispatched,
        "shipment.delivered": ShipmentDelivered,
        "shipment.failed": ShipmentFailed,
        "shipment.delivery-revoked": DeliveryRevoked,
    },
}


class CallbackEvent(BaseModel):
    """The body of a callback, as in Standard Webhooks."""

    model_config = ConfigDict(extra="ignore")

    type: str
    timestamp: AwareDatetime
    """When the event happened; the same in each delivery."""
    data: dict[str, Any]
