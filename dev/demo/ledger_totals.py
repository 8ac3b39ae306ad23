"""Money and pieces of each order, in the orders themselves and in the services' ledgers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dev.api_client import Json
from dev.demo.expected import ALL_ORDERS, Difference, amounts, count
from dev.demo.order_session import open_authorisation
from orders.money import format_amount

MONEY = ("captured", "refunded", "authorised")
PIECES = ("held", "withdrawn", "returned")

Totals = Counter[tuple[str, str]]


@dataclass(frozen=True)
class Ledger:
    """Money in minor units by kind and currency, pieces by kind and SKU; zeros are left out."""

    money: Totals = field(default_factory=Counter)
    pieces: Totals = field(default_factory=Counter)

    def total(self, kind: str) -> str:
        """The total of one kind: "12.50 USD", "3 pieces"."""
        if kind in MONEY:
            return amounts({code: n for (name, code), n in self.money.items() if name == kind})
        return count(sum(n for (name, _), n in self.pieces.items() if name == kind), "piece")


def ledgers_of_orders(orders: Iterable[Json]) -> dict[str, Ledger]:
    """By order id, the orders' own amounts; `authorised` is what can still be captured."""
    return {order["order_id"]: _ledger_of(order) for order in orders}


def _ledger_of(order: Json) -> Ledger:
    payment, code = order["payment"], order["currency"]
    ledger = Ledger()
    ledger.money["captured", code] = payment["captured"]
    ledger.money["refunded", code] = payment["refunded"]
    ledger.money["authorised", code] = open_authorisation(order)
    for line in order["lines"]:
        ledger.pieces["held", line["sku"]] += line["reserved"]
        ledger.pieces["withdrawn", line["sku"]] += line["shipped"]
        ledger.pieces["returned", line["sku"]] += line["returned"]
    return _without_zeros(ledger)


def ledgers_of_services(payments: Mapping[str, Any], stock: Mapping[str, Any]) -> dict[str, Ledger]:
    """By order id, the amounts that payments and stock recorded."""
    ledgers = {order_id: Ledger() for order_id in [*payments, *stock]}
    for order_id, row in payments.items():
        for kind in MONEY:
            ledgers[order_id].money[kind, row["currency"]] = row[kind]
    for order_id, kinds in stock.items():
        for kind in PIECES:
            for sku, pieces in kinds[kind].items():
                ledgers[order_id].pieces[kind, sku] = pieces
    return {order_id: _without_zeros(ledger) for order_id, ledger in ledgers.items()}


def sum_ledgers(ledgers: Iterable[Ledger]) -> Ledger:
    """The sums over several ledgers."""
    total = Ledger()
    for ledger in ledgers:
        total.money.update(ledger.money)
        total.pieces.update(ledger.pieces)
    return total


def compare_ledgers(
    orders: Mapping[str, Ledger], services: Mapping[str, Ledger]
) -> list[Difference]:
    """The differences of each order, and of the sums over all orders."""
    differences = [
        Difference(order_id, *pair)
        for order_id in dict.fromkeys([*orders, *services])
        for pair in _differing(orders.get(order_id, Ledger()), services.get(order_id, Ledger()))
    ]
    in_sums = _differing(sum_ledgers(orders.values()), sum_ledgers(services.values()))
    return differences + [Difference(ALL_ORDERS, *pair) for pair in in_sums]


def _differing(order: Ledger, services: Ledger) -> Iterator[tuple[str, str]]:
    """Pairs of the order's amount and the services'."""
    for kind, code in _differing_keys(order.money, services.money):
        one, other = (format_amount(ledger.money[kind, code], code) for ledger in (order, services))
        yield f"{kind} {one}", f"{kind} {other}"
    for kind, sku in _differing_keys(order.pieces, services.pieces):
        one, other = (f"{ledger.pieces[kind, sku]} × {sku}" for ledger in (order, services))
        yield f"{kind} {one}", f"{kind} {other}"


def _differing_keys(one: Totals, other: Totals) -> list[tuple[str, str]]:
    return [key for key in dict.fromkeys([*one, *other]) if one[key] != other[key]]


def _without_zeros(ledger: Ledger) -> Ledger:
    money, pieces = ({k: n for k, n in c.items() if n} for c in (ledger.money, ledger.pieces))
    return Ledger(Counter(money), Counter(pieces))
