"""The rules of a placed order: lifecycle, payment, shipments and returns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from orders import commands as c
from orders import events as e
from orders import ledger
from orders.commands import OrderCommand
from orders.events import OrderEvent
from orders.money import formatted
from orders.order import Order, Shipment, Status
from orders.policy import Policy
from orders.rules.amendments import decide_amendment
from orders.rules.checks import CommandRejected, check_pieces, fingerprint, require
from orders.rules.process import counts, step_id
from orders.steps import Held


def decide_fulfilment(command: OrderCommand, order: Order, now: datetime) -> list[OrderEvent]:
    """The events that a command to an order causes that is no draft any more."""
    match command:
        case c.HoldOrder(reason=reason):
            return [e.OrderHeld(reason=reason)]
        case c.ReleaseOrder():
            return [e.OrderReleased()]
        case c.CancelOrder(reason=reason):
            return cancel(order, reason)
        case c.CancelLines(lines=lines):
            most = {key: line.unshipped for key, line in order.lines.items()}
            wanted = check_pieces(lines, order.lines, most, "that have not left")
            return [
                e.LinesCancelled(
                    cancellation_id=command.cancellation_id,
                    lines=counts(wanted),
                    reason=command.reason,
                    fingerprint=fingerprint(command),
                )
            ]
        case c.AcceptShortfall():
            if order.awaiting != "shortfall":
                raise CommandRejected("the order waits for no such answer", "no-shortfall")
            return [e.ShortfallAccepted(lines=counts(order.missing()))]
        case c.RetryPayment(method=method):
            if order.awaiting != "payment":
                raise CommandRejected("no payment was declined", "no-declined-payment")
            return [e.PaymentRetried(method=method)]
        case c.CapturePayment():
            return _captured(command, order)
        case c.RefundPayment():
            return _refunded(command, order)
        case c.AmendOrder():
            return decide_amendment(command, order)
        case c.CreateShipment():
            return _shipment_created(command, order)
        case c.DispatchShipment(shipment_id=shipment_id, tracking=tracking):
            shipment = require(shipment_id, order.shipments, "shipment_id")
            return _dispatched(shipment, tracking, order)
        case c.ConfirmDelivery(shipment_id=shipment_id):
            _check_on_its_way(require(shipment_id, order.shipments, "shipment_id"))
            return_by = now + timedelta(seconds=policy_of(order).return_window)
            return [e.ShipmentDelivered(shipment_id=shipment_id, return_by=return_by)]
        case c.ReportDeliveryFailure(shipment_id=shipment_id, reason=reason, goods=goods):
            shipment = require(shipment_id, order.shipments, "shipment_id")
            _check_on_its_way(shipment)
            failed = e.DeliveryFailed(shipment_id=shipment_id, goods=goods, reason=reason)
            lost = goods == "lost"
            held = [] if lost else held_at(shipment.location, shipment.lines, order)
            return [failed, *_restocked(held, order, after=1)]
        case c.RequestReturn():
            return _return_requested(command, order, now)
        case c.ApproveReturn(return_id=return_id):
            back = require(return_id, order.returns, "return_id")
            if back.status != "requested":
                raise CommandRejected(f"the return is {back.status}", "return-decided", "return_id")
            return [e.ReturnApproved(return_id=return_id)]
        case c.RejectReturn(return_id=return_id, reason=reason):
            back = require(return_id, order.returns, "return_id")
            if back.status == "received":
                raise CommandRejected("all of it came back", "return-received", "return_id")
            return [e.ReturnRejected(return_id=return_id, reason=reason)]
        case c.ReceiveReturn():
            return _return_received(command, order)
        case c.RetryStep(step_id=one):
            if one is not None:
                require(one, order.steps, "step_id")
            return [e.StepRetried(step_id=key) for key in order.stuck_steps if one in (None, key)]
        case _:
            raise AssertionError(f"no rule for {command.type}")


def cancel(order: Order, reason: str | None) -> list[OrderEvent]:
    """Calls a whole order off; at once, where nobody outside has to be asked."""
    if order.status is Status.DRAFT or order.policy is None:
        return [e.OrderCancelled(reason=reason)]
    if any(line.shipped for line in order.lines.values()):
        raise CommandRejected(
            "pieces have left already; call off the others with cancel-lines", "already-shipped"
        )
    return [e.OrderCancellationRequested(reason=reason)]


def policy_of(order: Order) -> Policy:
    """An order without a policy gets no command or result that would need one."""
    assert order.policy is not None
    return order.policy


# Payment


def _captured(command: c.CapturePayment, order: Order) -> list[OrderEvent]:
    most = ledger.to_capture(order)
    amount = most if command.amount is None else command.amount
    if not 0 < amount <= most:
        raise CommandRejected(
            f"{formatted(most, order.currency)} can be captured at most",
            "exceeds-authorised",
            None if command.amount is None else "amount",
        )
    return [
        e.AdvanceCaptureRequested(
            capture_id=command.capture_id, amount=amount, fingerprint=fingerprint(command)
        )
    ]


def _refunded(command: c.RefundPayment, order: Order) -> list[OrderEvent]:
    # What is due to the customer anyway is not for goodwill to give.
    most = min(ledger.refundable(order), ledger.due(order))
    if command.amount > most:
        raise CommandRejected(
            f"{formatted(most, order.currency)} can be refunded at most",
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


# Shipments


def _shipment_created(command: c.CreateShipment, order: Order) -> list[OrderEvent]:
    if ledger.to_authorise(order):
        raise CommandRejected("the order waits for its payment", "payment-pending")
    most = {key: min(line.reserved_quantity, line.unshipped) for key, line in order.lines.items()}
    wanted = check_pieces(command.lines, order.lines, most, "in stock for it")
    location = next(
        (
            place
            for place in sorted({key for line in order.lines.values() for key in line.reserved})
            if all(order.lines[key].reserved.get(place, 0) >= n for key, n in wanted.items())
        ),
        None,
    )
    if location is None:
        raise CommandRejected(
            "the pieces are at several stock locations; each needs a shipment of its own",
            "multiple-locations",
            "lines",
        )
    # Older shipments make room for it, and it is booked once they are sure not to take it along.
    return [
        e.ShipmentCreated(
            shipment_id=command.shipment_id,
            location=location,
            lines=counts(wanted),
            fingerprint=fingerprint(command),
        )
    ]


def _dispatched(shipment: Shipment, tracking: str | None, order: Order) -> list[OrderEvent]:
    if shipment.status != "planned":
        raise CommandRejected(
            f"shipment {shipment.shipment_id} is {shipment.status}",
            "shipment-stopped",
            "shipment_id",
        )
    if shipment.may_ship_excess or not shipment.confirmed_lines:
        raise CommandRejected(
            f"shipment {shipment.shipment_id} is being changed; try again in a moment",
            "shipment-changing",
            "shipment_id",
        )
    return dispatch(shipment, shipment.lines, tracking, order)


def dispatch(
    shipment: Shipment,
    lines: Mapping[str, int],
    tracking: str | None,
    order: Order,
    after: int = 0,
) -> list[OrderEvent]:
    """A shipment has left with these pieces, and their stock with it."""
    left: list[OrderEvent] = [
        e.ShipmentDispatched(
            shipment_id=shipment.shipment_id, lines=counts(dict(lines)), tracking=tracking
        )
    ]
    held = held_at(
        shipment.location,
        {
            key: min(n, order.lines[key].reserved.get(shipment.location, 0))
            for key, n in lines.items()
        },
        order,
    )
    if held:
        withdrawal = step_id("withdraw", order, after + 1)
        left.append(e.StockWithdrawalRequested(step_id=withdrawal, held=held))
    return left


def held_at(location: str, pieces: Mapping[str, int], order: Order) -> list[Held]:
    return [
        Held(line_id=key, sku=order.lines[key].sku, location=location, quantity=n)
        for key, n in pieces.items()
        if n
    ]


def _check_on_its_way(shipment: Shipment) -> None:
    if shipment.status != "dispatched":
        raise CommandRejected(
            f"shipment {shipment.shipment_id} is {shipment.status}, not on its way",
            "shipment-not-dispatched",
            "shipment_id",
        )


# Returns


def _return_requested(command: c.RequestReturn, order: Order, now: datetime) -> list[OrderEvent]:
    if order.return_window_closed or (order.return_by and now >= order.return_by):
        raise CommandRejected("the time for returns is over", "return-window-closed")
    expected = [back.outstanding for back in order.returns.values()]
    most = {
        key: line.delivered - line.returned - sum(open.get(key, 0) for open in expected)
        for key, line in order.lines.items()
    }
    wanted = check_pieces(command.lines, order.lines, most, "that can be returned")
    return [
        e.ReturnRequested(
            return_id=command.return_id,
            lines=counts(wanted),
            reason=command.reason,
            fingerprint=fingerprint(command),
        )
    ]


def _return_received(command: c.ReceiveReturn, order: Order) -> list[OrderEvent]:
    back = require(command.return_id, order.returns, "return_id")
    if back.status != "approved":
        raise CommandRejected(
            f"the return is {back.status}, not approved", "return-not-approved", "return_id"
        )
    wanted = check_pieces(command.lines, order.lines, back.outstanding, "still to come back")
    received = e.ReturnReceived(
        receipt_id=command.receipt_id,
        return_id=command.return_id,
        lines=counts(wanted),
        condition=command.condition,
        fingerprint=fingerprint(command),
    )
    held = [
        part
        for key, pieces in wanted.items()
        for part in held_at(_came_from(key, order), {key: pieces}, order)
    ]
    return [received, *_restocked(held if command.condition == "sellable" else [], order, after=1)]


def _restocked(held: list[Held], order: Order, after: int) -> list[OrderEvent]:
    if not held:
        return []
    return [e.RestockRequested(step_id=step_id("restock", order, after), held=held)]


def _came_from(line_id: str, order: Order) -> str:
    """The stock location that delivered pieces of a line; the latest, where there were several."""
    return next(
        s.location
        for s in reversed(list(order.shipments.values()))
        if s.status == "delivered" and line_id in s.lines
    )
