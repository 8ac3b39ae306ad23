"""Events in words: each type has a sentence, with money and times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

import pytest

from orders import events as e
from orders.events import EVENT_TYPES, AmendedLine, LineCount, OrderEvent
from orders.steps import Held
from orders.upcasting import UnreadableEvent
from readside.order_view.sentences import sentence, sentences, words_after
from readside.order_view.words import Words, as_written

AT = datetime(2026, 12, 4, 14, 5, tzinfo=UTC)
WORDS = Words("USD", {"bagels": "Bagels", "tuna": "Tuna"})
TWO = [LineCount(line_id="bagels", quantity=2), LineCount(line_id="tuna", quantity=1)]
ONE = [LineCount(line_id="tuna", quantity=1)]
HELD = [Held(line_id="bagels", sku="1095275", location="EAST", quantity=2)]
AMENDED = [
    AmendedLine(
        line_id="bagels",
        sku="1095275",
        title="Bagels",
        quantity=5,
        unit_price=179,
        discount=0,
        tax=0,
        cancelled=1,
    )
]
BECAUSE = {"reason": "too late."}

SENTENCES: list[tuple[OrderEvent, str]] = [
    (
        e.OrderOpened(customer_id="900", currency="USD", external_reference="b-7", expires_at=AT),
        (
            "The order was opened for customer 900, as b-7."
            " Unless it is placed by 4 December 2026, 14:05 UTC, it expires."
        ),
    ),
    (
        e.ItemAdded(
            line_id="bagels",
            sku="1095275",
            title="Bagels",
            quantity=2,
            unit_price=100_000,
            discount=29,
            tax=7,
        ),
        "2 × Bagels were added, 1,000.00 USD each, less 0.29 USD, with 0.07 USD of tax.",
    ),
    (
        e.ItemQuantityChanged(line_id="bagels", quantity=3),
        "The quantity of Bagels was changed to 3.",
    ),
    (e.ItemRemoved(line_id="gone"), "gone was removed."),
    (
        e.DiscountApplied(discount_id="w", amount=50, **BECAUSE),
        "A discount of 0.50 USD was applied (too late).",
    ),
    (e.DiscountRemoved(discount_id="w"), "The discount w was removed."),
    (e.NoteAdded(note_id="n", text="Knock."), "A note was added: “Knock.”"),
    (e.ShippingChargeSet(amount=390), "The shipping charge was set to 3.90 USD."),
    (e.ShippingAddressSet(address="sealed.1.a.b"), "The shipping address was set."),
    (e.BillingAddressSet(address="sealed.1.a.b"), "The billing address was set."),
    (e.OrderExpired(), "The order expired: it was not placed in time."),
    (
        e.OrderPlaced(total=336, payment_method="pm_card"),
        "The order was placed, for 3.36 USD, to be paid by pm_card.",
    ),
    (
        e.OrderConfirmed(),
        "The order was confirmed: its stock is reserved and its payment is authorised.",
    ),
    (e.OrderHeld(**BECAUSE), "The order was put on hold (too late)."),
    (e.OrderReleased(), "The hold was ended."),
    (e.OrderCompleted(), "The order is completed."),
    (
        e.OrderCancellationRequested(**BECAUSE),
        "The cancellation of the order was requested (too late).",
    ),
    (e.OrderCancelled(**BECAUSE), "The order was cancelled (too late)."),
    (
        e.OrderCancellationOvertaken(lines=ONE),
        (
            "A shipment left before the cancellation reached it: only 1 × Tuna could still be"
            " cancelled."
        ),
    ),
    (e.AnswerNotNeeded(), "The customer's decision is no longer needed."),
    (
        e.LinesCancelled(cancellation_id="c", lines=TWO, fingerprint="", **BECAUSE),
        "2 × Bagels and 1 × Tuna were cancelled (too late).",
    ),
    (
        e.LinesCancellationOvertaken(lines=ONE),
        "1 × Tuna left before their cancellation reached them.",
    ),
    (
        e.OrderAmended(amendment_id="a", lines=AMENDED, shipping_charge=0, fingerprint=""),
        "The order was amended: 4 × Bagels at 1.79 USD, with a shipping charge of 0.00 USD.",
    ),
    (
        e.AmendmentReverted(lines=[], shipping_charge=390, **BECAUSE),
        "An amendment was reverted (too late): no line, with a shipping charge of 3.90 USD.",
    ),
    (
        e.StockRequested(step_id="s", lines=TWO),
        "The stock service was asked to reserve 2 × Bagels and 1 × Tuna.",
    ),
    (
        e.StockReserved(step_id="s", held=HELD),
        "The stock service reserved 2 × Bagels at EAST.",
    ),
    (
        e.StockShort(lines=ONE, answer_by=AT),
        (
            "1 × Tuna are not in stock: the customer can accept what there is until"
            " 4 December 2026, 14:05 UTC."
        ),
    ),
    (e.ShortfallAccepted(lines=ONE), "The customer accepted to go without 1 × Tuna."),
    (
        e.HeldStockLost(loss_id="l", line_id="bagels", location="EAST", quantity=1, fingerprint=""),
        "Of the reserved pieces, 1 × Bagels are missing at EAST.",
    ),
    (
        e.StockReleaseRequested(step_id="s", held=HELD),
        "The stock service was asked to release 2 × Bagels at EAST.",
    ),
    (e.StockReleased(step_id="s"), "The stock service released the pieces."),
    (
        e.StockWithdrawalRequested(step_id="s", held=HELD),
        "The stock service was asked to take 2 × Bagels at EAST off its books: they have left.",
    ),
    (e.StockWithdrawn(step_id="s"), "The stock service took the pieces off its books."),
    (
        e.RestockRequested(step_id="s", held=HELD),
        "The stock service was asked to put back 2 × Bagels at EAST.",
    ),
    (e.Restocked(step_id="s"), "The stock service put the pieces back."),
    (
        e.AuthorisationRequested(step_id="s", amount=336, method="pm_card"),
        "The payment service was asked to authorise 3.36 USD by pm_card.",
    ),
    (
        e.PaymentAuthorised(step_id="s", amount=336, reference="auth_1", capture_by=AT),
        "3.36 USD were authorised, as auth_1: it can be captured until 4 December 2026, 14:05 UTC.",
    ),
    (
        e.PaymentDeclined(step_id="s", answer_by=AT, **BECAUSE),
        (
            "The payment was declined (too late). The customer can pay otherwise until"
            " 4 December 2026, 14:05 UTC."
        ),
    ),
    (e.PaymentRetried(method="pm_other"), "The customer tries to pay again by pm_other."),
    (
        e.AdvanceCaptureRequested(capture_id="c", amount=336, fingerprint=""),
        "3.36 USD are to be captured before their goods leave.",
    ),
    (
        e.CaptureRequested(step_id="s", authorisation_id="a", amount=336),
        "The payment service was asked to capture 3.36 USD.",
    ),
    (e.PaymentCaptured(step_id="s", amount=336), "3.36 USD were captured."),
    (
        e.CaptureRefused(step_id="s", answer_by=AT, **BECAUSE),
        (
            "The capture was declined (too late). The customer can pay otherwise until"
            " 4 December 2026, 14:05 UTC."
        ),
    ),
    (
        e.VoidRequested(step_id="s", authorisation_id="a"),
        "The payment service was asked to void what is authorised and not captured.",
    ),
    (e.PaymentVoided(step_id="s"), "What was authorised and not captured was voided."),
    (
        e.RefundGranted(refund_id="r", amount=100, fingerprint="", **BECAUSE),
        "A refund of 1.00 USD was granted (too late).",
    ),
    (
        e.RefundRequested(step_id="s", authorisation_id="a", amount=100),
        "The payment service was asked to refund 1.00 USD.",
    ),
    (e.PaymentRefunded(step_id="s", amount=100), "1.00 USD were refunded."),
    (
        e.CaptureReversed(step_id="s", authorisation_id="a", amount=336, answer_by=AT, **BECAUSE),
        (
            "The capture of 3.36 USD was reversed (too late). The customer can pay otherwise until"
            " 4 December 2026, 14:05 UTC."
        ),
    ),
    (
        e.RefundReversed(step_id="s", authorisation_id="a", amount=100, **BECAUSE),
        "The refund of 1.00 USD did not reach the customer (too late).",
    ),
    (
        e.RefundRecorded(external_refund_id="x", authorisation_id="a", amount=100, fingerprint=""),
        "1.00 USD were refunded at the payment service itself.",
    ),
    (
        e.AuthorisationReduced(authorisation_id="a", amount=0, **BECAUSE),
        "Of an authorisation, 0.00 USD are left in all (too late).",
    ),
    (
        e.ChargebackOpened(
            chargeback_id="cb", authorisation_id="a", amount=336, fingerprint="", **BECAUSE
        ),
        "The customer's bank took back 3.36 USD (too late).",
    ),
    (
        e.ChargebackClosed(chargeback_id="cb", outcome="won"),
        "The chargeback cb was won: the money stays.",
    ),
    (e.ChargebackClosed(chargeback_id="cb", outcome="lost"), "The chargeback cb was lost."),
    (
        e.ShipmentCreated(shipment_id="s1", location="EAST", lines=TWO, fingerprint=""),
        "Shipment s1 was planned: 2 × Bagels and 1 × Tuna from EAST.",
    ),
    (e.ShipmentChanged(shipment_id="s1", lines=[]), "Shipment s1 was changed to nothing."),
    (
        e.ShipmentBookingRequested(shipment_id="s1", step_id="s"),
        "The shipping service was asked to book shipment s1.",
    ),
    (
        e.ShipmentBooked(shipment_id="s1", step_id="s", tracking="1Z"),
        "Shipment s1 was booked, tracking number 1Z.",
    ),
    (
        e.ShipmentStopRequested(shipment_id="s1", step_id="s"),
        "The shipping service was asked to stop shipment s1.",
    ),
    (e.ShipmentStopped(shipment_id="s1"), "Shipment s1 was stopped."),
    (
        e.ShipmentDispatched(shipment_id="s1", lines=ONE, tracking="1Z"),
        "Shipment s1 left, with 1 × Tuna, tracking number 1Z.",
    ),
    (
        e.ShipmentDelivered(shipment_id="s1", return_by=AT),
        "Shipment s1 was delivered: it can be returned until 4 December 2026, 14:05 UTC.",
    ),
    (
        e.DeliveryFailed(shipment_id="s1", goods="lost", **BECAUSE),
        "The delivery of shipment s1 failed (too late): its goods are lost.",
    ),
    (
        e.TrackingChanged(shipment_id="s1", tracking="2Z"),
        "The tracking number of shipment s1 is now 2Z.",
    ),
    (
        e.DeliveryRevoked(shipment_id="s1", **BECAUSE),
        "Shipment s1 was not delivered after all (too late).",
    ),
    (
        e.ReturnRequested(return_id="r", lines=ONE, fingerprint="", **BECAUSE),
        "The customer wants to return 1 × Tuna (too late).",
    ),
    (e.ReturnApproved(return_id="r"), "The return r was approved."),
    (e.ReturnRejected(return_id="r", **BECAUSE), "The return r was rejected (too late)."),
    (
        e.ReturnReceived(
            receipt_id="x", return_id="r", lines=ONE, condition="sellable", fingerprint=""
        ),
        "Of the return r, 1 × Tuna came back, sellable.",
    ),
    (e.ReturnWindowClosed(), "The time for returns is over."),
    (
        e.StepStuck(step_id="capture-1", reason="the service is down."),
        "Step capture-1 is stuck: the service is down.",
    ),
    (e.StepRetried(step_id="capture-1"), "Step capture-1 is tried again."),
    (
        e.StepSettled(step_id="capture-1", outcome="done", fingerprint="", **BECAUSE),
        "Step capture-1 was settled by a person as done (too late).",
    ),
    (
        e.DiscrepancyRecorded(
            discrepancy_id="d",
            kind="unknown-capture",
            service="payments",
            summary="the order did not request it",
            fingerprint="",
        ),
        "A discrepancy was recorded (unknown-capture): the order did not request it.",
    ),
    (
        e.DiscrepancyResolved(discrepancy_id="d", retry=True, **BECAUSE),
        "The discrepancy d was resolved (too late). It is tried again.",
    ),
]


@pytest.mark.parametrize(
    ("event", "expected"), SENTENCES, ids=lambda given: getattr(given, "type", "")
)
def test_event_in_words(event: OrderEvent, expected: str) -> None:
    assert sentence(event, WORDS) == expected


def test_each_type_of_event_has_its_words() -> None:
    assert {type(event) for event, _ in SENTENCES} == set(EVENT_TYPES)


def test_what_an_event_leaves_out_is_not_mentioned() -> None:
    for event, _ in SENTENCES:
        optional = {
            name: None
            for name, field in type(event).model_fields.items()
            if not field.is_required() and name != "type"
        }
        said = sentence(event.model_copy(update=optional), WORDS)
        assert "None" not in said and "()" not in said and said.endswith((".", "”")), said


class Stored(NamedTuple):
    """An event as a log has it."""

    type: str
    of: OrderEvent | None

    def event(self) -> OrderEvent:
        if self.of is None:
            raise UnreadableEvent(f"{self.type} is not a known event")
        return self.of


def stored(*events: OrderEvent) -> list[Stored]:
    return [Stored(event.type, event) for event in events]


def test_titles_follow_the_events_and_times_the_zone() -> None:
    opened, added = SENTENCES[0][0], SENTENCES[1][0]
    amended = next(event for event, _ in SENTENCES if isinstance(event, e.OrderAmended))
    renamed = amended.model_copy(
        update={"lines": [AMENDED[0].model_copy(update={"title": "Fresh bagels"})]}
    )
    east = timezone(timedelta(hours=2), "EET")

    assert words_after(stored(opened, added), Words()).pieces(TWO) == "2 × Bagels and 1 × tuna"
    words = words_after(stored(opened, added, renamed), Words(zone=east))
    assert words.pieces(HELD) == "2 × Fresh bagels at EAST"
    assert words.time(AT) == "4 December 2026, 16:05 EET"
    assert Words("JPY").money(1127) == "1,127 JPY"
    assert Words("KWD").money(1127) == "1.127 KWD"


def test_each_event_is_in_the_words_of_those_before_it() -> None:
    opened, added = SENTENCES[0][0], SENTENCES[1][0]
    changed = e.ItemQuantityChanged(line_id="bagels", quantity=3)
    unknown = Stored("order-teleported", None)
    removed = e.ItemRemoved(line_id="bagels")
    before = "The quantity of bagels was changed to 3."
    after = "The quantity of Bagels was changed to 3."
    stream = [*stored(opened, changed, added, changed), unknown, *stored(removed)]
    said = sentences(stream)
    assert said[1] == before and said[3] == after and said[5] == "Bagels was removed."
    assert said[4] == "A newer release wrote this event: order-teleported."
    for split in range(len(stream)):
        words = words_after(stream[:split], Words())
        assert sentences(stream[split:], words) == said[split:]


def test_sentence_lists_few_lines_and_counts_the_rest() -> None:
    lines = [LineCount(line_id=f"l{number}", quantity=number) for number in range(1, 501)]
    asked = sentence(e.StockRequested(step_id="s", lines=lines), WORDS)
    rest = sum(range(4, 501))
    assert asked.endswith(f"reserve 1 × l1, 2 × l2, 3 × l3 and {rest:,} other pieces.")
    terms = [AMENDED[0].model_copy(update={"line_id": line.line_id}) for line in lines]
    amended = sentence(e.AmendmentReverted(lines=terms, shipping_charge=0, reason="r"), WORDS)
    assert "and 497 other lines, with a shipping charge" in amended


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Bagels 🥯", "Bagels 🥯"),
        ("خبز", "\u2068خبز\u2069"),
        ("to the \u202etfel", "\u2068to the tfel\u2069"),
        ("out\u2069 of it \u202e", "\u2068out of it \u2069"),
    ],
)
def test_direction_of_a_text_stays_within_it(text: str, written: str) -> None:
    assert as_written(text) == written
    noted = sentence(e.NoteAdded(note_id="n", text=text), WORDS)
    assert noted == f"A note was added: “{written}”"
