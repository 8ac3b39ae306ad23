"""The types of events, generated from their schemas by `make schemas`: do not edit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from orderly_consumer.cloud_event import CloudEvent, Data, OrderEvent, UnknownEvent


class Address(Data):
    """A shipping or billing address. All of it is personal data, and stored sealed.

    Postal code, city and region are required where the country has them.
    """

    country: str
    """ISO 3166, two capitals"""
    name: str
    """of the person who receives it"""
    line1: str
    """street and number, or what stands for them"""
    line2: str | None = None
    """flat, floor, building"""
    region: str | None = None
    """state, province, prefecture, emirate"""
    city: str | None = None
    """or the region, in a country without cities"""
    postal_code: str | None = None
    """required in countries that have one"""
    email: str | None = None
    phone: str | None = None
    company: str | None = None


class AmendedLine(Data):
    """The terms of a line from now on; `cancelled` is the number of its cancelled pieces."""

    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int
    cancelled: int


class ErasedAddress(Data):
    """An address of a customer whose personal data was erased."""

    erased: Literal[True]


class Held(Data):
    """A quantity of a line at one stock location."""

    line_id: str
    sku: str
    location: str
    quantity: int


class LineCount(Data):
    """A number of pieces of one line."""

    line_id: str
    quantity: int


class Policy(Data):
    """How long an order waits, in seconds from the event that starts each deadline."""

    draft: int | None = None
    payment_retry: int | None = None
    shortfall_answer: int | None = None
    capture: int | None = None
    return_window: int | None = None


class UnreadableAddress(Data):
    """An address whose key is missing, as after a restore, or that was changed."""

    unreadable: Literal[True]


class AdvanceCaptureRequestedData(Data):
    capture_id: str
    amount: int


class AdvanceCaptureRequested(OrderEvent):
    type: Literal["orderly.order.advance-capture-requested.v1"]
    data: AdvanceCaptureRequestedData


class AmendmentRevertedData(Data):
    lines: list[AmendedLine]
    shipping_charge: int
    reason: str


class AmendmentReverted(OrderEvent):
    type: Literal["orderly.order.amendment-reverted.v1"]
    data: AmendmentRevertedData


class AnswerNotNeededData(Data):
    """The decision that was awaited from the customer has become unnecessary."""


class AnswerNotNeeded(OrderEvent):
    type: Literal["orderly.order.answer-not-needed.v1"]
    data: AnswerNotNeededData


class AuthorisationReducedData(Data):
    authorisation_id: str
    amount: int
    reason: str


class AuthorisationReduced(OrderEvent):
    type: Literal["orderly.order.authorisation-reduced.v1"]
    data: AuthorisationReducedData


class AuthorisationRequestedData(Data):
    step_id: str
    amount: int
    method: str | None = None


class AuthorisationRequested(OrderEvent):
    type: Literal["orderly.order.authorisation-requested.v1"]
    data: AuthorisationRequestedData


class BillingAddressSetData(Data):
    address: Address | ErasedAddress | UnreadableAddress


class BillingAddressSet(OrderEvent):
    type: Literal["orderly.order.billing-address-set.v1"]
    data: BillingAddressSetData


class CaptureRefusedData(Data):
    step_id: str
    reason: str
    answer_by: datetime


class CaptureRefused(OrderEvent):
    type: Literal["orderly.order.capture-refused.v1"]
    data: CaptureRefusedData


class CaptureRequestedData(Data):
    step_id: str
    authorisation_id: str
    amount: int


class CaptureRequested(OrderEvent):
    type: Literal["orderly.order.capture-requested.v1"]
    data: CaptureRequestedData


class CaptureReversedData(Data):
    step_id: str
    authorisation_id: str
    amount: int
    reason: str
    answer_by: datetime


class CaptureReversed(OrderEvent):
    type: Literal["orderly.order.capture-reversed.v1"]
    data: CaptureReversedData


class ChargebackClosedData(Data):
    chargeback_id: str
    outcome: Literal["won", "lost"] | str


class ChargebackClosed(OrderEvent):
    type: Literal["orderly.order.chargeback-closed.v1"]
    data: ChargebackClosedData


class ChargebackOpenedData(Data):
    chargeback_id: str
    authorisation_id: str
    amount: int
    reason: str


class ChargebackOpened(OrderEvent):
    type: Literal["orderly.order.chargeback-opened.v1"]
    data: ChargebackOpenedData


class DeliveryFailedData(Data):
    shipment_id: str
    goods: str
    reason: str | None = None


class DeliveryFailed(OrderEvent):
    type: Literal["orderly.order.delivery-failed.v1"]
    data: DeliveryFailedData


class DeliveryRevokedData(Data):
    shipment_id: str
    reason: str | None = None


class DeliveryRevoked(OrderEvent):
    type: Literal["orderly.order.delivery-revoked.v1"]
    data: DeliveryRevokedData


class DiscountAppliedData(Data):
    discount_id: str
    amount: int
    reason: str | None = None


class DiscountApplied(OrderEvent):
    type: Literal["orderly.order.discount-applied.v1"]
    data: DiscountAppliedData


class DiscountRemovedData(Data):
    discount_id: str


class DiscountRemoved(OrderEvent):
    type: Literal["orderly.order.discount-removed.v1"]
    data: DiscountRemovedData


class DiscrepancyRecordedData(Data):
    discrepancy_id: str
    kind: str
    service: str
    summary: str
    amount: int | None = None
    authorisation_id: str | None = None


class DiscrepancyRecorded(OrderEvent):
    type: Literal["orderly.order.discrepancy-recorded.v1"]
    data: DiscrepancyRecordedData


class DiscrepancyResolvedData(Data):
    discrepancy_id: str
    reason: str
    retry: bool | None = None
    amount: int | None = None


class DiscrepancyResolved(OrderEvent):
    type: Literal["orderly.order.discrepancy-resolved.v1"]
    data: DiscrepancyResolvedData


class HeldStockLostData(Data):
    loss_id: str
    line_id: str
    location: str
    quantity: int


class HeldStockLost(OrderEvent):
    type: Literal["orderly.order.held-stock-lost.v1"]
    data: HeldStockLostData


class ItemAddedData(Data):
    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int


class ItemAdded(OrderEvent):
    type: Literal["orderly.order.item-added.v1"]
    data: ItemAddedData


class ItemQuantityChangedData(Data):
    line_id: str
    quantity: int
    discount: int | None = None
    tax: int | None = None


class ItemQuantityChanged(OrderEvent):
    type: Literal["orderly.order.item-quantity-changed.v1"]
    data: ItemQuantityChangedData


class ItemRemovedData(Data):
    line_id: str


class ItemRemoved(OrderEvent):
    type: Literal["orderly.order.item-removed.v1"]
    data: ItemRemovedData


class LinesCancellationOvertakenData(Data):
    """These pieces left before they could be taken out of their shipment."""

    lines: list[LineCount]


class LinesCancellationOvertaken(OrderEvent):
    type: Literal["orderly.order.lines-cancellation-overtaken.v1"]
    data: LinesCancellationOvertakenData


class LinesCancelledData(Data):
    cancellation_id: str
    lines: list[LineCount]
    reason: str | None = None


class LinesCancelled(OrderEvent):
    type: Literal["orderly.order.lines-cancelled.v1"]
    data: LinesCancelledData


class NoteAddedData(Data):
    note_id: str
    text: str


class NoteAdded(OrderEvent):
    type: Literal["orderly.order.note-added.v1"]
    data: NoteAddedData


class OrderAmendedData(Data):
    amendment_id: str
    lines: list[AmendedLine]
    shipping_charge: int


class OrderAmended(OrderEvent):
    type: Literal["orderly.order.order-amended.v1"]
    data: OrderAmendedData


class OrderCancellationOvertakenData(Data):
    """A shipment left before it could be stopped: only `lines` could still be cancelled."""

    lines: list[LineCount]


class OrderCancellationOvertaken(OrderEvent):
    type: Literal["orderly.order.order-cancellation-overtaken.v1"]
    data: OrderCancellationOvertakenData


class OrderCancellationRequestedData(Data):
    reason: str | None = None


class OrderCancellationRequested(OrderEvent):
    type: Literal["orderly.order.order-cancellation-requested.v1"]
    data: OrderCancellationRequestedData


class OrderCancelledData(Data):
    reason: str | None = None


class OrderCancelled(OrderEvent):
    type: Literal["orderly.order.order-cancelled.v1"]
    data: OrderCancelledData


class OrderCompletedData(Data):
    pass


class OrderCompleted(OrderEvent):
    type: Literal["orderly.order.order-completed.v1"]
    data: OrderCompletedData


class OrderConfirmedData(Data):
    pass


class OrderConfirmed(OrderEvent):
    type: Literal["orderly.order.order-confirmed.v1"]
    data: OrderConfirmedData


class OrderExpiredData(Data):
    pass


class OrderExpired(OrderEvent):
    type: Literal["orderly.order.order-expired.v1"]
    data: OrderExpiredData


class OrderHeldData(Data):
    reason: str | None = None


class OrderHeld(OrderEvent):
    type: Literal["orderly.order.order-held.v1"]
    data: OrderHeldData


class OrderOpenedData(Data):
    customer_id: str
    currency: str
    external_reference: str | None = None
    policy: Policy | None = None
    expires_at: datetime | None = None


class OrderOpened(OrderEvent):
    type: Literal["orderly.order.order-opened.v1"]
    data: OrderOpenedData


class OrderPlacedData(Data):
    total: int
    payment_method: str | None = None


class OrderPlaced(OrderEvent):
    type: Literal["orderly.order.order-placed.v1"]
    data: OrderPlacedData


class OrderReleasedData(Data):
    pass


class OrderReleased(OrderEvent):
    type: Literal["orderly.order.order-released.v1"]
    data: OrderReleasedData


class PaymentAuthorisedData(Data):
    step_id: str
    amount: int
    reference: str
    capture_by: datetime


class PaymentAuthorised(OrderEvent):
    type: Literal["orderly.order.payment-authorised.v1"]
    data: PaymentAuthorisedData


class PaymentCapturedData(Data):
    step_id: str
    amount: int


class PaymentCaptured(OrderEvent):
    type: Literal["orderly.order.payment-captured.v1"]
    data: PaymentCapturedData


class PaymentDeclinedData(Data):
    step_id: str
    reason: str
    answer_by: datetime


class PaymentDeclined(OrderEvent):
    type: Literal["orderly.order.payment-declined.v1"]
    data: PaymentDeclinedData


class PaymentRefundedData(Data):
    step_id: str
    amount: int


class PaymentRefunded(OrderEvent):
    type: Literal["orderly.order.payment-refunded.v1"]
    data: PaymentRefundedData


class PaymentRetriedData(Data):
    method: str | None = None


class PaymentRetried(OrderEvent):
    type: Literal["orderly.order.payment-retried.v1"]
    data: PaymentRetriedData


class PaymentVoidedData(Data):
    step_id: str


class PaymentVoided(OrderEvent):
    type: Literal["orderly.order.payment-voided.v1"]
    data: PaymentVoidedData


class RefundGrantedData(Data):
    refund_id: str
    amount: int
    reason: str | None = None


class RefundGranted(OrderEvent):
    type: Literal["orderly.order.refund-granted.v1"]
    data: RefundGrantedData


class RefundRecordedData(Data):
    external_refund_id: str
    authorisation_id: str
    amount: int


class RefundRecorded(OrderEvent):
    type: Literal["orderly.order.refund-recorded.v1"]
    data: RefundRecordedData


class RefundRequestedData(Data):
    step_id: str
    authorisation_id: str
    amount: int


class RefundRequested(OrderEvent):
    type: Literal["orderly.order.refund-requested.v1"]
    data: RefundRequestedData


class RefundReversedData(Data):
    step_id: str
    authorisation_id: str
    amount: int
    reason: str


class RefundReversed(OrderEvent):
    type: Literal["orderly.order.refund-reversed.v1"]
    data: RefundReversedData


class RestockRequestedData(Data):
    step_id: str
    held: list[Held]


class RestockRequested(OrderEvent):
    type: Literal["orderly.order.restock-requested.v1"]
    data: RestockRequestedData


class RestockedData(Data):
    step_id: str


class Restocked(OrderEvent):
    type: Literal["orderly.order.restocked.v1"]
    data: RestockedData


class ReturnApprovedData(Data):
    return_id: str


class ReturnApproved(OrderEvent):
    type: Literal["orderly.order.return-approved.v1"]
    data: ReturnApprovedData


class ReturnReceivedData(Data):
    receipt_id: str
    return_id: str
    lines: list[LineCount]
    condition: str


class ReturnReceived(OrderEvent):
    type: Literal["orderly.order.return-received.v1"]
    data: ReturnReceivedData


class ReturnRejectedData(Data):
    return_id: str
    reason: str | None = None


class ReturnRejected(OrderEvent):
    type: Literal["orderly.order.return-rejected.v1"]
    data: ReturnRejectedData


class ReturnRequestedData(Data):
    return_id: str
    lines: list[LineCount]
    reason: str | None = None


class ReturnRequested(OrderEvent):
    type: Literal["orderly.order.return-requested.v1"]
    data: ReturnRequestedData


class ReturnWindowClosedData(Data):
    pass


class ReturnWindowClosed(OrderEvent):
    type: Literal["orderly.order.return-window-closed.v1"]
    data: ReturnWindowClosedData


class ShipmentBookedData(Data):
    shipment_id: str
    step_id: str
    tracking: str | None = None


class ShipmentBooked(OrderEvent):
    type: Literal["orderly.order.shipment-booked.v1"]
    data: ShipmentBookedData


class ShipmentBookingRequestedData(Data):
    shipment_id: str
    step_id: str


class ShipmentBookingRequested(OrderEvent):
    type: Literal["orderly.order.shipment-booking-requested.v1"]
    data: ShipmentBookingRequestedData


class ShipmentChangedData(Data):
    shipment_id: str
    lines: list[LineCount]


class ShipmentChanged(OrderEvent):
    type: Literal["orderly.order.shipment-changed.v1"]
    data: ShipmentChangedData


class ShipmentCreatedData(Data):
    shipment_id: str
    location: str
    lines: list[LineCount]


class ShipmentCreated(OrderEvent):
    type: Literal["orderly.order.shipment-created.v1"]
    data: ShipmentCreatedData


class ShipmentDeliveredData(Data):
    shipment_id: str
    return_by: datetime


class ShipmentDelivered(OrderEvent):
    type: Literal["orderly.order.shipment-delivered.v1"]
    data: ShipmentDeliveredData


class ShipmentDispatchedData(Data):
    shipment_id: str
    lines: list[LineCount]
    tracking: str | None = None


class ShipmentDispatched(OrderEvent):
    type: Literal["orderly.order.shipment-dispatched.v1"]
    data: ShipmentDispatchedData


class ShipmentStopRequestedData(Data):
    shipment_id: str
    step_id: str


class ShipmentStopRequested(OrderEvent):
    type: Literal["orderly.order.shipment-stop-requested.v1"]
    data: ShipmentStopRequestedData


class ShipmentStoppedData(Data):
    shipment_id: str


class ShipmentStopped(OrderEvent):
    type: Literal["orderly.order.shipment-stopped.v1"]
    data: ShipmentStoppedData


class ShippingAddressSetData(Data):
    address: Address | ErasedAddress | UnreadableAddress


class ShippingAddressSet(OrderEvent):
    type: Literal["orderly.order.shipping-address-set.v1"]
    data: ShippingAddressSetData


class ShippingChargeSetData(Data):
    amount: int


class ShippingChargeSet(OrderEvent):
    type: Literal["orderly.order.shipping-charge-set.v1"]
    data: ShippingChargeSetData


class ShortfallAcceptedData(Data):
    lines: list[LineCount]


class ShortfallAccepted(OrderEvent):
    type: Literal["orderly.order.shortfall-accepted.v1"]
    data: ShortfallAcceptedData


class StepRetriedData(Data):
    step_id: str


class StepRetried(OrderEvent):
    type: Literal["orderly.order.step-retried.v1"]
    data: StepRetriedData


class StepSettledData(Data):
    step_id: str
    outcome: Literal["done", "failed"] | str
    reason: str


class StepSettled(OrderEvent):
    type: Literal["orderly.order.step-settled.v1"]
    data: StepSettledData


class StepStuckData(Data):
    step_id: str
    reason: str


class StepStuck(OrderEvent):
    type: Literal["orderly.order.step-stuck.v1"]
    data: StepStuckData


class StockReleaseRequestedData(Data):
    step_id: str
    held: list[Held]


class StockReleaseRequested(OrderEvent):
    type: Literal["orderly.order.stock-release-requested.v1"]
    data: StockReleaseRequestedData


class StockReleasedData(Data):
    step_id: str


class StockReleased(OrderEvent):
    type: Literal["orderly.order.stock-released.v1"]
    data: StockReleasedData


class StockRequestedData(Data):
    step_id: str
    lines: list[LineCount]


class StockRequested(OrderEvent):
    type: Literal["orderly.order.stock-requested.v1"]
    data: StockRequestedData


class StockReservedData(Data):
    step_id: str
    held: list[Held]


class StockReserved(OrderEvent):
    type: Literal["orderly.order.stock-reserved.v1"]
    data: StockReservedData


class StockShortData(Data):
    lines: list[LineCount]
    answer_by: datetime


class StockShort(OrderEvent):
    type: Literal["orderly.order.stock-short.v1"]
    data: StockShortData


class StockWithdrawalRequestedData(Data):
    step_id: str
    held: list[Held]


class StockWithdrawalRequested(OrderEvent):
    type: Literal["orderly.order.stock-withdrawal-requested.v1"]
    data: StockWithdrawalRequestedData


class StockWithdrawnData(Data):
    step_id: str


class StockWithdrawn(OrderEvent):
    type: Literal["orderly.order.stock-withdrawn.v1"]
    data: StockWithdrawnData


class TrackingChangedData(Data):
    shipment_id: str
    tracking: str


class TrackingChanged(OrderEvent):
    type: Literal["orderly.order.tracking-changed.v1"]
    data: TrackingChangedData


class VoidRequestedData(Data):
    step_id: str
    authorisation_id: str


class VoidRequested(OrderEvent):
    type: Literal["orderly.order.void-requested.v1"]
    data: VoidRequestedData


KnownEvent = Annotated[
    AdvanceCaptureRequested
    | AmendmentReverted
    | AnswerNotNeeded
    | AuthorisationReduced
    | AuthorisationRequested
    | BillingAddressSet
    | CaptureRefused
    | CaptureRequested
    | CaptureReversed
    | ChargebackClosed
    | ChargebackOpened
    | DeliveryFailed
    | DeliveryRevoked
    | DiscountApplied
    | DiscountRemoved
    | DiscrepancyRecorded
    | DiscrepancyResolved
    | HeldStockLost
    | ItemAdded
    | ItemQuantityChanged
    | ItemRemoved
    | LinesCancellationOvertaken
    | LinesCancelled
    | NoteAdded
    | OrderAmended
    | OrderCancellationOvertaken
    | OrderCancellationRequested
    | OrderCancelled
    | OrderCompleted
    | OrderConfirmed
    | OrderExpired
    | OrderHeld
    | OrderOpened
    | OrderPlaced
    | OrderReleased
    | PaymentAuthorised
    | PaymentCaptured
    | PaymentDeclined
    | PaymentRefunded
    | PaymentRetried
    | PaymentVoided
    | RefundGranted
    | RefundRecorded
    | RefundRequested
    | RefundReversed
    | RestockRequested
    | Restocked
    | ReturnApproved
    | ReturnReceived
    | ReturnRejected
    | ReturnRequested
    | ReturnWindowClosed
    | ShipmentBooked
    | ShipmentBookingRequested
    | ShipmentChanged
    | ShipmentCreated
    | ShipmentDelivered
    | ShipmentDispatched
    | ShipmentStopRequested
    | ShipmentStopped
    | ShippingAddressSet
    | ShippingChargeSet
    | ShortfallAccepted
    | StepRetried
    | StepSettled
    | StepStuck
    | StockReleaseRequested
    | StockReleased
    | StockRequested
    | StockReserved
    | StockShort
    | StockWithdrawalRequested
    | StockWithdrawn
    | TrackingChanged
    | VoidRequested,
    Field(discriminator="type"),
]

Event = KnownEvent | UnknownEvent

TYPES: dict[str, type[CloudEvent]] = {
    "orderly.order.advance-capture-requested.v1": AdvanceCaptureRequested,
    "orderly.order.amendment-reverted.v1": AmendmentReverted,
    "orderly.order.answer-not-needed.v1": AnswerNotNeeded,
    "orderly.order.authorisation-reduced.v1": AuthorisationReduced,
    "orderly.order.authorisation-requested.v1": AuthorisationRequested,
    "orderly.order.billing-address-set.v1": BillingAddressSet,
    "orderly.order.capture-refused.v1": CaptureRefused,
    "orderly.order.capture-requested.v1": CaptureRequested,
    "orderly.order.capture-reversed.v1": CaptureReversed,
    "orderly.order.chargeback-closed.v1": ChargebackClosed,
    "orderly.order.chargeback-opened.v1": ChargebackOpened,
    "orderly.order.delivery-failed.v1": DeliveryFailed,
    "orderly.order.delivery-revoked.v1": DeliveryRevoked,
    "orderly.order.discount-applied.v1": DiscountApplied,
    "orderly.order.discount-removed.v1": DiscountRemoved,
    "orderly.order.discrepancy-recorded.v1": DiscrepancyRecorded,
    "orderly.order.discrepancy-resolved.v1": DiscrepancyResolved,
    "orderly.order.held-stock-lost.v1": HeldStockLost,
    "orderly.order.item-added.v1": ItemAdded,
    "orderly.order.item-quantity-changed.v1": ItemQuantityChanged,
    "orderly.order.item-removed.v1": ItemRemoved,
    "orderly.order.lines-cancellation-overtaken.v1": LinesCancellationOvertaken,
    "orderly.order.lines-cancelled.v1": LinesCancelled,
    "orderly.order.note-added.v1": NoteAdded,
    "orderly.order.order-amended.v1": OrderAmended,
    "orderly.order.order-cancellation-overtaken.v1": OrderCancellationOvertaken,
    "orderly.order.order-cancellation-requested.v1": OrderCancellationRequested,
    "orderly.order.order-cancelled.v1": OrderCancelled,
    "orderly.order.order-completed.v1": OrderCompleted,
    "orderly.order.order-confirmed.v1": OrderConfirmed,
    "orderly.order.order-expired.v1": OrderExpired,
    "orderly.order.order-held.v1": OrderHeld,
    "orderly.order.order-opened.v1": OrderOpened,
    "orderly.order.order-placed.v1": OrderPlaced,
    "orderly.order.order-released.v1": OrderReleased,
    "orderly.order.payment-authorised.v1": PaymentAuthorised,
    "orderly.order.payment-captured.v1": PaymentCaptured,
    "orderly.order.payment-declined.v1": PaymentDeclined,
    "orderly.order.payment-refunded.v1": PaymentRefunded,
    "orderly.order.payment-retried.v1": PaymentRetried,
    "orderly.order.payment-voided.v1": PaymentVoided,
    "orderly.order.refund-granted.v1": RefundGranted,
    "orderly.order.refund-recorded.v1": RefundRecorded,
    "orderly.order.refund-requested.v1": RefundRequested,
    "orderly.order.refund-reversed.v1": RefundReversed,
    "orderly.order.restock-requested.v1": RestockRequested,
    "orderly.order.restocked.v1": Restocked,
    "orderly.order.return-approved.v1": ReturnApproved,
    "orderly.order.return-received.v1": ReturnReceived,
    "orderly.order.return-rejected.v1": ReturnRejected,
    "orderly.order.return-requested.v1": ReturnRequested,
    "orderly.order.return-window-closed.v1": ReturnWindowClosed,
    "orderly.order.shipment-booked.v1": ShipmentBooked,
    "orderly.order.shipment-booking-requested.v1": ShipmentBookingRequested,
    "orderly.order.shipment-changed.v1": ShipmentChanged,
    "orderly.order.shipment-created.v1": ShipmentCreated,
    "orderly.order.shipment-delivered.v1": ShipmentDelivered,
    "orderly.order.shipment-dispatched.v1": ShipmentDispatched,
    "orderly.order.shipment-stop-requested.v1": ShipmentStopRequested,
    "orderly.order.shipment-stopped.v1": ShipmentStopped,
    "orderly.order.shipping-address-set.v1": ShippingAddressSet,
    "orderly.order.shipping-charge-set.v1": ShippingChargeSet,
    "orderly.order.shortfall-accepted.v1": ShortfallAccepted,
    "orderly.order.step-retried.v1": StepRetried,
    "orderly.order.step-settled.v1": StepSettled,
    "orderly.order.step-stuck.v1": StepStuck,
    "orderly.order.stock-release-requested.v1": StockReleaseRequested,
    "orderly.order.stock-released.v1": StockReleased,
    "orderly.order.stock-requested.v1": StockRequested,
    "orderly.order.stock-reserved.v1": StockReserved,
    "orderly.order.stock-short.v1": StockShort,
    "orderly.order.stock-withdrawal-requested.v1": StockWithdrawalRequested,
    "orderly.order.stock-withdrawn.v1": StockWithdrawn,
    "orderly.order.tracking-changed.v1": TrackingChanged,
    "orderly.order.void-requested.v1": VoidRequested,
}


_ADAPTER: TypeAdapter[KnownEvent] = TypeAdapter(KnownEvent)


def parse_event(document: dict[str, Any], cursor: str | None = None) -> Event:
    """The event in a CloudEvent; raises ValueError for anything else."""
    attributes = {**document, "cursor": cursor}
    if document.get("type") in TYPES:
        return _ADAPTER.validate_python(attributes)
    return UnknownEvent.model_validate(attributes)
