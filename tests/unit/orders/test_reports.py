"""Reports of external services that contradict the order, and how people settle them."""

from __future__ import annotations

import pytest

from orders import commands as c
from orders import events as e
from orders import ledger
from orders import steps as o
from orders.evolve import evolve
from orders.lifecycle import Status
from orders.statuses import unpaid
from tests.support.given import Given, but
from tests.support.order_fixtures import (
    BAGELS,
    TUNA,
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_completed_order,
    a_delivered_order,
    a_placed_order,
    a_sent_order,
    bagels,
    passed,
)


def kinds(scene: Given) -> list[str]:
    return [discrepancy.kind for discrepancy in scene.order.discrepancies.values()]


def capture_of(scene: Given) -> str:
    """The id of the first capture."""
    (authorisation,) = scene.order.authorisations.values()
    return next(iter(authorisation.captures))


def a_failed_refund(amount: int) -> tuple[Given, str]:
    """An order after a refund that did not reach the customer, and the id of the discrepancy."""
    refund = c.RefundPayment(refund_id="sorry", amount=amount)
    refunded = a_sent_order.having(refund).settled()
    (authorisation,) = refunded.order.authorisations.values()
    (step_id,) = authorisation.refunds
    failed = refunded.having(o.RefundFailed(step_id=step_id, reason="account closed"))
    (key,) = failed.order.discrepancies
    return failed, key


# Shipping


def test_delivery_that_overtakes_its_departure_implies_it() -> None:
    arrived = a_booked_order.having(o.ShipmentArrived(shipment_id=BAGELS))
    assert arrived.order.shipments[BAGELS].status == "delivered"
    assert arrived.order.lines["bagels"].delivered == 2
    late = o.ShipmentDeparted(shipment_id=BAGELS, tracking="1Z-LATE")
    after = arrived.having(late).order
    assert (after.shipments[BAGELS].status, after.shipments[BAGELS].tracking) == (
        "delivered",
        "1Z-LATE",
    )


def test_pieces_of_another_sku_are_recorded_and_not_counted() -> None:
    def leaving(*skus: str) -> Given:
        lines = [o.Piece(line_id="bagels", sku=sku, quantity=1) for sku in skus]
        return a_booked_order.having(o.ShipmentDeparted(shipment_id=BAGELS, lines=lines))

    right = a_booked_order.order.lines["bagels"].sku
    half = leaving(right, "another")
    assert (half.order.lines["bagels"].shipped, kinds(half)) == (1, ["more-than-planned"])
    assert kinds(leaving("another")) == ["unknown-lines"]
    assert not kinds(leaving(right, right))


def test_shipment_that_leaves_although_cancelled_is_shown_and_resolved() -> None:
    left = a_cancelled_order.having(o.ShipmentDeparted(shipment_id=BAGELS))
    assert (left.order.status, kinds(left)) == (Status.CANCELLED, ["left-although-stopped"])
    (key,) = left.order.discrepancies
    resolve = c.ResolveDiscrepancy(discrepancy_id=key, reason="the parcel was called back")
    resolved = left.having(resolve)
    assert not resolved.order.discrepancies
    resolved.when(resolve).then()
    resolved.when(o.ShipmentDeparted(shipment_id=BAGELS)).then()


def test_revoked_delivery_is_reversed() -> None:
    denied = a_delivered_order.having(o.DeliveryDenied(shipment_id=BAGELS, reason="wrong door"))
    assert denied.order.shipments[BAGELS].status == "dispatched"
    assert denied.order.lines["bagels"].delivered == 0
    again = denied.having(o.ShipmentArrived(shipment_id=BAGELS))
    assert again.order.lines["bagels"].delivered == 2
    assert kinds(a_completed_order.having(o.DeliveryDenied(shipment_id=BAGELS))) == [
        "delivery-denied"
    ]


def test_returned_pieces_are_restocked_at_their_origin() -> None:
    at_two = o.StockHeld(
        step_id="reserve-7",
        held=[
            o.Held(line_id="bagels", sku="1095275", location="EAST", quantity=1),
            o.Held(line_id="bagels", sku="1095275", location="WEST", quantity=1),
            o.Held(line_id="tuna", sku="1053875", location="WEST", quantity=1),
        ],
    )
    scene = a_placed_order.having(at_two).settled()
    for key in scene.order.shipments:
        scene = scene.having(o.ShipmentArrived(shipment_id=key)).settled()
    scene = scene.having(
        c.RequestReturn(return_id="r", lines=bagels(2)),
        c.ApproveReturn(return_id="r"),
    )
    receive = c.ReceiveReturn(receipt_id="p", return_id="r", lines=bagels(2), condition="sellable")
    back = scene.having(receive).order
    (restock,) = [step for step in back.steps.values() if isinstance(step, o.Restock)]
    assert {part.location: part.quantity for part in restock.held} == {"EAST": 1, "WEST": 1}
    elsewhere = scene.having(but(receive, location="NORTH")).order
    (restock,) = [step for step in elsewhere.steps.values() if isinstance(step, o.Restock)]
    assert {part.location for part in restock.held} == {"NORTH"}


# Payments


def test_reversed_capture_is_unpaid_until_the_customer_pays_otherwise() -> None:
    step_id = capture_of(a_sent_order)
    lost = a_sent_order.having(o.PaymentRefused(step_id=step_id, reason="reversed"))
    assert kinds(lost) == ["capture-reversed"]
    missing = unpaid(lost.order)
    assert missing == ledger.due(lost.order) - ledger.net_captured(lost.order) > 0
    lost.when(o.PaymentRefused(step_id=step_id, reason="reversed")).then()
    paid = lost.having(c.RetryPayment(method="pm_other")).settled()
    assert unpaid(paid.order) == 0
    assert ledger.captured(paid.order) == ledger.captured(a_sent_order.order)


@pytest.mark.parametrize("retry", [True, False])
def test_failed_refund_is_requested_again_or_was_paid_otherwise(retry: bool) -> None:
    failed, key = a_failed_refund(50)
    assert (kinds(failed), ledger.refunded(failed.order)) == (["refund-failed"], 0)
    assert not failed.order.steps, "it is not requested again by itself"
    resolve = c.ResolveDiscrepancy(discrepancy_id=key, reason="new account", retry=retry)
    resolved = failed.having(resolve)
    assert bool(resolved.order.steps) == retry
    assert ledger.refunded(resolved.settled().order) == 50


@pytest.mark.parametrize("since", [40, 15])
@pytest.mark.parametrize("by_chargeback", [False, True])
def test_failed_refund_that_was_refunded_since_counts_once(since: int, by_chargeback: bool) -> None:
    failed, key = a_failed_refund(40)
    due = ledger.due(failed.order)
    taken_back: o.StepResult = o.StepDone(step_id="dashboard-1", operation="refund", amount=since)
    if by_chargeback:
        taken_back = o.ChargebackReported(
            chargeback_id="c", state="lost", amount=since, reason="fraud"
        )
    refunded = failed.having(taken_back)
    assert (ledger.refunded(refunded.order), refunded.order.unrefunded) == (since, 40 - since)
    resolve = c.ResolveDiscrepancy(discrepancy_id=key, reason="the customer has it")
    refunded.when(resolve).then(
        e.DiscrepancyResolved(discrepancy_id=key, reason="the customer has it", amount=40 - since)
    )
    order = refunded.having(resolve).order
    assert (ledger.refunded(order), order.unrefunded, ledger.due(order)) == (40, 0, due)
    assert not order.steps


def test_failed_refund_is_not_booked_beyond_what_its_capture_has_left() -> None:
    failed, key = a_failed_refund(40)
    most = ledger.refundable(failed.order)
    disputed = o.ChargebackReported(
        chargeback_id="c", state="opened", amount=most - 10, reason="fraud"
    )
    resolve = c.ResolveDiscrepancy(discrepancy_id=key, reason="the customer has it")
    order = failed.having(disputed, resolve).order
    assert (ledger.refunded(order), order.unrefunded) == (10, 30)


def test_failed_refund_that_was_paid_since_leaves_others_what_they_wait_for() -> None:
    one, first = a_failed_refund(40)
    again = one.having(c.RefundPayment(refund_id="sorry-again", amount=30)).settled()
    (authorisation,) = again.order.authorisations.values()
    (step_id,) = authorisation.refunds
    both = again.having(o.RefundFailed(step_id=step_id, reason="account closed"))
    (second,) = both.order.discrepancies.keys() - {first}
    refunded = both.having(o.StepDone(step_id="dashboard-1", operation="refund", amount=40))
    assert (ledger.refunded(refunded.order), refunded.order.unrefunded) == (40, 30)

    otherwise = c.ResolveDiscrepancy(discrepancy_id=first, reason="the customer has it")
    resolved = refunded.having(otherwise)
    assert (ledger.refunded(resolved.order), resolved.order.unrefunded) == (40, 30)
    retry = c.ResolveDiscrepancy(discrepancy_id=second, reason="new account", retry=True)
    too_early = c.ResolveDiscrepancy(discrepancy_id=first, reason="new account", retry=True)
    assert not refunded.having(too_early).order.steps, "it was paid"
    retried = resolved.having(retry)
    step = retried.order.steps[retried.owed(o.Refund)]
    assert isinstance(step, o.Refund)
    assert step.amount == 30
    assert ledger.refunded(retried.settled().order) == 70


def test_failed_refund_that_was_paid_otherwise_as_a_whole_has_no_amount_in_its_event() -> None:
    """As in logs of before: versions of before the amount fold it, too."""
    failed, key = a_failed_refund(40)
    resolve = c.ResolveDiscrepancy(discrepancy_id=key, reason="the customer has it")
    resolved = e.DiscrepancyResolved(discrepancy_id=key, reason="the customer has it")
    failed.when(resolve).then(resolved)
    assert ledger.refunded(evolve(failed.order, resolved)) == 40


def test_refund_made_at_the_provider_counts_once_and_is_not_due_again() -> None:
    report = o.StepDone(step_id="dashboard-1", operation="refund", amount=30)
    recorded = a_sent_order.having(report)
    assert ledger.refunded(recorded.order) == 30
    assert not recorded.order.steps
    recorded.when(report).then()
    assert kinds(a_sent_order.having(but(report, amount=10**6))) == ["unknown-refund"]
    assert kinds(a_sent_order.having(but(report, amount=None))) == ["unknown-refund"]


def test_chargeback_is_shown_and_settled_by_its_outcome() -> None:
    opened = o.ChargebackReported(chargeback_id="c", state="opened", amount=100, reason="fraud")
    disputed = a_sent_order.having(opened)
    assert ledger.disputed(disputed.order) == 100
    most = ledger.refundable(a_sent_order.order)
    assert ledger.refundable(disputed.order) == most - 100
    won = disputed.having(but(opened, state="won")).order
    assert (ledger.disputed(won), ledger.refunded(won)) == (0, 0)
    lost = disputed.having(but(opened, state="lost")).order
    assert (ledger.disputed(lost), ledger.refunded(lost)) == (0, 100)


def test_expired_authorisation_is_replaced() -> None:
    (key,) = a_booked_order.order.authorisations
    expired = o.AuthorisationChanged(authorisation_id=key, amount=0, reason="expired")
    again = a_booked_order.having(expired)
    assert again.owed(o.Authorise)
    assert ledger.capturable(again.settled().order) == ledger.capturable(a_booked_order.order)


def test_unpaid_increment_reverts_the_amendment_alone() -> None:
    changes: list[c.Change] = [
        c.AddLine(line_id="wrap", sku="WRAP", title="gift wrap", quantity=1, unit_price=100),
        c.ChangeLine(line_id="tuna", unit_price=500),
    ]
    amended = a_booked_order.having(c.AmendOrder(amendment_id="gift", changes=changes))
    wrap = o.Held(line_id="wrap", sku="WRAP", location="EAST", quantity=1)
    amended = amended.having(o.StockHeld(step_id=amended.owed(o.Reserve), held=[wrap]))
    declined = o.PaymentRefused(step_id=amended.owed(o.Authorise), reason="no funds")
    order = passed(amended.having(declined)).settled().order
    assert order.status is Status.CONFIRMED
    assert order.total == a_booked_order.order.total
    assert order.lines["tuna"].terms == a_booked_order.order.lines["tuna"].terms
    assert not ledger.to_authorise(order)


def test_capture_that_is_done_after_it_was_declined_is_recorded() -> None:
    leaving = a_booked_order.having(c.DispatchShipment(shipment_id=BAGELS))
    key = leaving.owed(o.Capture)
    declined = leaving.having(o.PaymentRefused(step_id=key, reason="no funds"))
    done = declined.having(o.StepDone(step_id=key, operation="capture"))
    assert kinds(done) == ["captured-after-decline"]
    done.when(o.StepDone(step_id=key, operation="capture")).then()


def test_late_repetition_of_a_reversed_capture_or_refund_changes_nothing() -> None:
    step_id = capture_of(a_sent_order)
    reversed_ = a_sent_order.having(o.PaymentRefused(step_id=step_id, reason="reversed"))
    reversed_.when(o.StepDone(step_id=step_id, operation="capture")).then()
    refund = c.RefundPayment(refund_id="sorry", amount=50)
    refunded = a_sent_order.having(refund).settled()
    (authorisation,) = refunded.order.authorisations.values()
    (step_id,) = authorisation.refunds
    failed = refunded.having(o.RefundFailed(step_id=step_id, reason="account closed"))
    failed.when(o.StepDone(step_id=step_id, operation="refund", amount=50)).then()


@pytest.mark.parametrize("is_settled", [False, True])
def test_amount_that_differs_from_the_requested_one_is_recorded(is_settled: bool) -> None:
    """The report may come before the response to the call, or after it."""
    leaving = a_booked_order.having(c.DispatchShipment(shipment_id=BAGELS))
    refunding = a_sent_order.having(c.RefundPayment(refund_id="sorry", amount=50))
    for scene, step_id, operation, requested, moved in (
        (leaving, leaving.owed(o.Capture), "capture", 380, ledger.captured),
        (refunding, refunding.owed(o.Refund), "refund", 50, ledger.refunded),
    ):
        scene = scene.settled() if is_settled else scene
        report = o.StepDone.model_validate(
            {"step_id": step_id, "operation": operation, "amount": requested}
        )
        done = scene.having(report)
        assert (kinds(done), moved(done.order)) == ([], requested)
        other = but(report, amount=40)
        differing = scene.having(other)
        assert (kinds(differing), moved(differing.order)) == (["amount-differs"], requested)
        (entry,) = differing.order.discrepancies.values()
        assert entry.amount == 40
        differing.when(other).then()


@pytest.mark.parametrize("operation", ["capture", "refund", "void"])
def test_operation_that_is_not_that_of_the_step_leaves_it_pending(operation: str) -> None:
    """A carrier that was not heard of must not count as one that stopped a shipment."""
    leaving = a_booked_order.having(c.DispatchShipment(shipment_id=BAGELS))
    for scene in (leaving, a_cancelling_order):
        for key, step in scene.order.steps.items():
            if step.type == operation:
                continue
            report = o.StepDone.model_validate({"step_id": key, "operation": operation})
            reported = scene.having(report)
            assert reported.order.steps == scene.order.steps
            assert kinds(reported) == [f"unknown-{operation}"]
            reported.when(report).then()
            late = scene.settled().having(report)
            assert kinds(late) == [f"unknown-{operation}"]


# Settled by hand


def test_steps_are_settled_as_their_services_would() -> None:
    shipment = a_booked_order.having(c.DispatchShipment(shipment_id=BAGELS))
    settle = c.SettleStep(step_id=shipment.owed(o.Capture), outcome="done", reason="the bank says")
    settled = shipment.having(settle)
    assert ledger.captured(settled.order) > 0
    settled.when(settle).then()
    settled.when(but(settle, reason="another")).then_rejected(
        f"{settle.step_id} already exists, with other content",
        code="id-already-used",
        field="step_id",
    )


def test_essential_step_can_be_settled_as_done_only() -> None:
    withdraw = a_booked_order.having(c.DispatchShipment(shipment_id=TUNA)).owed(o.Withdraw)
    scene = a_booked_order.having(c.DispatchShipment(shipment_id=TUNA))
    scene.when(c.SettleStep(step_id=withdraw, outcome="failed", reason="no answer")).then_rejected(
        f"step {withdraw} can be settled as done only: the order cannot go on without it",
        code="outcome-not-possible",
        field="outcome",
    )
    reserve = c.SettleStep(step_id="reserve-7", outcome="done", reason="counted by hand")
    a_placed_order.when(reserve).then_rejected(
        "the location is needed to settle this step as done",
        code="settlement-incomplete",
        field="location",
    )
    assert a_placed_order.having(but(reserve, location="EAST")).order.lines["tuna"].reserved == {
        "EAST": 1
    }
