"""What can have happened to an order.

Tags and field names are a storage format: rename or remove nothing. A field added later
is `X | None = None`; nulls are not stored, so that an old event and its digest stay as they were.
A change that is none of these gives its type the next `schema_version`, and an upcaster from the
one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from orders.policy import Policy
from orders.steps import Held


class UnreadableEvent(ValueError):
    """A stored event that this version of the software does not understand."""


class Event(BaseModel):
    """A fact, never changed. Open: a field that a newer version wrote is ignored on a rollback."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: ClassVar[int] = 1
    """Of the shape below, as it is stored; older ones are read through UPCASTERS."""


class LineCount(BaseModel):
    """So many pieces of one line."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    line_id: str
    quantity: int


class ClientIdentified(Event):
    """Has an id of its own and happens once; `fingerprint` tells a repetition from a clash."""

    fingerprint: str


# The draft


class OrderOpened(Event):
    type: Literal["order-opened"] = "order-opened"
    customer_id: str
    currency: str
    external_reference: str | None = None
    policy: Policy | None = None
    expires_at: datetime | None = None


class ItemAdded(Event):
    type: Literal["item-added"] = "item-added"
    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int


class ItemQuantityChanged(Event):
    type: Literal["item-quantity-changed"] = "item-quantity-changed"
    line_id: str
    quantity: int


class ItemRemoved(Event):
    type: Literal["item-removed"] = "item-removed"
    line_id: str


class DiscountApplied(Event):
    type: Literal["discount-applied"] = "discount-applied"
    discount_id: str
    amount: int
    reason: str | None = None


class DiscountRemoved(Event):
    type: Literal["discount-removed"] = "discount-removed"
    discount_id: str


class NoteAdded(Event):
    type: Literal["note-added"] = "note-added"
    note_id: str
    text: str


class ShippingChargeSet(Event):
    type: Literal["shipping-charge-set"] = "shipping-charge-set"
    amount: int


class ShippingAddressSet(Event):
    type: Literal["shipping-address-set"] = "shipping-address-set"
    address: str


class BillingAddressSet(Event):
    type: Literal["billing-address-set"] = "billing-address-set"
    address: str


class OrderExpired(Event):
    type: Literal["order-expired"] = "order-expired"


# The lifecycle


class OrderPlaced(Event):
    type: Literal["order-placed"] = "order-placed"
    total: int
    payment_method: str | None = None


class OrderConfirmed(Event):
    type: Literal["order-confirmed"] = "order-confirmed"


class OrderHeld(Event):
    type: Literal["order-held"] = "order-held"
    reason: str | None = None


class OrderReleased(Event):
    type: Literal["order-released"] = "order-released"


class OrderCompleted(Event):
    type: Literal["order-completed"] = "order-completed"


class OrderCancellationRequested(Event):
    type: Literal["order-cancellation-requested"] = "order-cancellation-requested"
    reason: str | None = None


class OrderCancelled(Event):
    type: Literal["order-cancelled"] = "order-cancelled"
    reason: str | None = None


class OrderCancellationOvertaken(Event):
    """A shipment had left before it could be stopped: only `lines` were still to be called off."""

    type: Literal["order-cancellation-overtaken"] = "order-cancellation-overtaken"
    lines: list[LineCount]


class AnswerNotNeeded(Event):
    """What a customer had to decide on has settled itself."""

    type: Literal["answer-not-needed"] = "answer-not-needed"


class LinesCancelled(ClientIdentified):
    type: Literal["lines-cancelled"] = "lines-cancelled"
    cancellation_id: str
    lines: list[LineCount]
    reason: str | None = None


class LinesCancellationOvertaken(Event):
    """These pieces had left before they could be taken out of their shipment."""

    type: Literal["lines-cancellation-overtaken"] = "lines-cancellation-overtaken"
    lines: list[LineCount]


class AmendedLine(BaseModel):
    """A line's terms from now on; `cancelled` of its pieces are called off."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int
    cancelled: int


class OrderAmended(ClientIdentified):
    type: Literal["order-amended"] = "order-amended"
    amendment_id: str
    lines: list[AmendedLine]
    shipping_charge: int


# Stock


class StockRequested(Event):
    type: Literal["stock-requested"] = "stock-requested"
    step_id: str
    lines: list[LineCount]


class StockReserved(Event):
    type: Literal["stock-reserved"] = "stock-reserved"
    step_id: str
    held: list[Held]


class StockShort(Event):
    type: Literal["stock-short"] = "stock-short"
    lines: list[LineCount]
    answer_by: datetime


class ShortfallAccepted(Event):
    type: Literal["shortfall-accepted"] = "shortfall-accepted"
    lines: list[LineCount]


class HeldStockLost(ClientIdentified):
    type: Literal["held-stock-lost"] = "held-stock-lost"
    loss_id: str
    line_id: str
    location: str
    quantity: int


class StockReleaseRequested(Event):
    type: Literal["stock-release-requested"] = "stock-release-requested"
    step_id: str
    held: list[Held]


class StockReleased(Event):
    type: Literal["stock-released"] = "stock-released"
    step_id: str


class StockWithdrawalRequested(Event):
    type: Literal["stock-withdrawal-requested"] = "stock-withdrawal-requested"
    step_id: str
    held: list[Held]


class StockWithdrawn(Event):
    type: Literal["stock-withdrawn"] = "stock-withdrawn"
    step_id: str


class RestockRequested(Event):
    type: Literal["restock-requested"] = "restock-requested"
    step_id: str
    held: list[Held]


class Restocked(Event):
    type: Literal["restocked"] = "restocked"
    step_id: str


# Money. What is requested is claimed: nothing else can take the same money any more.


class AuthorisationRequested(Event):
    type: Literal["authorisation-requested"] = "authorisation-requested"
    step_id: str
    amount: int
    method: str | None = None


class PaymentAuthorised(Event):
    type: Literal["payment-authorised"] = "payment-authorised"
    step_id: str
    amount: int
    reference: str
    capture_by: datetime


class PaymentDeclined(Event):
    type: Literal["payment-declined"] = "payment-declined"
    step_id: str
    reason: str
    answer_by: datetime


class PaymentRetried(Event):
    type: Literal["payment-retried"] = "payment-retried"
    method: str | None = None


class AdvanceCaptureRequested(ClientIdentified):
    type: Literal["advance-capture-requested"] = "advance-capture-requested"
    capture_id: str
    amount: int


class CaptureRequested(Event):
    type: Literal["capture-requested"] = "capture-requested"
    step_id: str
    authorisation_id: str
    amount: int


class PaymentCaptured(Event):
    type: Literal["payment-captured"] = "payment-captured"
    step_id: str
    amount: int


class CaptureRefused(Event):
    type: Literal["capture-refused"] = "capture-refused"
    step_id: str
    reason: str
    answer_by: datetime


class VoidRequested(Event):
    type: Literal["void-requested"] = "void-requested"
    step_id: str
    authorisation_id: str


class PaymentVoided(Event):
    type: Literal["payment-voided"] = "payment-voided"
    step_id: str


class RefundGranted(ClientIdentified):
    type: Literal["refund-granted"] = "refund-granted"
    refund_id: str
    amount: int
    reason: str | None = None


class RefundRequested(Event):
    type: Literal["refund-requested"] = "refund-requested"
    step_id: str
    authorisation_id: str
    amount: int


class PaymentRefunded(Event):
    type: Literal["payment-refunded"] = "payment-refunded"
    step_id: str
    amount: int


# Shipments


class ShipmentCreated(ClientIdentified):
    type: Literal["shipment-created"] = "shipment-created"
    shipment_id: str
    location: str
    lines: list[LineCount]


class ShipmentChanged(Event):
    type: Literal["shipment-changed"] = "shipment-changed"
    shipment_id: str
    lines: list[LineCount]


class ShipmentBookingRequested(Event):
    type: Literal["shipment-booking-requested"] = "shipment-booking-requested"
    shipment_id: str
    step_id: str


class ShipmentBooked(Event):
    type: Literal["shipment-booked"] = "shipment-booked"
    shipment_id: str
    step_id: str
    tracking: str | None = None


class ShipmentStopRequested(Event):
    type: Literal["shipment-stop-requested"] = "shipment-stop-requested"
    shipment_id: str
    step_id: str


class ShipmentStopped(Event):
    type: Literal["shipment-stopped"] = "shipment-stopped"
    shipment_id: str


class ShipmentDispatched(Event):
    type: Literal["shipment-dispatched"] = "shipment-dispatched"
    shipment_id: str
    lines: list[LineCount]
    tracking: str | None = None


class ShipmentDelivered(Event):
    type: Literal["shipment-delivered"] = "shipment-delivered"
    shipment_id: str
    return_by: datetime


class DeliveryFailed(Event):
    type: Literal["delivery-failed"] = "delivery-failed"
    shipment_id: str
    goods: str
    reason: str | None = None


# Returns


class ReturnRequested(ClientIdentified):
    type: Literal["return-requested"] = "return-requested"
    return_id: str
    lines: list[LineCount]
    reason: str | None = None


class ReturnApproved(Event):
    type: Literal["return-approved"] = "return-approved"
    return_id: str


class ReturnRejected(Event):
    type: Literal["return-rejected"] = "return-rejected"
    return_id: str
    reason: str | None = None


class ReturnReceived(ClientIdentified):
    type: Literal["return-received"] = "return-received"
    receipt_id: str
    return_id: str
    lines: list[LineCount]
    condition: str


class ReturnWindowClosed(Event):
    type: Literal["return-window-closed"] = "return-window-closed"


# Steps that do not get on


class StepStuck(Event):
    type: Literal["step-stuck"] = "step-stuck"
    step_id: str
    reason: str


class StepRetried(Event):
    type: Literal["step-retried"] = "step-retried"
    step_id: str


OrderEvent = (
    OrderOpened
    | ItemAdded
    | ItemQuantityChanged
    | ItemRemoved
    | DiscountApplied
    | DiscountRemoved
    | NoteAdded
    | ShippingChargeSet
    | ShippingAddressSet
    | BillingAddressSet
    | OrderExpired
    | OrderPlaced
    | OrderConfirmed
    | OrderHeld
    | OrderReleased
    | OrderCompleted
    | OrderCancellationRequested
    | OrderCancelled
    | OrderCancellationOvertaken
    | AnswerNotNeeded
    | LinesCancelled
    | LinesCancellationOvertaken
    | OrderAmended
    | StockRequested
    | StockReserved
    | StockShort
    | ShortfallAccepted
    | HeldStockLost
    | StockReleaseRequested
    | StockReleased
    | StockWithdrawalRequested
    | StockWithdrawn
    | RestockRequested
    | Restocked
    | AuthorisationRequested
    | PaymentAuthorised
    | PaymentDeclined
    | PaymentRetried
    | AdvanceCaptureRequested
    | CaptureRequested
    | PaymentCaptured
    | CaptureRefused
    | VoidRequested
    | PaymentVoided
    | RefundGranted
    | RefundRequested
    | PaymentRefunded
    | ShipmentCreated
    | ShipmentChanged
    | ShipmentBookingRequested
    | ShipmentBooked
    | ShipmentStopRequested
    | ShipmentStopped
    | ShipmentDispatched
    | ShipmentDelivered
    | DeliveryFailed
    | ReturnRequested
    | ReturnApproved
    | ReturnRejected
    | ReturnReceived
    | ReturnWindowClosed
    | StepStuck
    | StepRetried
)
EVENT_TYPES: tuple[type[OrderEvent], ...] = get_args(OrderEvent)
BY_TAG: Mapping[str, type[OrderEvent]] = {t.model_fields["type"].default: t for t in EVENT_TYPES}

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
# By tag and schema version, what turns stored data of that version into data of the next one.
UPCASTERS: dict[tuple[str, int], Upcaster] = {}


def stored(event: OrderEvent) -> dict[str, Any]:
    """The event's data as the log keeps it: without nulls, and its tag in a column of its own."""
    return event.model_dump(mode="json", exclude={"type"}, exclude_none=True)


def upcast(type: str, schema_version: int, data: dict[str, Any]) -> dict[str, Any]:
    """Stored data of any age in today's shape; raises UnreadableEvent if it is from the future."""
    if type not in BY_TAG:
        raise UnreadableEvent(f"{type} is not an event that is known")
    known = BY_TAG[type].schema_version
    if schema_version > known:
        raise UnreadableEvent(f"{type} has schema version {schema_version}, known is {known}")
    for version in range(schema_version, known):
        data = UPCASTERS[type, version](data)
    return data


def restored(type: str, schema_version: int, data: dict[str, Any]) -> OrderEvent:
    """The event that `stored` wrote; raises UnreadableEvent for one this version cannot know."""
    data = upcast(type, schema_version, data)
    try:
        return BY_TAG[type].model_validate(data)
    except ValidationError as error:
        # Without the data itself: the message goes where personal data must not go.
        reasons = [f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors()]
        raise UnreadableEvent(f"{type}: {'; '.join(reasons)}") from None
