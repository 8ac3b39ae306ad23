"""What a change of rules declares to change, and whether a rehearsal found only that."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from field_errors import first_fault
from orders.models import StrictModel
from rehearsal.known_types import KnownTypes
from rehearsal.report import Report
from rehearsal.report_text import count_of, differ

_PERCENT = re.compile(r"([+-]?\d+(?:\.\d+)?) ?%")
ANY = "any"


def _percentage(text: str) -> str:
    if not _PERCENT.fullmatch(text):
        raise ValueError('must be a percentage such as "+0.2 %"')
    return text


def _percentage_or_any(text: str) -> str:
    if text != ANY and not _PERCENT.fullmatch(text):
        raise ValueError('must be a percentage such as "+0.2 %", or "any"')
    return text


def _count_or_share(value: object) -> object:
    is_count = type(value) is int and value >= 0
    is_share = isinstance(value, str) and _PERCENT.fullmatch(value) and _value(value) >= 0
    if not (is_count or is_share):
        raise ValueError('must be a number of orders, or a percentage of them such as "2 %"')
    return value


Percentage = Annotated[str, AfterValidator(_percentage)]


class ExpectationError(Exception):
    """A file that declares nothing that can be checked; a sentence says why."""


class Range(StrictModel):
    """How the sum of one kind of money may change, in each currency."""

    at_least: Percentage = "0 %"
    at_most: Annotated[str, AfterValidator(_percentage_or_any)] = "0 %"
    """"any" admits every rise, also that from nothing, which no percentage covers."""

    @model_validator(mode="after")
    def _has_an_inside(self) -> Range:
        if _value(self.at_least) > _value(self.at_most):
            raise ValueError(
                f"has an at_least of {self.at_least}, above its at_most of {self.at_most}"
            )
        return self

    def has(self, change: float) -> bool:
        """Whether a sum may change by `change` per cent."""
        return _value(self.at_least) <= change <= _value(self.at_most)

    def __str__(self) -> str:
        most = "or more" if self.at_most == ANY else f"to {self.at_most}"
        return f"{self.at_least} {most}"


class Orders(StrictModel):
    """Which orders may differ, and how many of all."""

    with_event: frozenset[str] = frozenset()
    at_most: Annotated[int | str | None, BeforeValidator(_count_or_share)] = None


class Commands(StrictModel):
    """Types of commands that may be accepted or rejected from now on."""

    accepted: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()


class Expectation(StrictModel):
    """The declaration. What it does not name must not change."""

    because: str
    orders: Orders = Orders()
    money: dict[Literal["authorised", "captured", "refunded", "voided"], Range] = Field(
        default_factory=dict
    )
    commands: Commands = Commands()
    statuses: Literal["same", "any"] = "same"


def read_expectation(file: Path) -> Expectation:
    """Raises ExpectationError."""
    try:
        declared = tomllib.loads(file.read_text())
        return Expectation.model_validate_json(json.dumps(declared, default=str))
    except OSError as error:
        raise ExpectationError(f"{file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExpectationError(f"{file} is not TOML: {error}.") from None
    except ValidationError as error:
        raise ExpectationError(f"{file}: {first_fault(error)}.") from None


def check_types(expected: Expectation, known: KnownTypes) -> None:
    """Raises ExpectationError for a type that does not exist, and so would permit nothing."""
    for where, declared, kind, types in (
        ("orders.with_event", expected.orders.with_event, "event", known.events),
        ("commands.accepted", expected.commands.accepted, "command", known.commands),
        ("commands.rejected", expected.commands.rejected, "command", known.commands),
    ):
        for name in sorted(declared - types):
            raise ExpectationError(f"{where} has {name}, but there is no such {kind}.")


def violations(expected: Expectation, found: Report) -> Iterator[str]:
    """What a rehearsal found that was not declared, each as a sentence."""
    if not found.orders:
        yield "No order was rehearsed."
    if found.not_rehearsed:
        yield f"{count_of(found.not_rehearsed)} could not be rehearsed."
    if found.stray:
        events = " or ".join(sorted(expected.orders.with_event))
        examples = ", ".join(found.strays[:3])
        yield f"{differ(found.stray)} without {events}, such as {examples}."
    most = expected.orders.at_most
    if most is not None and found.differing > _count(most, found.orders):
        yield f"{differ(found.differing)} of {found.orders:,}, and {most} may."
    yield from _money(expected, found)
    if found.flows and expected.statuses == "same":
        flow, count = found.flows.most_common(1)[0]
        others = count_of(found.flows.total())
        yield f"Other statuses, which are not declared, in {others}, such as {count:,} × {flow}."
    for now in ("accepted", "rejected"):
        allowed: frozenset[str] = getattr(expected.commands, now)
        if types := sorted(found.changed_commands.get(now, set()) - allowed):
            yield f"Commands are {now} that were not: {', '.join(types)}."


def _money(expected: Expectation, found: Report) -> Iterator[str]:
    for kind, currency, was, now in found.money_changes():
        allowed = next((r for name, r in expected.money.items() if name == kind), Range())
        change = 100 * (now - was) / was if was else math.inf
        if not allowed.has(change):
            found_change = f"by {change:+.2f} %" if was else "from nothing"
            yield (
                f"The money that is {kind} changes {found_change} in {currency}, and may change by"
                f" {allowed}."
            )


def _count(most: int | str, orders: int) -> float:
    return most if isinstance(most, int) else orders * _value(most) / 100


def _value(percentage: str) -> float:
    if percentage == ANY:
        return math.inf
    match = _PERCENT.fullmatch(percentage)
    assert match is not None
    return float(match[1])
