"""The orders' own ledgers beside the books of payments and stock, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dev.demo.expected import Difference, amounts, count
from dev.demo.http_client import Json
from dev.demo.order_session import promised
from orders.money import formatted

MONEY = ("captured", "refunded", "authorised")
PIECES = ("held", "withdrawn", "returned")


@dataclass(frozen=True)
class Ledger:
    """Money in minor units by kind and currency, pieces by kind and SKU; zeros are left out."""

    money: Counter[tuple[str, str]] = field(default_factory=Counter)
    pieces: Counter[tuple[str, str]] = field(default_factory=Counter)

    def told(self, kind: str) -> str:
        """What it comes to of one kind: "12.50 USD", "3 pieces"."""
        if kind in MONEY:
            return amounts({code: n for (what, code), n in self.money.items() if what == kind})
        return count(sum(n for (what, _), n in self.pieces.items() if what == kind), "piece")


def of_orders(orders: Iterable[Json]) -> dict[str, Ledger]:
    """What the orders say of themselves, by order; `authorised` is what can still be captured."""
    return {order["order_id"]: _of_order(order) for order in orders}


def _of_order(order: Json) -> Ledger:
    payment, code = order["payment"], order["currency"]
    ledger = Ledger()
    ledger.money["captured", code] = payment["captured"]
    ledger.money["refunded", code] = payment["refunded"]
    ledger.money["authorised", code] = promised(order)
    for line in order["lines"]:
        ledger.pieces["held", line["sku"]] += line["reserved"]
        ledger.pieces["withdrawn", line["sku"]] += line["shipped"]
        ledger.pieces["returned", line["sku"]] += line["returned"]
    return _without_zeros(ledger)


def of_services(payments: Mapping[str, Any], stock: Mapping[str, Any]) -> dict[str, Ledger]:
    """What the services' books say, by order."""
    ledgers = {order_id: Ledger() for order_id in [*payments, *stock]}
    for order_id, row in payments.items():
        for kind in MONEY:
            ledgers[order_id].money[kind, row["currency"]] = row[kind]
    for order_id, kinds in stock.items():
        for kind in PIECES:
            for sku, pieces in kinds[kind].items():
                ledgers[order_id].pieces[kind, sku] = pieces
    return {order_id: _without_zeros(ledger) for order_id, ledger in ledgers.items()}


def sums(ledgers: Iterable[Ledger]) -> Ledger:
    """All of them in one."""
    total = Ledger()
    for ledger in ledgers:
        total.money.update(ledger.money)
        total.pieces.update(ledger.pieces)
    return total


def compare(orders: Mapping[str, Ledger], services: Mapping[str, Ledger]) -> list[Difference]:
    """Every difference: per order, and then in the sums."""
    differences = [
        Difference(order_id, *pair)
        for order_id in dict.fromkeys([*orders, *services])
        for pair in _differing(orders.get(order_id, Ledger()), services.get(order_id, Ledger()))
    ]
    in_sums = _differing(sums(orders.values()), sums(services.values()))
    return differences + [Difference("all together", *pair) for pair in in_sums]


def _differing(order: Ledger, services: Ledger) -> Iterator[tuple[str, str]]:
    """What to say of one order: pairs of the order's word and the services'."""
    for kind, code in _keys_of_difference(order.money, services.money):
        ours, theirs = (formatted(ledger.money[kind, code], code) for ledger in (order, services))
        yield f"{kind} {ours}", f"{kind} {theirs}"
    for kind, sku in _keys_of_difference(order.pieces, services.pieces):
        ours, theirs = (f"{n.pieces[kind, sku]} × {sku}" for n in (order, services))
        yield f"{kind} {ours}", f"{kind} {theirs}"


def _keys_of_difference(
    ours: Counter[tuple[str, str]], theirs: Counter[tuple[str, str]]
) -> list[tuple[str, str]]:
    return [key for key in dict.fromkeys([*ours, *theirs]) if ours[key] != theirs[key]]


def _without_zeros(ledger: Ledger) -> Ledger:
    money, pieces = ({k: n for k, n in c.items() if n} for c in (ledger.money, ledger.pieces))
    return Ledger(Counter(money), Counter(pieces))
