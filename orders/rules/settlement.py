"""The rules by which a person settles what services and the order do not agree on."""

from __future__ import annotations

from datetime import datetime

from orders import commands as c
from orders import events as e
from orders import steps as o
from orders.entities import REFUND_FAILED, Discrepancy
from orders.events import OrderEvent
from orders.evolve import evolve
from orders.order import Order
from orders.rules.checks import CommandRejected, fingerprint, require
from orders.rules.results import decide_result


def settle_step(command: c.SettleStep, order: Order, now: datetime) -> list[OrderEvent]:
    """The events of the result that the service would have given, after who settled it and why."""
    step = require(command.step_id, order.steps, "step_id")
    result = _result(command, step, order)
    settled = e.StepSettled(
        step_id=command.step_id,
        outcome=command.outcome,
        reason=command.reason,
        fingerprint=fingerprint(command),
    )
    return [settled, *decide_result(result, evolve(order, settled), now)]


def resolve_discrepancy(command: c.ResolveDiscrepancy, order: Order) -> list[OrderEvent]:
    known = require(command.discrepancy_id, order.discrepancies, "discrepancy_id")
    if command.retry and known.kind != REFUND_FAILED:
        raise CommandRejected(
            "only a failed refund can be requested again", "outcome-not-possible", "retry"
        )
    return [
        e.DiscrepancyResolved(
            discrepancy_id=command.discrepancy_id,
            reason=command.reason,
            retry=command.retry or None,
            amount=_part_of(known, order, command.retry),
        )
    ]


def _part_of(known: Discrepancy, order: Order, retry: bool) -> int | None:
    """What of a failed refund counts as paid by this, or is requested again, if not all of it.

    The provider or the bank may have paid of it since; what other failed refunds wait for is
    theirs. None also for other discrepancies, which move no money.
    """
    if known.kind != REFUND_FAILED or known.amount is None or known.authorisation_id is None:
        return None
    of_others = sum(
        other.amount or 0
        for other in order.discrepancies.values()
        if other.kind == REFUND_FAILED and other is not known
    )
    part = max(0, min(known.amount, order.unrefunded - of_others))
    if not retry:
        part = min(part, order.authorisations[known.authorisation_id].refundable)
    return part if part != known.amount else None


def _result(command: c.SettleStep, step: o.AnyStep, order: Order) -> o.StepResult:
    key, done = step.step_id, command.outcome == "done"
    match step:
        case o.Reserve(lines=lines):
            location = _given(command.location, "location") if done else ""
            held = [o.Held(location=location, **dict(piece)) for piece in lines] if done else []
            return o.StockHeld(step_id=key, held=held)
        case o.Authorise() if done:
            reference = _given(command.reference, "reference")
            return o.PaymentApproved(step_id=key, reference=reference)
        case o.Authorise() | o.Capture() if not done:
            return o.PaymentRefused(step_id=key, reason=command.reason)
        case o.Book() if done:
            return o.BookingAccepted(step_id=key, tracking=command.reference)
        case o.Stop(shipment_id=shipment_id) if not done:
            return o.ShipmentDeparted(shipment_id=shipment_id, tracking=command.reference)
        case _ if done:
            return o.StepDone(step_id=key)
        case _:
            raise CommandRejected(
                f"step {key} can be settled as done only: the order cannot go on without it",
                "outcome-not-possible",
                "outcome",
            )


def _given(value: str | None, field: str) -> str:
    if value is None:
        raise CommandRejected(
            f"the {field} is needed to settle this step as done", "settlement-incomplete", field
        )
    return value
