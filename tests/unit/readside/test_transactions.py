"""What the payment service did with an order's money, from its events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from eventlog.envelope import Envelope, Metadata
from orders import events as e
from orders.events import BY_TAG, OrderEvent
from readside.order_view.transactions import REQUESTS, TYPES, transactions

AT = datetime(2026, 12, 4, 14, tzinfo=UTC)
ABOUT = Metadata(actor="payments", command="c", command_id="c", payload_hash="")


def stream(*events: OrderEvent) -> list[Envelope]:
    at = (AT + timedelta(minutes=number) for number in range(len(events)))
    return [
        Envelope.of(event, version, time, ABOUT)
        for (version, event), time in zip(enumerate(events, 1), at, strict=True)
    ]


def test_each_type_is_one_of_an_event() -> None:
    assert {*TYPES, *REQUESTS} <= BY_TAG.keys()


def test_transactions_have_amounts_and_the_reference_of_their_authorisation() -> None:
    asked = {"authorisation_id": "a1"}
    found = transactions(
        stream(
            e.AuthorisationRequested(step_id="a0", amount=500),
            e.PaymentDeclined(step_id="a0", reason="no funds", answer_by=AT),
            e.AuthorisationRequested(step_id="a1", amount=500),
            e.PaymentAuthorised(step_id="a1", amount=500, reference="auth_1", capture_by=AT),
            e.NoteAdded(note_id="n", text="not about money"),
            e.CaptureRequested(step_id="c1", amount=300, **asked),
            e.PaymentCaptured(step_id="c1", amount=300),
            e.RefundRequested(step_id="r1", amount=100, **asked),
            e.PaymentRefunded(step_id="r1", amount=100),
            e.VoidRequested(step_id="v1", **asked),
            e.PaymentVoided(step_id="v1"),
            e.ChargebackOpened(
                chargeback_id="b", amount=200, reason="fraud", fingerprint="", **asked
            ),
            e.ChargebackClosed(chargeback_id="b", outcome="lost"),
        )
    )
    assert [(t.version, t.type, t.amount, t.step_id) for t in found] == [
        (2, "payment-declined", 500, "a0"),
        (4, "payment-authorised", 500, "a1"),
        (7, "payment-captured", 300, "c1"),
        (9, "payment-refunded", 100, "r1"),
        (11, "payment-voided", None, "v1"),
        (12, "chargeback-opened", 200, None),
        (13, "chargeback-closed", 200, None),
    ]
    assert (found[0].authorisation_id, found[0].reference) == ("a0", None)
    assert {(t.authorisation_id, t.reference) for t in found[1:]} == {("a1", "auth_1")}
    assert found[1].at == AT + timedelta(minutes=3)
