"""What the payment service has done with an order's money, from its events; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from orders import events as e
from orders.events import OrderEvent
from orders.upcasting import UnreadableEvent
from readside.order_view.view import StoredEvent

TransactionType = Literal[
    "payment-authorised",
    "payment-declined",
    "payment-captured",
    "capture-refused",
    "capture-reversed",
    "payment-voided",
    "payment-refunded",
    "refund-reversed",
    "refund-recorded",
    "authorisation-reduced",
    "chargeback-opened",
    "chargeback-closed",
]
"""The types of the events that say what the payment service did."""
TYPES: tuple[TransactionType, ...] = get_args(TransactionType)
REQUESTS = ("authorisation-requested", "capture-requested", "refund-requested", "void-requested")
"""The types of the events that ask it to."""


class Transaction(NamedTuple):
    """One thing that the payment service did or refused."""

    version: int
    at: datetime
    type: str
    amount: int | None
    """In minor units; None for a void, which is of all that is left."""
    authorisation_id: str
    reference: str | None
    """The payment service's own, of the authorisation; None if it has declined it."""
    step_id: str | None
    """The step that asked for it; None if it was not asked for."""


class _About(NamedTuple):
    """What a transaction is about: that of a step, or of a chargeback."""

    authorisation_id: str
    amount: int | None


_UNKNOWN = _About("", None)


def transactions(stream: Iterable[StoredEvent]) -> list[Transaction]:
    """The transactions of an order, from its events of TYPES and REQUESTS."""
    about: dict[str, _About] = {}
    references: dict[str, str] = {}
    found: list[Transaction] = []
    for stored in stream:
        try:
            event = stored.event()
        except UnreadableEvent:
            continue
        match event:
            case e.AuthorisationRequested(step_id=step_id, amount=amount):
                about[step_id] = _About(step_id, amount)
            case e.CaptureRequested() | e.RefundRequested():
                about[event.step_id] = _About(event.authorisation_id, event.amount)
            case e.VoidRequested(step_id=step_id, authorisation_id=authorisation_id):
                about[step_id] = _About(authorisation_id, None)
            case e.PaymentAuthorised(step_id=step_id, reference=reference):
                references[step_id] = reference
            case e.ChargebackOpened(chargeback_id=key, authorisation_id=authorisation_id):
                about[key] = _About(authorisation_id, event.amount)
        if event.type in TYPES:
            found.append(_transaction(stored, event, about, references))
    return found


def _transaction(
    stored: StoredEvent, event: OrderEvent, about: dict[str, _About], references: dict[str, str]
) -> Transaction:
    step_id: str | None = getattr(event, "step_id", None)
    known = about.get(step_id or str(getattr(event, "chargeback_id", "")), _UNKNOWN)
    authorisation_id = getattr(event, "authorisation_id", known.authorisation_id)
    return Transaction(
        version=stored.version,
        at=stored.occurred_at,
        type=event.type,
        amount=getattr(event, "amount", known.amount),
        authorisation_id=authorisation_id,
        reference=references.get(authorisation_id),
        step_id=step_id,
    )
