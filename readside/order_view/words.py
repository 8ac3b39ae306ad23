"""What sentences about an order have in common: amounts, times, titles, and texts of people."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import TypeVar

from orders import events as e
from orders.events import LineCount, OrderEvent
from orders.money import format_amount
from orders.steps import Held, Service

SERVICE_NAMES: Mapping[Service, str] = {
    "stock": "the stock service",
    "payments": "the payment service",
    "shipping": "the shipping service",
}
NAMING = ("order-opened", "item-added", "order-amended", "amendment-reverted")
"""The types of the events that give an order its currency and its lines their titles."""

Part = TypeVar("Part")
LISTED_MAX = 4
"""The parts that one sentence lists."""


@dataclass(frozen=True)
class Words:
    """What the sentences about an order have in common."""

    currency: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Of lines, by line id; a line without one is called by its id."""
    zone: tzinfo = UTC

    def after(self, event: OrderEvent) -> Words:
        """The words for what follows an event."""
        match event:
            case e.OrderOpened(currency=currency):
                return replace(self, currency=currency)
            case e.ItemAdded(line_id=line_id, title=title):
                return replace(self, titles={**self.titles, line_id: title})
            case e.OrderAmended(lines=lines) | e.AmendmentReverted(lines=lines):
                amended = {line.line_id: line.title for line in lines}
                return replace(self, titles={**self.titles, **amended})
        return self

    def money(self, amount: int) -> str:
        return format_amount(amount, self.currency)

    def time(self, at: datetime) -> str:
        """Such as "4 December 2026, 14:05 UTC"."""
        here = at.astimezone(self.zone)
        return f"{here.day} {here:%B %Y, %H:%M %Z}"

    def title(self, line_id: str) -> str:
        return as_written(self.titles.get(line_id, line_id))

    def pieces(self, lines: Sequence[LineCount | Held]) -> str:
        """Such as "2 × Bagels at EAST and 1 × Tuna at WEST"; of many, the first ones."""
        listed, rest = first_of(lines)
        others = sum(line.quantity for line in rest)
        return joined([*map(self._piece, listed), *others_of(others, "piece")]) or "nothing"

    def _piece(self, line: LineCount | Held) -> str:
        where = f" at {as_written(line.location)}" if isinstance(line, Held) else ""
        return f"{line.quantity} × {self.title(line.line_id)}{where}"


def clause(text: str) -> str:
    """What a person or a service wrote, as a part of a sentence."""
    return as_written(text.rstrip("."))


def as_written(text: str) -> str:
    """What a person wrote, so that its direction of writing does not reach the rest of a sentence.

    Only a text that is not written from left to right is changed: it gets marks around it, and
    loses those within.
    """
    if not any(unicodedata.bidirectional(character) in _DIRECTED for character in text):
        return text
    return f"\u2068{text.translate(_NO_MARKS)}\u2069"


_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_NO_MARKS = dict.fromkeys(map(ord, _MARKS))
_DIRECTED = {"R", "AL", "AN", *(unicodedata.bidirectional(mark) for mark in _MARKS)} - {"L"}


def first_of(parts: Sequence[Part]) -> tuple[Sequence[Part], Sequence[Part]]:
    """The parts that a sentence lists, and the rest, which it counts."""
    kept = len(parts) if len(parts) <= LISTED_MAX else LISTED_MAX - 1
    return parts[:kept], parts[kept:]


def others_of(number: int, noun: str) -> list[str]:
    """Such as "495 other pieces"; empty if there are none."""
    return [f"{number:,} other {noun}{'s' * (number != 1)}"] if number else []


def joined(parts: Sequence[str]) -> str:
    """Such as "a, b and c"."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
