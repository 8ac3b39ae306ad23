"""Discrepancies: reports of external services that contradict the order, for a person to settle."""

from __future__ import annotations

import hashlib
import re

from orders import events as e
from orders.events import OrderEvent, client_key
from orders.order import Order
from orders.text import ID_CHARACTERS_MAX

STEP_KINDS = (
    *("authorise", "book", "capture", "refund", "release", "reserve", "restock", "stop", "void"),
    "withdraw",
)
PAYMENTS, STOCK, SHIPPING = "payments", "stock", "shipping"


def discrepancy(
    order: Order,
    service: str,
    kind: str,
    subject: str,
    summary: str,
    amount: int | None = None,
    authorisation_id: str | None = None,
) -> list[OrderEvent]:
    """Records a contradiction once for its kind and subject, such as a shipment or step id."""
    if is_recorded(kind, subject, order):
        return []
    return [
        e.DiscrepancyRecorded(
            discrepancy_id=_id(kind, subject),
            kind=kind,
            service=service,
            summary=summary,
            amount=amount,
            authorisation_id=authorisation_id,
            fingerprint="",
        )
    ]


def is_recorded(kind: str, subject: str, order: Order) -> bool:
    """Whether a contradiction was recorded, resolved or not."""
    return client_key("discrepancy_id", _id(kind, subject)) in order.client_ids


def _id(kind: str, subject: str) -> str:
    plain = f"{kind}:{subject}"
    if len(plain) <= ID_CHARACTERS_MAX and re.fullmatch(r"[A-Za-z0-9._:~|-]+", plain):
        return plain
    return f"{kind}:{hashlib.sha256(subject.encode()).hexdigest()[:16]}"


def was_requested(step_id: str, order: Order) -> bool:
    """Whether a step that the order does not wait for is one that it once requested.

    Steps are named after the version of the event that requests them.
    """
    match = re.fullmatch(rf"(?:{'|'.join(STEP_KINDS)})-([0-9]{{1,9}})", step_id)
    return match is not None and int(match[1]) <= order.version
