"""Return commands: what follows, when they are refused, when they stay quiet."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orders import commands as c
from orders import events as e
from orders import ledger
from orders.events import LineCount
from orders.lifecycle import Status
from orders.rules.checks import fingerprint
from tests.support.given import NOW, but
from tests.support.order_fixtures import (
    a_booked_order,
    a_completed_order,
    a_delivered_order,
    a_return_agreed,
    a_return_asked_for,
    a_sent_order,
    approve,
    ask_to_return,
    bagels,
    bagels_arrive,
    bagels_at,
    passed,
    tuna,
    tuna_arrives,
)

reject = c.RejectReturn(return_id="stale", reason="they are fresh")
it_came_back = c.ReceiveReturn(
    receipt_id="parcel", return_id="stale", lines=bagels(1), condition="sellable"
)
both_back = but(ask_to_return, lines=bagels(2))
both_agreed = a_delivered_order.having(both_back, approve)
one_bagel = [LineCount(line_id="bagels", quantity=1)]

# RequestReturn


def test_delivered_pieces_can_be_returned() -> None:
    a_delivered_order.when(ask_to_return).then(
        e.ReturnRequested(
            return_id="stale",
            lines=one_bagel,
            reason="stale",
            fingerprint=fingerprint(ask_to_return),
        )
    )


def test_only_delivered_pieces_without_a_return_can_be_returned() -> None:
    a_sent_order.having(tuna_arrives).when(ask_to_return).then_rejected(
        "line bagels has 0 pieces that can be returned, not 1",
        code="too-many-pieces",
        field="lines",
    )
    a_return_asked_for.when(but(both_back, return_id="more")).then_rejected(
        "line bagels has 1 pieces that can be returned, not 2",
        code="too-many-pieces",
        field="lines",
    )
    a_return_asked_for.having(reject).when(but(both_back, return_id="more")).then(
        e.ReturnRequested(
            return_id="more",
            lines=[LineCount(line_id="bagels", quantity=2)],
            reason="stale",
            fingerprint=fingerprint(but(both_back, return_id="more")),
        )
    )
    a_booked_order.when(but(ask_to_return, lines=tuna())).then_rejected(
        "line tuna has 0 pieces that can be returned, not 1", code="too-many-pieces", field="lines"
    )


def test_return_after_the_window_is_rejected() -> None:
    a_delivered_order.when(ask_to_return, now=NOW + timedelta(days=30)).then_rejected(
        "the time for returns is over", code="return-window-closed"
    )
    closed = passed(a_return_asked_for)
    closed.when(but(ask_to_return, return_id="more")).then_rejected(
        "the time for returns is over", code="return-window-closed"
    )
    a_completed_order.when(ask_to_return).then_rejected(
        "request-return is not allowed while the order is completed", code="not-allowed-now"
    )


def test_later_delivery_opens_the_window_again() -> None:
    milk = c.AddLine(line_id="milk", sku="995242", title="MILK", quantity=1, unit_price=0)
    more = passed(a_return_asked_for).having(c.AmendOrder(amendment_id="milk", changes=[milk]))
    (parcel,) = (s for s in more.settled().order.shipments.values() if "milk" in s.lines)
    arrived = more.settled().having(c.DispatchShipment(shipment_id=parcel.shipment_id)).settled()
    again = but(ask_to_return, return_id="sour", lines=[c.LineQuantity(line_id="milk", quantity=1)])
    arrived = arrived.having(c.ConfirmDelivery(shipment_id=parcel.shipment_id))
    assert arrived.having(again).order.returns["sour"].status == "requested"


def test_repeated_return_request_changes_nothing() -> None:
    a_return_asked_for.when(ask_to_return).then()
    a_return_agreed.having(it_came_back).when(ask_to_return).then()
    a_return_asked_for.when(both_back).then_rejected(
        "stale already exists, with other content", code="id-already-used", field="return_id"
    )


# ApproveReturn


def test_return_is_approved() -> None:
    a_return_asked_for.when(approve).then(e.ReturnApproved(return_id="stale"))


def test_rejected_or_unknown_return_cannot_be_approved() -> None:
    a_return_asked_for.having(reject).when(approve).then_rejected(
        "the return is rejected", code="return-decided", field="return_id"
    )
    a_delivered_order.when(approve).then_rejected(
        "the order has no return stale", code="unknown-id", field="return_id"
    )


def test_repeated_approval_changes_nothing() -> None:
    a_return_agreed.when(approve).then()
    a_return_agreed.having(it_came_back).when(approve).then()


# RejectReturn


def test_return_is_rejected() -> None:
    a_return_asked_for.when(reject).then(
        e.ReturnRejected(return_id="stale", reason="they are fresh")
    )
    a_return_agreed.when(reject).then(e.ReturnRejected(return_id="stale", reason="they are fresh"))


def test_return_that_never_arrives_can_be_rejected_to_end_the_order() -> None:
    half_back = passed(both_agreed.having(it_came_back).settled())
    assert half_back.order.status is Status.CONFIRMED
    half_back.when(reject).then(
        e.ReturnRejected(return_id="stale", reason="they are fresh"), e.OrderCompleted()
    )


def test_received_return_cannot_be_rejected() -> None:
    a_return_agreed.having(it_came_back).when(reject).then_rejected(
        "all of it came back", code="return-received", field="return_id"
    )


def test_repeated_rejection_changes_nothing() -> None:
    a_return_asked_for.having(reject).when(reject).then()
    both_agreed.having(it_came_back, reject).when(reject).then()


# ReceiveReturn


def test_sellable_return_is_refunded_and_restocked() -> None:
    a_return_agreed.when(it_came_back).then(
        e.ReturnReceived(
            receipt_id="parcel",
            return_id="stale",
            lines=one_bagel,
            condition="sellable",
            fingerprint=fingerprint(it_came_back),
        ),
        e.RestockRequested(step_id="restock-33", held=[bagels_at("EAST", 1)]),
        e.RefundRequested(step_id="refund-34", authorisation_id="authorise-9", amount=168),
    )


def test_damaged_return_is_refunded_only() -> None:
    damaged = but(it_came_back, condition="damaged")
    a_return_agreed.when(damaged).then(
        e.ReturnReceived(
            receipt_id="parcel",
            return_id="stale",
            lines=one_bagel,
            condition="damaged",
            fingerprint=fingerprint(damaged),
        ),
        e.RefundRequested(step_id="refund-33", authorisation_id="authorise-9", amount=168),
    )


def test_return_of_goods_captured_in_advance_is_refunded_exactly() -> None:
    early = a_booked_order.having(c.CapturePayment(capture_id="early")).settled()
    parcels = [c.DispatchShipment(shipment_id=key) for key in early.order.shipments]
    arrived = early.having(*parcels).settled().having(bagels_arrive, tuna_arrives)
    returned = arrived.having(ask_to_return, approve, it_came_back).settled().order
    assert ledger.refunded(returned) == 168
    assert ledger.net_captured(returned) == 400 - 168


@pytest.mark.parametrize("condition", ["sellable", "damaged"])
def test_only_approved_return_is_received_up_to_its_pieces(condition: str) -> None:
    came = but(it_came_back, condition=condition)
    a_return_asked_for.when(came).then_rejected(
        "the return is requested, not approved", code="return-not-approved", field="return_id"
    )
    a_return_agreed.when(but(came, lines=bagels(2))).then_rejected(
        "line bagels has 1 pieces still to come back, not 2", code="too-many-pieces", field="lines"
    )
    a_return_agreed.when(but(came, lines=tuna())).then_rejected(
        "line tuna has 0 pieces still to come back, not 1", code="too-many-pieces", field="lines"
    )
    a_delivered_order.when(came).then_rejected(
        "the order has no return stale", code="unknown-id", field="return_id"
    )


def test_repeated_receipt_changes_nothing() -> None:
    once = both_agreed.having(it_came_back)
    once.when(it_came_back).then()
    once.having(but(it_came_back, receipt_id="second")).when(it_came_back).then()
    once.when(but(it_came_back, condition="damaged")).then_rejected(
        "parcel already exists, with other content", code="id-already-used", field="receipt_id"
    )


def test_parts_of_a_line_are_refunded_to_the_cent() -> None:
    second = but(it_came_back, receipt_id="second")
    order = both_agreed.having(it_came_back).settled().having(second).settled().order
    assert ledger.refunded(order) == 336
    assert order.returns["stale"].status == "received"
