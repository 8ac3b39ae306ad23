"""Previews: what a command would do, in money."""

from __future__ import annotations

import pytest

from orders import commands as c
from orders import steps as o
from orders.commands import OrderCommand
from tests.support.given import NOW, Given, add_note
from tests.support.order_fixtures import a_booked_order, a_sent_order, cancel
from workflows.command_handler import preview
from workflows.messages import CommandBatch, Preview

SORRY = c.RefundPayment(refund_id="sorry", amount=40)
FAILED = "refund-failed:refund-29"


def previewed(scene: Given, command: OrderCommand) -> Preview:
    batch = CommandBatch(commands=[command], actor="operator", payload_hash="hash", attempt_id="a")
    return preview(batch, scene.order, NOW)


def resolved(retry: bool) -> c.ResolveDiscrepancy:
    return c.ResolveDiscrepancy(discrepancy_id=FAILED, reason="new account", retry=retry)


@pytest.mark.parametrize(
    ("command", "to_refund"),
    [
        (add_note, 0),
        (c.RefundPayment(refund_id="again", amount=10), 10),
        (resolved(retry=True), 40),
        (resolved(retry=False), 0),
    ],
    ids=lambda given: getattr(given, "type", given),
)
def test_failed_refund_is_to_be_refunded_only_if_it_is_requested_again(
    command: OrderCommand, to_refund: int
) -> None:
    refunded = a_sent_order.having(SORRY).settled()
    scene = refunded.having(o.RefundFailed(step_id="refund-29", reason="account closed"))
    found = previewed(scene, command)
    assert found.rejection is None
    assert found.to_refund == to_refund
    assert [step.type for step in found.steps] == ["refund"] * bool(to_refund)


def test_refund_counts_whether_it_is_requested_at_once_or_later() -> None:
    assert previewed(a_sent_order, SORRY).to_refund == 40
    requested = a_sent_order.having(SORRY)
    assert previewed(requested, add_note).to_refund == 0
    prepaid = a_booked_order.having(c.CapturePayment(capture_id="early")).settled()
    cancelled = previewed(prepaid, cancel)
    assert {step.type for step in cancelled.steps} == {"stop"}
    assert cancelled.to_refund == 400, "once the shipments are stopped"
