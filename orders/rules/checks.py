"""How a rule says no, and the checks that several rules share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from orders.commands import LineQuantity, OrderCommand
from orders.money import formatted
from orders.order import Line

T = TypeVar("T")


class CommandRejected(Exception):
    """A rule says no.

    `code` is stable and meant for programs; `index` is the place of the command in its
    instruction; `field` names the one field to change, where there is one.
    """

    def __init__(self, message: str, code: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
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
        raise CommandRejected(f"an order holds at most {most:,} {what}", f"too-many-{what}")


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
