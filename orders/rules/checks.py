"""How a rule says no, and the checks that several rules share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, TypeVar

from orders.commands import LineQuantity, OrderCommand
from orders.money import formatted
from orders.order import Line

T = TypeVar("T")

# `api/problems/catalog.py` explains each of them to callers.
RejectionCode = Literal[
    "already-shipped",
    "currency-mismatch",
    "discount-exceeds-price",
    "discounts-exceed-total",
    "exceeds-authorised",
    "exceeds-captured",
    "id-already-used",
    "multiple-locations",
    "no-declined-payment",
    "no-lines",
    "no-shortfall",
    "not-allowed-now",
    "payment-pending",
    "return-decided",
    "return-not-approved",
    "return-received",
    "return-window-closed",
    "shipment-changing",
    "shipment-not-dispatched",
    "shipment-stopped",
    "too-many-discounts",
    "too-many-lines",
    "too-many-notes",
    "too-many-pieces",
    "total-too-large",
    "unknown-id",
]
_LIMIT_REACHED: dict[str, RejectionCode] = {
    "discounts": "too-many-discounts",
    "lines": "too-many-lines",
    "notes": "too-many-notes",
}


class CommandRejected(Exception):
    """A rule rejects a command.

    `code` is stable and meant for programs; `index` is the position of the command in its batch;
    `field` names the one field to change, if there is one.
    """

    def __init__(self, message: str, code: RejectionCode, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code: RejectionCode = code
        self.field = field
        self.index = 0


def require(key: str, entries: Mapping[str, T], field: str) -> T:
    if key not in entries:
        raise CommandRejected(
            f"the order has no {field.removesuffix('_id')} {key}", "unknown-id", field
        )
    return entries[key]


def check_id_free(
    key: str, entries: Mapping[str, object], removed: frozenset[str], field: str
) -> None:
    if key in entries:
        raise CommandRejected(
            f"{key} is already there, with other content", "id-already-used", field
        )
    if key in removed:
        raise CommandRejected(
            f"{key} was removed; an id is used once only", "id-already-used", field
        )


def check_capacity(entries: Mapping[str, object], most: int, what: str) -> None:
    if len(entries) >= most:
        raise CommandRejected(f"an order holds at most {most:,} {what}", _LIMIT_REACHED[what])


def check_line(line: Line, currency: str, field: str) -> None:
    worth = line.total - line.discount_share
    if worth < 0:
        raise CommandRejected(
            f"the discount makes the line {formatted(worth, currency)}; it cannot be negative",
            "discount-exceeds-price",
            field,
        )


def check_pieces(
    lines: list[LineQuantity], known: Mapping[str, Line], most: Mapping[str, int], what: str
) -> dict[str, int]:
    """The pieces by line, each at most as many as there are of `what`."""
    wanted: dict[str, int] = {}
    for part in lines:
        require(part.line_id, known, "line_id")
        wanted[part.line_id] = wanted.get(part.line_id, 0) + part.quantity
    for line_id, pieces in wanted.items():
        if pieces > most.get(line_id, 0):
            raise CommandRejected(
                f"line {line_id} has {most.get(line_id, 0)} pieces {what}, not {pieces}",
                "too-many-pieces",
                "lines",
            )
    return wanted


def fingerprint(command: OrderCommand) -> str:
    """Equal for the same content: tells a repeated command from another one under its id."""
    content = command.model_dump_json(exclude={"type", "currency"})
    return hashlib.sha256(content.encode()).hexdigest()[:16]
