"""Payment commands: what follows, when they are refused, when they stay quiet."""

from __future__ import annotations

from orders import commands as c
from orders import events as e
from orders import ledger
from orders.lifecycle import Status
from orders.rules.checks import fingerprint
from orders.steps import StepDone
from tests.support.given import but
from tests.support.order_fixtures import (
    BAGELS,
    a_booked_order,
    a_cancelled_order,
    a_completed_order,
    a_confirmed_order,
    a_declined_order,
    a_delivered_order,
    a_half_sent_order,
    a_placed_order,
    a_sent_order,
    a_short_order,
    bagels,
    bagels_leave,
    hold,
)

pay_otherwise = c.RetryPayment(method="pm_master")
capture_all = c.CapturePayment(capture_id="early")
capture_some = c.CapturePayment(capture_id="early", amount=100)
sorry = c.RefundPayment(refund_id="sorry", amount=50, reason="it was late")

# RetryPayment


def test_retry_uses_another_payment_method() -> None:
    a_declined_order.when(pay_otherwise).then(
        e.PaymentRetried(method="pm_master"),
        e.AuthorisationRequested(step_id="authorise-12", amount=400, method="pm_master"),
    )
    assert a_declined_order.having(pay_otherwise).settled().order.status is Status.CONFIRMED


def test_retry_may_use_the_same_payment_method() -> None:
    a_declined_order.when(c.RetryPayment(method="pm_visa")).then(
        e.PaymentRetried(method="pm_visa"),
        e.AuthorisationRequested(step_id="authorise-12", amount=400, method="pm_visa"),
    )


def test_only_a_declined_payment_can_be_retried() -> None:
    a_short_order.when(pay_otherwise).then_rejected(
        "no payment was declined", code="no-declined-payment"
    )
    a_booked_order.when(pay_otherwise).then_rejected(
        "retry-payment is not allowed while the order is confirmed", code="not-allowed-now"
    )


def test_repeated_retry_changes_nothing() -> None:
    retried = a_declined_order.having(pay_otherwise)
    retried.when(pay_otherwise).then()
    retried.settled().when(pay_otherwise).then()


# CapturePayment


def test_authorised_amount_can_be_captured_before_shipment() -> None:
    a_booked_order.when(capture_all).then(
        e.AdvanceCaptureRequested(
            capture_id="early", amount=400, fingerprint=fingerprint(capture_all)
        ),
        e.CaptureRequested(step_id="capture-19", authorisation_id="authorise-9", amount=400),
    )


def test_amount_captured_in_advance_is_not_captured_again() -> None:
    paid = a_booked_order.having(capture_some).settled()
    sent = paid.having(bagels_leave)
    (capture,) = (event for event in sent.order.steps.values() if event.type == "capture")
    assert capture.amount == 380 - 100


def test_capture_cannot_exceed_the_final_price() -> None:
    a_booked_order.when(but(capture_some, amount=401)).then_rejected(
        "4.00 USD can be captured at most", code="exceeds-authorised", field="amount"
    )
    a_half_sent_order.when(but(capture_some, amount=21)).then_rejected(
        "0.20 USD can be captured at most", code="exceeds-authorised", field="amount"
    )
    a_sent_order.when(capture_all).then_rejected(
        "0.00 USD can be captured at most", code="exceeds-authorised"
    )


def test_unconfirmed_order_cannot_be_captured() -> None:
    a_placed_order.when(capture_all).then_rejected(
        "capture-payment is not allowed while the order is placed", code="not-allowed-now"
    )


def test_repeated_capture_changes_nothing() -> None:
    once = a_booked_order.having(capture_some)
    once.when(capture_some).then()
    once.settled().when(capture_some).then()
    once.when(but(capture_some, amount=99)).then_rejected(
        "early already exists, with other content", code="id-already-used", field="capture_id"
    )


def test_capture_after_a_refund_is_exactly_the_requested_amount() -> None:
    """Money that went back is not captured again, unless a command requests it."""
    all_paid = a_booked_order.having(capture_all).settled()
    smaller = all_paid.having(c.CancelLines(cancellation_id="diet", lines=bagels(2))).settled()
    assert ledger.net_captured(smaller.order) == 64
    more_milk = c.AddLine(line_id="milk", sku="995242", title="MILK", quantity=1, unit_price=300)
    larger = smaller.having(c.AmendOrder(amendment_id="a", changes=[more_milk])).settled()
    assert ledger.net_captured(larger.order) == 64
    captured = larger.having(c.CapturePayment(capture_id="b", amount=10)).settled()
    assert ledger.net_captured(captured.order) == 74


# RefundPayment


def test_goodwill_is_refunded() -> None:
    a_sent_order.when(sorry).then(
        e.RefundGranted(
            refund_id="sorry", amount=50, reason="it was late", fingerprint=fingerprint(sorry)
        ),
        e.RefundRequested(step_id="refund-29", authorisation_id="authorise-9", amount=50),
    )


def test_goodwill_is_refunded_after_completion() -> None:
    given_back = a_completed_order.having(sorry)
    assert [step.type for step in given_back.order.steps.values()] == ["refund"]
    assert given_back.settled().order.status is Status.COMPLETED
    assert ledger.refunded(given_back.settled().order) == 50


def test_refund_cannot_exceed_the_captured_amount() -> None:
    a_half_sent_order.when(but(sorry, amount=381)).then_rejected(
        "3.80 USD can be refunded at most", code="exceeds-captured", field="amount"
    )
    a_sent_order.having(sorry).when(but(sorry, refund_id="more", amount=351)).then_rejected(
        "3.50 USD can be refunded at most", code="exceeds-captured", field="amount"
    )


def test_goodwill_cannot_include_a_refund_that_is_due() -> None:
    """The carrier is asked whether it can still stop the bagels: until then nothing goes back."""
    held = a_booked_order.having(capture_all).settled().having(hold)
    called_off = held.having(c.CancelLines(cancellation_id="diet", lines=bagels(2)))
    called_off.when(but(sorry, amount=65)).then_rejected(
        "0.64 USD can be refunded at most", code="exceeds-captured", field="amount"
    )


def test_refund_before_a_capture_is_rejected() -> None:
    a_booked_order.when(sorry).then_rejected(
        "0.00 USD can be refunded at most", code="exceeds-captured", field="amount"
    )
    capturing = a_booked_order.having(bagels_leave)
    capturing.when(sorry).then_rejected(
        "0.00 USD can be refunded at most", code="exceeds-captured", field="amount"
    )
    captured = capturing.having(StepDone(step_id="capture-20"))
    assert captured.having(sorry).order.goodwill == 50
    for order in (a_placed_order, a_cancelled_order):
        order.when(sorry).then_rejected(
            f"refund-payment is not allowed while the order is {order.order.status}",
            code="not-allowed-now",
        )


def test_repeated_refund_changes_nothing() -> None:
    once = a_sent_order.having(sorry)
    once.when(sorry).then()
    once.settled().when(sorry).then()
    once.when(but(sorry, amount=51)).then_rejected(
        "sorry already exists, with other content", code="id-already-used", field="refund_id"
    )


def test_return_after_goodwill_refunds_the_rest() -> None:
    """All of it comes back: what was given for goodwill is not given twice."""
    all_back = [*bagels(2)]
    kind = but(sorry, amount=390)
    order = (
        a_delivered_order.having(kind)
        .having(c.RequestReturn(return_id="r", lines=all_back), c.ApproveReturn(return_id="r"))
        .having(
            c.ReceiveReturn(receipt_id="r", return_id="r", lines=all_back, condition="sellable")
        )
        .settled()
        .order
    )
    assert ledger.refunded(order) == ledger.captured(order) == 400
    assert order.shipments[BAGELS].status == "delivered"


def test_confirmed_order_is_captured_when_shipped() -> None:
    assert ledger.net_captured(a_confirmed_order.order) == 0
    assert ledger.net_captured(a_half_sent_order.order) == 380
    assert ledger.net_captured(a_sent_order.order) == 400
