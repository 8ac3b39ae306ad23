"""The money of an order by its events, under any rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rehearsal.recorded import Fact

KINDS = ("authorised", "captured", "refunded", "voided")


@dataclass
class Money:
    """Amounts in minor units, by kind."""

    currency: str = ""
    amounts: Counter[str] = field(default_factory=Counter)


def money_of(events: Iterable[Fact]) -> Money:
    """What the payment service has done for an order, by its events."""
    money = Money()
    captures: dict[str, tuple[str, int]] = {}
    voids: dict[str, str] = {}
    left: Counter[str] = Counter()
    for type_, _, data in events:
        match type_:
            case "order-opened":
                money.currency = data["currency"]
            case "payment-authorised":
                money.amounts["authorised"] += data["amount"]
                left[data["step_id"]] += data["amount"]
            case "capture-requested":
                captures[data["step_id"]] = data["authorisation_id"], data["amount"]
                left[data["authorisation_id"]] -= data["amount"]
            case "capture-refused":
                authorisation_id, amount = captures[data["step_id"]]
                left[authorisation_id] += amount
            case "payment-captured":
                money.amounts["captured"] += data["amount"]
            case "payment-refunded":
                money.amounts["refunded"] += data["amount"]
            case "void-requested":
                voids[data["step_id"]] = data["authorisation_id"]
            case "payment-voided":
                money.amounts["voided"] += left[voids[data["step_id"]]]
    return money
