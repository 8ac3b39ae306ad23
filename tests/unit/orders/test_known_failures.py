"""Failures that other order systems are known for, each kept out by a test of its name."""

from __future__ import annotations

from orders import commands as c
from orders import events as e
from orders import ledger
from orders import steps as o
from orders.lifecycle import Status
from orders.steps import PaymentApproved, PaymentRefused, StepDone
from tests.support.given import but, given
from tests.support.order_fixtures import (
    BAGELS,
    TUNA,
    a_booked_order,
    a_cancelling_order,
    a_confirmed_order,
    a_delivered_order,
    a_draft,
    a_placed_order,
    a_reserved_order,
    a_sent_order,
    all_held,
    approved,
    bagels,
    bagels_leave,
    cancel,
    open_with_policy,
    tuna,
    tuna_leaves,
)


def test_duplicate_order_on_a_retried_create() -> None:
    """The create is sent again, at once and after the order went on: it is the same order."""
    given().having(open_with_policy).when(open_with_policy).then()
    for scene in (a_draft, a_booked_order, a_delivered_order):
        scene.when(open_with_policy).then()


def test_order_confirmed_and_refunded_at_once_because_callback_and_request_raced() -> None:
    """The same approval comes twice, over both ways; and a refusal that was overtaken by it."""
    again = PaymentApproved(step_id="authorise-9", reference="visa-by-callback")
    a_confirmed_order.when(approved).then()
    a_confirmed_order.when(again).then()
    declined = PaymentRefused(step_id="authorise-9", reason="timed out")
    order = a_confirmed_order.having(declined).order
    assert [d.kind for d in order.discrepancies.values()] == ["declined-after-approval"]
    assert order.authorisations == a_confirmed_order.order.authorisations
    order = a_confirmed_order.having(again).settled().order
    assert (order.status, len(order.authorisations)) == (Status.CONFIRMED, 1)
    assert ledger.refunded(order) == ledger.voided(order) == 0


def test_over_capture_by_two_partial_captures() -> None:
    """What is asked for is claimed: the second capture sees the first, answered or not."""
    first = c.CapturePayment(capture_id="first", amount=300)
    second = c.CapturePayment(capture_id="second", amount=300)
    for scene in (a_booked_order.having(first), a_booked_order.having(first).settled()):
        scene.when(second).then_rejected(
            "1.00 USD can be captured at most", code="exceeds-authorised", field="amount"
        )
    both_leave = a_booked_order.having(first, bagels_leave, tuna_leaves)
    captures = [s.amount for s in both_leave.order.steps.values() if isinstance(s, o.Capture)]
    assert captures == [300, 80, 20]
    assert ledger.captured(both_leave.settled().order) == ledger.authorised(both_leave.order) == 400


def test_second_partial_refund_swallowed_as_a_duplicate() -> None:
    """Two refunds of the same amount, for the same reason, are two if their ids are."""
    first = c.RefundPayment(refund_id="first", amount=50, reason="late")
    second = but(first, refund_id="second")
    order = a_sent_order.having(first, second)
    keys = [key for key, step in order.order.steps.items() if isinstance(step, o.Refund)]
    assert len(keys) == 2
    assert ledger.refunded(order.settled().order) == 100


def test_refund_rejected_over_a_rounding_difference() -> None:
    """Three pieces for 1.00 USD, returned one by one, come to 1.00 USD: no cent is missing."""
    pins = c.AddItemToOrder(
        line_id="pins", sku="9", title="PINS", quantity=3, unit_price=34, discount=2
    )
    sent = given().having(open_with_policy, pins, c.PlaceOrder()).settled()
    (parcel,) = sent.order.shipments
    back = sent.having(c.DispatchShipment(shipment_id=parcel)).settled()
    back = back.having(c.ConfirmDelivery(shipment_id=parcel))
    amounts = []
    for name in ("first", "second", "third"):
        one = [c.LineQuantity(line_id="pins", quantity=1)]
        back = back.having(
            c.RequestReturn(return_id=name, lines=one),
            c.ApproveReturn(return_id=name),
            c.ReceiveReturn(receipt_id=name, return_id=name, lines=one, condition="sellable"),
        )
        amounts += [s.amount for s in back.order.steps.values() if isinstance(s, o.Refund)]
        back = back.settled()
    assert amounts == [33, 34, 33]
    assert ledger.net_captured(back.order) == 0


def test_refund_of_money_never_captured_after_an_edit() -> None:
    """The order becomes cheaper before anything was captured: there is nothing to give back."""
    cheaper = c.AmendOrder(
        amendment_id="a", changes=[c.ChangeLine(line_id="bagels", unit_price=100)]
    )
    order = a_booked_order.having(cheaper)
    assert not [s for s in order.order.steps.values() if isinstance(s, o.Refund)]
    sent = order.having(bagels_leave, tuna_leaves).settled().order
    assert (ledger.captured(sent), ledger.refunded(sent)) == (242, 0)
    assert ledger.voided(sent) == 400 - 242
    capturing = a_booked_order.having(bagels_leave, cheaper)
    assert not [s for s in capturing.order.steps.values() if isinstance(s, o.Refund)]
    captured = capturing.having(StepDone(step_id="capture-20"))
    assert [s.amount for s in captured.order.steps.values() if isinstance(s, o.Refund)] == [158]


def test_cancelled_order_whose_stock_stays_reserved() -> None:
    """Not even stock that was reserved while, or after, the order was called off."""
    for scene in (
        a_placed_order.having(cancel),
        a_placed_order.having(cancel, all_held),
        a_reserved_order.having(cancel),
        a_confirmed_order.having(cancel),
        a_cancelling_order,
    ):
        last, end = scene.told_yes()[-2:]
        assert (last, end) == (e.StockReleased, e.OrderCancelled)
        assert not any(line.reserved for line in scene.settled().order.lines.values())


def test_shipment_failed_but_the_charge_kept() -> None:
    lost = c.ReportDeliveryFailure(shipment_id=BAGELS)
    order = a_sent_order.having(lost).settled().order
    assert ledger.refunded(order) == 336
    all_lost = a_sent_order.having(lost, but(lost, shipment_id=TUNA)).settled().order
    assert ledger.refunded(all_lost) == ledger.captured(all_lost) == 400
    not_yet_paid = a_booked_order.having(bagels_leave, lost).settled().order
    assert ledger.net_captured(not_yet_paid) == 0


def test_all_lines_cancelled_but_the_order_completed() -> None:
    everything = c.CancelLines(cancellation_id="all", lines=[*bagels(2), *tuna()])
    for scene in (a_placed_order, a_reserved_order, a_booked_order):
        order = scene.having(everything).settled().order
        assert order.status is Status.CANCELLED
        assert ledger.net_captured(order) == ledger.capturable(order) == 0
    one_by_one = a_booked_order.having(but(everything, cancellation_id="b", lines=bagels(2)))
    one_by_one = one_by_one.settled().having(but(everything, cancellation_id="c", lines=tuna()))
    assert one_by_one.settled().order.status is Status.CANCELLED
    lost = [c.ReportDeliveryFailure(shipment_id=key) for key in (BAGELS, TUNA)]
    assert a_sent_order.having(*lost).settled().order.status is Status.CANCELLED
