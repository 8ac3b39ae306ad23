"""Everything that can happen to an order.

Types and field names are a storage format: rename or remove none. A field added later is
`X | None = None`; nulls are not stored, so that old events and their digests stay the same.
Any other change gives the event the next `schema_version` and an upcaster from the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Literal

from orders.models import StoredModel
from orders.policy import Policy
from orders.steps import Held


class OrderEvent(StoredModel):
    """A fact, never changed."""

    schema_version: ClassVar[int] = 1
    """Of the stored shape; older ones are read through `orders.upcasting.UPCASTERS`."""

    type: str


class ClientIdentified(OrderEvent):
    """Caused at most once per client id; the fingerprint tells a repetition from a conflict."""

    client_id_field: ClassVar[str]

    fingerprint: str

    @property
    def client_key(self) -> str:
        return client_key(self.client_id_field, getattr(self, self.client_id_field))


def client_key(field: str, client_id: str) -> str:
    """The key of a client id in `Order.client_ids`, such as "refund:sorry"."""
    return f"{field.removesuffix('_id')}:{client_id}"


class LineCount(StoredModel):
    """A number of pieces of one line."""

    line_id: str
    quantity: int


def line_counts(pieces: Mapping[str, int]) -> list[LineCount]:
    return [LineCount(line_id=key, quantity=n) for key, n in pieces.items() if n]


# The draft


class OrderOpened(OrderEvent):
    type: Literal["order-opened"] = "order-opened"
    customer_id: str
    currency: str
    external_reference: str | None = None
    policy: Policy | None = None
    expires_at: datetime | None = None


class ItemAdded(OrderEvent):
    type: Literal["item-added"] = "item-added"
    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int


class ItemQuantityChanged(OrderEvent):
    type: Literal["item-quantity-changed"] = "item-quantity-changed"
    line_id: str
    quantity: int
    discount: int | None = None
    """Of the whole line; null where it stays."""
    tax: int | None = None


class ItemRemoved(OrderEvent):
    type: Literal["item-removed"] = "item-removed"
    line_id: str


class DiscountApplied(OrderEvent):
    type: Literal["discount-applied"] = "discount-applied"
    discount_id: str
    amount: int
    reason: str | None = None


class DiscountRemoved(OrderEvent):
    type: Literal["discount-removed"] = "discount-removed"
    discount_id: str


class NoteAdded(OrderEvent):
    type: Literal["note-added"] = "note-added"
    note_id: str
    text: str


class ShippingChargeSet(OrderEvent):
    type: Literal["shipping-charge-set"] = "shipping-charge-set"
    amount: int


class ShippingAddressSet(OrderEvent):
    type: Literal["shipping-address-set"] = "shipping-address-set"
    address: str


class BillingAddressSet(OrderEvent):
    type: Literal["billing-address-set"] = "billing-address-set"
    address: str


class OrderExpired(OrderEvent):
    type: Literal["order-expired"] = "order-expired"


# The lifecycle


class OrderPlaced(OrderEvent):
    type: Literal["order-placed"] = "order-placed"
    total: int
    payment_method: str | None = None


class OrderConfirmed(OrderEvent):
    type: Literal["order-confirmed"] = "order-confirmed"


class OrderHeld(OrderEvent):
    type: Literal["order-held"] = "order-held"
    reason: str | None = None


class OrderReleased(OrderEvent):
    type: Literal["order-released"] = "order-released"


class OrderCompleted(OrderEvent):
    type: Literal["order-completed"] = "order-completed"


class OrderCancellationRequested(OrderEvent):
    type: Literal["order-cancellation-requested"] = "order-cancellation-requested"
    reason: str | None = None


class OrderCancelled(OrderEvent):
    type: Literal["order-cancelled"] = "order-cancelled"
    reason: str | None = None


class OrderCancellationOvertaken(OrderEvent):
    """A shipment left before it could be stopped: only `lines` could still be cancelled."""

    type: Literal["order-cancellation-overtaken"] = "order-cancellation-overtaken"
    lines: list[LineCount]


class AnswerNotNeeded(OrderEvent):
    """The decision that was awaited from the customer has become unnecessary."""

    type: Literal["answer-not-needed"] = "answer-not-needed"


class LinesCancelled(ClientIdentified):
    client_id_field = "cancellation_id"

    type: Literal["lines-cancelled"] = "lines-cancelled"
    cancellation_id: str
    lines: list[LineCount]
    reason: str | None = None


class LinesCancellationOvertaken(OrderEvent):
    """These pieces left before they could be taken out of their shipment."""

    type: Literal["lines-cancellation-overtaken"] = "lines-cancellation-overtaken"
    lines: list[LineCount]


class AmendedLine(StoredModel):
    """The terms of a line from now on; `cancelled` is the number of its cancelled pieces."""

    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int
    cancelled: int


class AmendmentReverted(OrderEvent):
    type: Literal["amendment-reverted"] = "amendment-reverted"
    lines: list[AmendedLine]
    shipping_charge: int
    reason: str


class OrderAmended(ClientIdentified):
    client_id_field = "amendment_id"

    type: Literal["order-amended"] = "order-amended"
    amendment_id: str
    lines: list[AmendedLine]
    shipping_charge: int


# Stock


class StockRequested(OrderEvent):
    type: Literal["stock-requested"] = "stock-requested"
    step_id: str
    lines: list[LineCount]


class StockReserved(OrderEvent):
    type: Literal["stock-reserved"] = "stock-reserved"
    step_id: str
    held: list[Held]


class StockShort(OrderEvent):
    type: Literal["stock-short"] = "stock-short"
    lines: list[LineCount]
    answer_by: datetime


class ShortfallAccepted(OrderEvent):
    type: Literal["shortfall-accepted"] = "shortfall-accepted"
    lines: list[LineCount]


class HeldStockLost(ClientIdentified):
    client_id_field = "loss_id"

    type: Literal["held-stock-lost"] = "held-stock-lost"
    loss_id: str
    line_id: str
    location: str
    quantity: int


class StockReleaseRequested(OrderEvent):
    type: Literal["stock-release-requested"] = "stock-release-requested"
    step_id: str
    held: list[Held]


class StockReleased(OrderEvent):
    type: Literal["stock-released"] = "stock-released"
    step_id: str


class StockWithdrawalRequested(OrderEvent):
    type: Literal["stock-withdrawal-requested"] = "stock-withdrawal-requested"
    step_id: str
    held: list[Held]


class StockWithdrawn(OrderEvent):
    type: Literal["stock-withdrawn"] = "stock-withdrawn"
    step_id: str


class RestockRequested(OrderEvent):
    type: Literal["restock-requested"] = "restock-requested"
    step_id: str
    held: list[Held]


class Restocked(OrderEvent):
    type: Literal["restocked"] = "restocked"
    step_id: str


# Money. A request claims its amount: no other request can use it.


class AuthorisationRequested(OrderEvent):
    type: Literal["authorisation-requested"] = "authorisation-requested"
    step_id: str
    amount: int
    method: str | None = None


class PaymentAuthorised(OrderEvent):
    type: Literal["payment-authorised"] = "payment-authorised"
    step_id: str
    amount: int
    reference: str
    capture_by: datetime


class PaymentDeclined(OrderEvent):
    type: Literal["payment-declined"] = "payment-declined"
    step_id: str
    reason: str
    answer_by: datetime


class PaymentRetried(OrderEvent):
    type: Literal["payment-retried"] = "payment-retried"
    method: str | None = None


class AdvanceCaptureRequested(ClientIdentified):
    client_id_field = "capture_id"

    type: Literal["advance-capture-requested"] = "advance-capture-requested"
    capture_id: str
    amount: int


class CaptureRequested(OrderEvent):
    type: Literal["capture-requested"] = "capture-requested"
    step_id: str
    authorisation_id: str
    amount: int


class PaymentCaptured(OrderEvent):
    type: Literal["payment-captured"] = "payment-captured"
    step_id: str
    amount: int


class CaptureRefused(OrderEvent):
    type: Literal["capture-refused"] = "capture-refused"
    step_id: str
    reason: str
    answer_by: datetime


class VoidRequested(OrderEvent):
    type: Literal["void-requested"] = "void-requested"
    step_id: str
    authorisation_id: str


class PaymentVoided(OrderEvent):
    type: Literal["payment-voided"] = "payment-voided"
    step_id: str


class RefundGranted(ClientIdentified):
    client_id_field = "refund_id"

    type: Literal["refund-granted"] = "refund-granted"
    refund_id: str
    amount: int
    reason: str | None = None


class RefundRequested(OrderEvent):
    type: Literal["refund-requested"] = "refund-requested"
    step_id: str
    authorisation_id: str
    amount: int


class PaymentRefunded(OrderEvent):
    type: Literal["payment-refunded"] = "payment-refunded"
    step_id: str
    amount: int


class CaptureReversed(OrderEvent):
    type: Literal["capture-reversed"] = "capture-reversed"
    step_id: str
    authorisation_id: str
    amount: int
    reason: str
    answer_by: datetime


class RefundReversed(OrderEvent):
    type: Literal["refund-reversed"] = "refund-reversed"
    step_id: str
    authorisation_id: str
    amount: int
    reason: str


class RefundRecorded(ClientIdentified):
    client_id_field = "external_refund_id"

    type: Literal["refund-recorded"] = "refund-recorded"
    external_refund_id: str
    authorisation_id: str
    amount: int


class AuthorisationReduced(OrderEvent):
    type: Literal["authorisation-reduced"] = "authorisation-reduced"
    authorisation_id: str
    amount: int
    reason: str


class ChargebackOpened(ClientIdentified):
    client_id_field = "chargeback_id"

    type: Literal["chargeback-opened"] = "chargeback-opened"
    chargeback_id: str
    authorisation_id: str
    amount: int
    reason: str


class ChargebackClosed(OrderEvent):
    type: Literal["chargeback-closed"] = "chargeback-closed"
    chargeback_id: str
    outcome: Literal["won", "lost"]


# Shipments


class ShipmentCreated(ClientIdentified):
    client_id_field = "shipment_id"

    type: Literal["shipment-created"] = "shipment-created"
    shipment_id: str
    location: str
    lines: list[LineCount]


class ShipmentChanged(OrderEvent):
    type: Literal["shipment-changed"] = "shipment-changed"
    shipment_id: str
    lines: list[LineCount]


class ShipmentBookingRequested(OrderEvent):
    type: Literal["shipment-booking-requested"] = "shipment-booking-requested"
    shipment_id: str
    step_id: str


class ShipmentBooked(OrderEvent):
    type: Literal["shipment-booked"] = "shipment-booked"
    shipment_id: str
    step_id: str
    tracking: str | None = None


class ShipmentStopRequested(OrderEvent):
    type: Literal["shipment-stop-requested"] = "shipment-stop-requested"
    shipment_id: str
    step_id: str


class ShipmentStopped(OrderEvent):
    type: Literal["shipment-stopped"] = "shipment-stopped"
    shipment_id: str


class ShipmentDispatched(OrderEvent):
    type: Literal["shipment-dispatched"] = "shipment-dispatched"
    shipment_id: str
    lines: list[LineCount]
    tracking: str | None = None


class ShipmentDelivered(OrderEvent):
    type: Literal["shipment-delivered"] = "shipment-delivered"
    shipment_id: str
    return_by: datetime


class DeliveryFailed(OrderEvent):
    type: Literal["delivery-failed"] = "delivery-failed"
    shipment_id: str
    goods: str
    reason: str | None = None


class TrackingChanged(OrderEvent):
    type: Literal["tracking-changed"] = "tracking-changed"
    shipment_id: str
    tracking: str


class DeliveryRevoked(OrderEvent):
    type: Literal["delivery-revoked"] = "delivery-revoked"
    shipment_id: str
    reason: str | None = None


# Returns


class ReturnRequested(ClientIdentified):
    client_id_field = "return_id"

    type: Literal["return-requested"] = "return-requested"
    return_id: str
    lines: list[LineCount]
    reason: str | None = None


class ReturnApproved(OrderEvent):
    type: Literal["return-approved"] = "return-approved"
    return_id: str


class ReturnRejected(OrderEvent):
    type: Literal["return-rejected"] = "return-rejected"
    return_id: str
    reason: str | None = None


class ReturnReceived(ClientIdentified):
    client_id_field = "receipt_id"

    type: Literal["return-received"] = "return-received"
    receipt_id: str
    return_id: str
    lines: list[LineCount]
    condition: str


class ReturnWindowClosed(OrderEvent):
    type: Literal["return-window-closed"] = "return-window-closed"


# What needs a person


class StepStuck(OrderEvent):
    type: Literal["step-stuck"] = "step-stuck"
    step_id: str
    reason: str


class StepRetried(OrderEvent):
    type: Literal["step-retried"] = "step-retried"
    step_id: str


class StepSettled(ClientIdentified):
    client_id_field = "step_id"

    type: Literal["step-settled"] = "step-settled"
    step_id: str
    outcome: Literal["done", "failed"]
    reason: str


class DiscrepancyRecorded(ClientIdentified):
    client_id_field = "discrepancy_id"

    type: Literal["discrepancy-recorded"] = "discrepancy-recorded"
    discrepancy_id: str
    kind: str
    service: str
    summary: str
    amount: int | None = None
    authorisation_id: str | None = None


class DiscrepancyResolved(OrderEvent):
    type: Literal["discrepancy-resolved"] = "discrepancy-resolved"
    discrepancy_id: str
    reason: str
    retry: bool | None = None
    """For a failed refund: it is requested again; else it was paid by other means."""
    amount: int | None = None
    """For a failed refund: what of it counts as refunded by this, or is requested again, if not
    all of it."""


EVENT_TYPES: tuple[type[OrderEvent], ...] = tuple(
    event_type
    for base in (OrderEvent, ClientIdentified)
    for event_type in base.__subclasses__()
    if event_type is not ClientIdentified
)
BY_TAG: Mapping[str, type[OrderEvent]] = {t.model_fields["type"].default: t for t in EVENT_TYPES}
