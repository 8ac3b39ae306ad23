"""What an order waits for, and why, in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator

from orders.lifecycle import ENDED, Status
from readside.order_view.document import Deadline, OrderDocument, PendingStep
from readside.order_view.sentences import Words

STEPS = {
    "reserve": "the stock service: it has to reserve pieces",
    "release": "the stock service: it has to release pieces",
    "withdraw": "the stock service: it has to take dispatched pieces off its books",
    "restock": "the stock service: it has to put pieces back",
    "authorise": "the payment service: it has to authorise the payment",
    "capture": "the payment service: it has to capture money",
    "void": "the payment service: it has to void what is not captured",
    "refund": "the payment service: it has to refund money",
    "book": "the shipping service: it has to book a shipment",
    "stop": "the shipping service: it has to stop a shipment",
}
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
        if attention.kind != "stuck-step":
            amount = f", {words.money(attention.amount)}" if attention.amount else ""
            yield f"a person: {attention.reason}{amount}; {attention.remedy}"
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


def _step(step: PendingStep) -> str:
    stuck = f"; it is stuck: {step.reason.rstrip('.')}" if step.reason else ""
    return f"{STEPS[step.type]}{stuck}"


def _deadline(deadline: Deadline, words: Words) -> str:
    return f"{words.time(deadline.at)}: then {DEADLINES[deadline.name]}"
