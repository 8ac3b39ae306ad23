"""Events in words: one sentence for each, as people at a terminal or a page read it.

Amounts are written with their currency, times in the zone of the reader. No sentence has an
address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from orders import events as e
from orders.events import LineCount, OrderEvent
from orders.upcasting import UnreadableEvent
from readside.order_view.words import Words, as_written, clause, first_of, joined, others_of


class StoredEvent(Protocol):
    """An event in any of the forms in which the log is read."""

    @property
    def type(self) -> str: ...
    def event(self) -> OrderEvent: ...


def sentences(stream: Iterable[StoredEvent], words: Words | None = None) -> list[str]:
    """Successive events of an order, each in the words that those before it have left.

    `words` are those before the first one; without them, the first one opens the order.
    """
    said: list[str] = []
    words = words or Words()
    for stored in stream:
        try:
            event = stored.event()
        except UnreadableEvent:
            said.append(f"A newer release wrote this event: {stored.type}.")
            continue
        words = words.after(event)
        said.append(sentence(event, words))
    return said


def words_after(stream: Iterable[StoredEvent], words: Words) -> Words:
    """The words that events of NAMING leave; those of a newer release leave none."""
    for stored in stream:
        try:
            words = words.after(stored.event())
        except UnreadableEvent:
            continue
    return words


def sentence(event: OrderEvent, words: Words) -> str:
    """The event in words, as one sentence or two; its type, if it has no words yet."""
    found = (say(event, words) for say in _CHAPTERS)
    wordless = f"{event.type.replace('-', ' ').capitalize()}."
    return next((said for said in found if said is not None), wordless)


def _of_draft(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.OrderOpened():
            reference = (
                f", as {as_written(event.external_reference)}" if event.external_reference else ""
            )
            opened = f"The order was opened for customer {event.customer_id}{reference}."
            if event.expires_at is None:
                return opened
            return f"{opened} Unless it is placed by {w.time(event.expires_at)}, it expires."
        case e.ItemAdded():
            terms = [f"{w.money(event.unit_price)} each"]
            terms += [f"less {w.money(event.discount)}"] if event.discount else []
            terms += [f"with {w.money(event.tax)} of tax"] if event.tax else []
            return f"{event.quantity} × {as_written(event.title)} were added, {', '.join(terms)}."
        case e.ItemQuantityChanged():
            return f"The quantity of {w.title(event.line_id)} was changed to {event.quantity}."
        case e.ItemRemoved():
            return f"{w.title(event.line_id)} was removed."
        case e.DiscountApplied():
            return f"A discount of {w.money(event.amount)} was applied{_because(event.reason)}."
        case e.DiscountRemoved():
            return f"The discount {event.discount_id} was removed."
        case e.NoteAdded():
            return f"A note was added: {_quoted(event.text)}"
        case e.ShippingChargeSet():
            return f"The shipping charge was set to {w.money(event.amount)}."
        case e.ShippingAddressSet():
            return "The shipping address was set."
        case e.BillingAddressSet():
            return "The billing address was set."
        case e.OrderExpired():
            return "The order expired: it was not placed in time."
    return None


def _of_lifecycle(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.OrderPlaced():
            method = f", to be paid by {event.payment_method}" if event.payment_method else ""
            return f"The order was placed, for {w.money(event.total)}{method}."
        case e.OrderConfirmed():
            return "The order was confirmed: its stock is reserved and its payment is authorised."
        case e.OrderHeld():
            return f"The order was put on hold{_because(event.reason)}."
        case e.OrderReleased():
            return "The hold was ended."
        case e.OrderCompleted():
            return "The order is completed."
        case e.OrderCancellationRequested():
            return f"The cancellation of the order was requested{_because(event.reason)}."
        case e.OrderCancelled():
            return f"The order was cancelled{_because(event.reason)}."
        case e.OrderCancellationOvertaken():
            left = f"only {w.pieces(event.lines)} could still be cancelled"
            return f"A shipment left before the cancellation reached it: {left}."
        case e.AnswerNotNeeded():
            return "The customer's decision is no longer needed."
        case e.LinesCancelled():
            return f"{w.pieces(event.lines)} were cancelled{_because(event.reason)}."
        case e.LinesCancellationOvertaken():
            return f"{w.pieces(event.lines)} left before their cancellation reached them."
        case e.OrderAmended():
            return f"The order was amended: {_amended(event, w)}."
        case e.AmendmentReverted():
            return f"An amendment was reverted{_because(event.reason)}: {_amended(event, w)}."
    return None


def _of_stock(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.StockRequested():
            return f"The stock service was asked to reserve {w.pieces(event.lines)}."
        case e.StockReserved():
            return f"The stock service reserved {w.pieces(event.held)}."
        case e.StockShort():
            decide = f"the customer can accept what there is until {w.time(event.answer_by)}"
            return f"{w.pieces(event.lines)} are not in stock: {decide}."
        case e.ShortfallAccepted():
            return f"The customer accepted to go without {w.pieces(event.lines)}."
        case e.HeldStockLost():
            lost = w.pieces([LineCount(line_id=event.line_id, quantity=event.quantity)])
            return f"Of the reserved pieces, {lost} are missing at {as_written(event.location)}."
        case e.StockReleaseRequested():
            return f"The stock service was asked to release {w.pieces(event.held)}."
        case e.StockReleased():
            return "The stock service released the pieces."
        case e.StockWithdrawalRequested():
            left = w.pieces(event.held)
            return f"The stock service was asked to take {left} off its books: they have left."
        case e.StockWithdrawn():
            return "The stock service took the pieces off its books."
        case e.RestockRequested():
            return f"The stock service was asked to put back {w.pieces(event.held)}."
        case e.Restocked():
            return "The stock service put the pieces back."
    return None


def _of_payment(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.AuthorisationRequested():
            method = f" by {event.method}" if event.method else ""
            return f"The payment service was asked to authorise {w.money(event.amount)}{method}."
        case e.PaymentAuthorised():
            until = f"it can be captured until {w.time(event.capture_by)}"
            amount = f"{w.money(event.amount)} were authorised, as {as_written(event.reference)}"
            return f"{amount}: {until}."
        case e.PaymentDeclined():
            decide = f"The customer can pay otherwise until {w.time(event.answer_by)}."
            return f"The payment was declined{_because(event.reason)}. {decide}"
        case e.PaymentRetried():
            method = f" by {event.method}" if event.method else ""
            return f"The customer tries to pay again{method}."
        case e.AdvanceCaptureRequested():
            return f"{w.money(event.amount)} are to be captured before their goods leave."
        case e.CaptureRequested():
            return f"The payment service was asked to capture {w.money(event.amount)}."
        case e.PaymentCaptured():
            return f"{w.money(event.amount)} were captured."
        case e.CaptureRefused():
            decide = f"The customer can pay otherwise until {w.time(event.answer_by)}."
            return f"The capture was declined{_because(event.reason)}. {decide}"
        case e.VoidRequested():
            return "The payment service was asked to void what is authorised and not captured."
        case e.PaymentVoided():
            return "What was authorised and not captured was voided."
        case e.RefundGranted():
            return f"A refund of {w.money(event.amount)} was granted{_because(event.reason)}."
        case e.RefundRequested():
            return f"The payment service was asked to refund {w.money(event.amount)}."
        case e.PaymentRefunded():
            return f"{w.money(event.amount)} were refunded."
    return None


def _of_payment_reports(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.CaptureReversed():
            decide = f"The customer can pay otherwise until {w.time(event.answer_by)}."
            reversed_ = f"The capture of {w.money(event.amount)} was reversed"
            return f"{reversed_}{_because(event.reason)}. {decide}"
        case e.RefundReversed():
            reversed_ = f"The refund of {w.money(event.amount)} did not reach the customer"
            return f"{reversed_}{_because(event.reason)}."
        case e.RefundRecorded():
            return f"{w.money(event.amount)} were refunded at the payment service itself."
        case e.AuthorisationReduced():
            left = f"Of an authorisation, {w.money(event.amount)} are left in all"
            return f"{left}{_because(event.reason)}."
        case e.ChargebackOpened():
            taken = f"The customer's bank took back {w.money(event.amount)}"
            return f"{taken}{_because(event.reason)}."
        case e.ChargebackClosed():
            outcome = "won: the money stays" if event.outcome == "won" else "lost"
            return f"The chargeback {event.chargeback_id} was {outcome}."
    return None


def _of_shipments(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.ShipmentCreated():
            what = f"{w.pieces(event.lines)} from {as_written(event.location)}"
            return f"Shipment {event.shipment_id} was planned: {what}."
        case e.ShipmentChanged():
            return f"Shipment {event.shipment_id} was changed to {w.pieces(event.lines)}."
        case e.ShipmentBookingRequested():
            return f"The shipping service was asked to book shipment {event.shipment_id}."
        case e.ShipmentBooked():
            return f"Shipment {event.shipment_id} was booked{_tracked(event.tracking)}."
        case e.ShipmentStopRequested():
            return f"The shipping service was asked to stop shipment {event.shipment_id}."
        case e.ShipmentStopped():
            return f"Shipment {event.shipment_id} was stopped."
        case e.ShipmentDispatched():
            what = f"with {w.pieces(event.lines)}{_tracked(event.tracking)}"
            return f"Shipment {event.shipment_id} left, {what}."
        case e.ShipmentDelivered():
            until = f"it can be returned until {w.time(event.return_by)}"
            return f"Shipment {event.shipment_id} was delivered: {until}."
        case e.DeliveryFailed():
            goods = f"its goods are {event.goods}"
            why = _because(event.reason)
            return f"The delivery of shipment {event.shipment_id} failed{why}: {goods}."
        case e.TrackingChanged():
            tracking = as_written(event.tracking)
            return f"The tracking number of shipment {event.shipment_id} is now {tracking}."
        case e.DeliveryRevoked():
            why = _because(event.reason)
            return f"Shipment {event.shipment_id} was not delivered after all{why}."
    return None


def _of_returns(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.ReturnRequested():
            what = w.pieces(event.lines)
            return f"The customer wants to return {what}{_because(event.reason)}."
        case e.ReturnApproved():
            return f"The return {event.return_id} was approved."
        case e.ReturnRejected():
            return f"The return {event.return_id} was rejected{_because(event.reason)}."
        case e.ReturnReceived():
            what = w.pieces(event.lines)
            return f"Of the return {event.return_id}, {what} came back, {event.condition}."
        case e.ReturnWindowClosed():
            return "The time for returns is over."
    return None


def _of_attention(event: OrderEvent, w: Words) -> str | None:
    match event:
        case e.StepStuck():
            return f"Step {event.step_id} is stuck: {clause(event.reason)}."
        case e.StepRetried():
            return f"Step {event.step_id} is tried again."
        case e.StepSettled():
            outcome = f"Step {event.step_id} was settled by a person as {event.outcome}"
            return f"{outcome}{_because(event.reason)}."
        case e.DiscrepancyRecorded():
            return f"A discrepancy was recorded ({event.kind}): {clause(event.summary)}."
        case e.DiscrepancyResolved():
            again = " It is tried again." if event.retry else ""
            resolved = f"The discrepancy {event.discrepancy_id} was resolved"
            return f"{resolved}{_because(event.reason)}.{again}"
    return None


_CHAPTERS: Sequence[Callable[[OrderEvent, Words], str | None]] = (
    _of_draft,
    _of_lifecycle,
    _of_stock,
    _of_payment,
    _of_payment_reports,
    _of_shipments,
    _of_returns,
    _of_attention,
)


def _amended(event: e.OrderAmended | e.AmendmentReverted, w: Words) -> str:
    listed, rest = first_of(event.lines)
    lines = [
        f"{line.quantity - line.cancelled} × {as_written(line.title)} at {w.money(line.unit_price)}"
        for line in listed
    ]
    charge = f"with a shipping charge of {w.money(event.shipping_charge)}"
    return f"{joined([*lines, *others_of(len(rest), 'line')]) or 'no line'}, {charge}"


def _because(reason: str | None) -> str:
    return f" ({clause(reason)})" if reason else ""


def _tracked(tracking: str | None) -> str:
    return f", tracking number {as_written(tracking)}" if tracking else ""


def _quoted(text: str) -> str:
    return f"“{as_written(text)}”"
