"""What an order waits for, and why, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator

from orders.lifecycle import ENDED, Status
from orders.steps import SERVICE_OF_STEP
from readside.order_view.document import Deadline, OrderDocument, PendingStep
from readside.order_view.words import SERVICE_NAMES, Words, clause

STEPS = {
    "reserve": "reserve pieces",
    "release": "release pieces",
    "withdraw": "take dispatched pieces off its books",
    "restock": "put pieces back",
    "authorise": "authorise the payment",
    "capture": "capture money",
    "void": "void what is not captured",
    "refund": "refund money",
    "book": "book a shipment",
    "stop": "stop a shipment",
}
"""By the type of a step, what its service has to do."""
DECISIONS = {
    "payment": "the customer: the payment was declined, and another method is needed",
    "shortfall": "the customer: not all pieces are in stock, and a decision is needed",
}
DEADLINES = {
    "draft": "it expires",
    "payment-answer": "the order goes on without the customer's answer",
    "shortfall-answer": "the order goes on without the customer's answer",
    "capture": "the authorised money is captured, before the authorisation ends",
    "return-window": "the time for returns is over",
}
_SHIPMENTS = {"planned": "it has to leave", "dispatched": "it has to arrive"}


def waits(order: OrderDocument, words: Words, orphaned: str | None = None) -> Iterator[str]:
    """Each thing that the order waits for, as the end of "It waits for"; none if it is at rest."""
    if orphaned is not None:
        yield f"an operator: no workflow runs it ({orphaned}); `orderly resume` continues it"
    for step in order.pending:
        yield _step(step)
    for attention in order.needs_attention:
        if attention.kind not in ("stuck-step", "orphaned"):
            amount = f", {words.money(attention.amount)}" if attention.amount else ""
            yield f"a person: {clause(attention.reason)}{amount}; {attention.remedy}"
    if order.awaits is not None:
        yield DECISIONS[order.awaits]
    if order.status == Status.ON_HOLD:
        yield "an operator: it is on hold, and `release-order` continues it"
    if order.status == Status.DRAFT:
        yield "the customer: `place-order` places it"
    booking = {"book", "stop"} & {step.type for step in order.pending}
    for shipment in order.shipments:
        if shipment.status in _SHIPMENTS and not booking and order.status not in ENDED:
            yield f"shipment {shipment.shipment_id}: {_SHIPMENTS[shipment.status]}"
    if order.deadline is not None:
        yield _deadline(order.deadline, words)


def service_of(step_type: str) -> str:
    """The service of a type of step, in words."""
    return SERVICE_NAMES[SERVICE_OF_STEP[step_type]]


def _step(step: PendingStep) -> str:
    stuck = f"; it is stuck: {clause(step.reason)}" if step.reason else ""
    return f"{service_of(step.type)}: it has to {STEPS[step.type]}{stuck}"


def _deadline(deadline: Deadline, words: Words) -> str:
    return f"{words.time(deadline.at)}: then {DEADLINES[deadline.name]}"
