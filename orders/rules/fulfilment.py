"""The rules of a placed order: lifecycle, payment, shipments and returns."""

from __future__ import annotations

from datetime import datetime

from orders import commands as c
from orders import events as e
from orders import ledger
from orders.commands import OrderCommand
from orders.events import OrderEvent, line_counts
from orders.money import format_amount
from orders.order import Order
from orders.rules import returns, shipments
from orders.rules.amendments import decide_amendment
from orders.rules.cancellation import cancel
from orders.rules.checks import CommandRejected, check_pieces, fingerprint, require
from orders.rules.settlement import resolve_discrepancy, settle_step


def decide_fulfilment(command: OrderCommand, order: Order, now: datetime) -> list[OrderEvent]:
    """The events of a command on an order that has left the draft status."""
    match command:
        # Lifecycle
        case c.HoldOrder(reason=reason):
            return [e.OrderHeld(reason=reason)]
        case c.ReleaseOrder():
            return [e.OrderReleased()]
        case c.CancelOrder(reason=reason):
            return cancel(order, reason)
        case c.CancelLines():
            return _cancel_lines(command, order)
        case c.AmendOrder():
            return decide_amendment(command, order)
        case c.RetryStep(step_id=step_id):
            if step_id is not None:
                require(step_id, order.steps, "step_id")
            return [e.StepRetried(step_id=k) for k in order.stuck_steps if step_id in (None, k)]

        case c.SettleStep():
            return settle_step(command, order, now)
        case c.ResolveDiscrepancy():
            return resolve_discrepancy(command, order)

        # Decisions of the customer
        case c.AcceptShortfall():
            if order.awaiting != "shortfall":
                raise CommandRejected("the order has no shortfall to accept", "no-shortfall")
            return [e.ShortfallAccepted(lines=line_counts(order.missing()))]
        case c.RetryPayment(method=method):
            if order.awaiting != "payment":
                raise CommandRejected("no payment was declined", "no-declined-payment")
            return [e.PaymentRetried(method=method)]

        # Payment
        case c.CapturePayment():
            return _capture(command, order)
        case c.RefundPayment():
            return _refund(command, order)

        # Shipments
        case c.CreateShipment():
            return shipments.create(command, order)
        case c.DispatchShipment():
            return shipments.decide_dispatch(command, order)
        case c.ConfirmDelivery(shipment_id=shipment_id):
            return shipments.confirm_delivery(shipment_id, order, now)
        case c.ReportDeliveryFailure():
            return shipments.fail_delivery(command, order)

        # Returns
        case c.RequestReturn():
            return returns.request(command, order, now)
        case c.ApproveReturn(return_id=return_id):
            return returns.approve(return_id, order)
        case c.RejectReturn():
            return returns.reject(command, order)
        case c.ReceiveReturn():
            return returns.receive(command, order)
        case _:
            raise AssertionError(f"no rule for {command.type}")


def _cancel_lines(command: c.CancelLines, order: Order) -> list[OrderEvent]:
    most = {key: line.unshipped for key, line in order.lines.items()}
    wanted = check_pieces(command.lines, order.lines, most, "that have not left")
    return [
        e.LinesCancelled(
            cancellation_id=command.cancellation_id,
            lines=line_counts(wanted),
            reason=command.reason,
            fingerprint=fingerprint(command),
        )
    ]


def _capture(command: c.CapturePayment, order: Order) -> list[OrderEvent]:
    most = ledger.to_capture(order)
    amount = most if command.amount is None else command.amount
    if not 0 < amount <= most:
        raise CommandRejected(
            f"{format_amount(most, order.currency)} can be captured at most",
            "exceeds-authorised",
            None if command.amount is None else "amount",
        )
    return [
        e.AdvanceCaptureRequested(
            capture_id=command.capture_id, amount=amount, fingerprint=fingerprint(command)
        )
    ]


def goodwill_max(order: Order) -> int:
    """The most that can be refunded as goodwill: a refund that is due anyway is none."""
    return min(ledger.refundable(order), ledger.due(order))


def _refund(command: c.RefundPayment, order: Order) -> list[OrderEvent]:
    most = goodwill_max(order)
    if command.amount > most:
        raise CommandRejected(
            f"{format_amount(most, order.currency)} can be refunded at most",
            "exceeds-captured",
            "amount",
        )
    return [
        e.RefundGranted(
            refund_id=command.refund_id,
            amount=command.amount,
            reason=command.reason,
            fingerprint=fingerprint(command),
        )
    ]
