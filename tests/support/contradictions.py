"""Random orders whose services also report what contradicts the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from dev.random_orders import RandomOrder, random_command
from orders import commands as c
from orders import steps as o
from orders.decider import Message
from orders.events import OrderEvent
from orders.order import Order


def contradicted_order(
    start: int, moves: list[int], after_event: Callable[[Order, OrderEvent], None]
) -> RandomOrder:
    """An order that people and services treat without regard to what was reported before."""
    random = RandomOrder(after_event)
    random.start(Random(start))
    for move in moves:
        dice = Random(move)
        steps, chance = list(random.order.steps.values()), dice.random()
        if steps and chance < 0.4:
            random.send(_result(dice.choice(steps), dice))
        elif random.order.is_priced and chance < 0.7:
            random.send(dice.choice(list(_reports(random.order, dice))))
        elif chance < 0.75:
            random.pass_deadline()
        else:
            random.send(random_command(random, dice))
    return random


def _result(step: o.AnyStep, dice: Random) -> o.StepResult:
    """A result of a step, whatever the service reported before."""
    key, succeeds = step.step_id, dice.random() < 0.8
    match step:
        case o.Reserve(lines=lines):
            held = [o.Held(location=dice.choice(["EAST", "WEST"]), **dict(n)) for n in lines]
            return o.StockHeld(step_id=key, held=held if succeeds else held[:1])
        case o.Authorise() if succeeds:
            return o.PaymentApproved(step_id=key, reference="a")
        case o.Authorise() | o.Capture() if not succeeds:
            return o.PaymentRefused(step_id=key, reason="no funds")
        case o.Book() if succeeds:
            return o.BookingAccepted(step_id=key)
        case o.Book(shipment_id=shipment_id) | o.Stop(shipment_id=shipment_id) if not succeeds:
            return o.ShipmentDeparted(shipment_id=shipment_id)
        case _:
            return o.StepDone(step_id=key)


def _reports(order: Order, dice: Random) -> Iterator[Message]:
    """Reports that may contradict the order, and what a person may do about them."""
    yield from _shipment_reports(order, dice)
    yield from _payment_reports(order, dice)
    amount = dice.randint(1, 300)
    yield o.StockLost(loss_id=f"loss:{amount}", line_id="line-0", location="EAST", quantity=amount)
    for step_id in order.steps:
        yield c.SettleStep(
            step_id=step_id,
            outcome="done" if dice.random() < 0.5 else "failed",
            reason="by telephone",
            reference="by-hand",
            location="EAST",
        )
    for discrepancy_id, discrepancy in order.discrepancies.items():
        retry = discrepancy.kind == "refund-failed" and dice.random() < 0.5
        yield c.ResolveDiscrepancy(discrepancy_id=discrepancy_id, reason="settled", retry=retry)


def _shipment_reports(order: Order, dice: Random) -> Iterator[Message]:
    shipment_id = dice.choice([*order.shipments, "ghost"])
    some = [
        o.Piece(line_id=key, sku="", quantity=dice.randint(1, 5)) for key in [*order.lines, "ghost"]
    ]
    lines = dice.choice([None, [], some[:1], some])
    tracking = dice.choice([None, "T1", "T2"])
    yield o.ShipmentDeparted(shipment_id=shipment_id, tracking=tracking, lines=lines)
    yield o.ShipmentArrived(shipment_id=shipment_id)
    yield o.ShipmentLost(shipment_id=shipment_id, goods="returned")
    yield o.DeliveryDenied(shipment_id=shipment_id)


def _payment_reports(order: Order, dice: Random) -> Iterator[Message]:
    authorisation_id = dice.choice([*order.authorisations, "ghost"])
    captures = [key for a in order.authorisations.values() for key in a.captures]
    refunds = [key for a in order.authorisations.values() for key in a.refunds]
    amount = dice.randint(1, 300)
    yield o.PaymentApproved(step_id=authorisation_id, reference="late")
    yield o.PaymentRefused(step_id=dice.choice([*captures, authorisation_id]), reason="reversed")
    yield o.RefundFailed(step_id=dice.choice([*refunds, "ghost"]), reason="account closed")
    yield o.StepDone(step_id=f"elsewhere:{amount}", operation="refund", amount=amount)
    step_ids = ["elsewhere", *order.steps, *captures, *refunds]
    yield o.StepDone.model_validate(
        {
            "step_id": step_ids[amount % len(step_ids)],
            "operation": ("capture", "refund", "void")[amount % 3],
            "amount": amount,
        }
    )
    yield o.AuthorisationChanged(authorisation_id=authorisation_id, amount=amount, reason="shrunk")
    state = dice.choice(["opened", "won", "lost"])
    yield o.ChargebackReported.model_validate(
        {"chargeback_id": f"c{amount % 5}", "state": state, "amount": amount, "reason": "unknown"}
    )
