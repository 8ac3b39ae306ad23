"""The orders that the baskets' file implies, and how the API's orders differ from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dev.demo.baskets import Basket
from orders.money import format_amount

ALL_ORDERS = "all together"


class Item(NamedTuple):
    """A line, as far as it is compared; `paid` is in minor units."""

    sku: str
    quantity: int
    paid: int


@dataclass(frozen=True)
class OrderSummary:
    """An order, as far as it is compared; `total` is in minor units."""

    total: int
    currency: str
    items: tuple[Item, ...]
    status: str = "placed"

    def __str__(self) -> str:
        total = format_amount(self.total, self.currency)
        return f"{self.status}, {count(len(self.items), 'line')}, {total}"


@dataclass(frozen=True)
class Totals:
    """The sums over several orders."""

    orders: int
    lines: int
    money: Mapping[str, int]
    """In minor units, by currency."""

    def __str__(self) -> str:
        orders, lines = count(self.orders, "order"), count(self.lines, "line")
        return f"{orders}, {lines}, {amounts(self.money)}"


@dataclass(frozen=True)
class Difference:
    """One failed comparison; `subject` is an order, a basket or the totals."""

    subject: str
    expected: str
    found: str


def expected_orders(baskets: Iterable[Basket]) -> dict[str, OrderSummary]:
    """The order for each basket with a valid line, by basket id; invalid lines are left out."""
    return {
        basket.basket_id: OrderSummary(
            total=basket.total - sum(line.paid for line in basket.lines if not line.is_valid),
            currency=basket.currency,
            items=tuple(
                Item(line.sku, line.quantity, line.paid) for line in basket.lines if line.is_valid
            ),
        )
        for basket in baskets
        if any(line.is_valid for line in basket.lines)
    }


def expected_rejections(baskets: Iterable[Basket]) -> Counter[str]:
    """How many lines of each basket must be rejected, by basket id."""
    return Counter(b.basket_id for b in baskets for line in b.lines if not line.is_valid)


def found_orders(documents: Iterable[Mapping[str, Any]]) -> dict[str, list[OrderSummary]]:
    """The API's orders by external reference; cancelled drafts are left out."""
    found: dict[str, list[OrderSummary]] = {}
    for order in documents:
        if order["placed_at"] or order["status"] != "cancelled":
            reference = order["external_reference"] or f"none: {order['order_id']}"
            found.setdefault(reference, []).append(_summary(order))
    return found


def _summary(order: Mapping[str, Any]) -> OrderSummary:
    return OrderSummary(
        total=order["total"],
        currency=order["currency"],
        items=tuple(Item(i["sku"], i["quantity"], i["total"]) for i in order["lines"]),
        # A placed order goes on by itself, so its status may be a later one.
        status="placed" if order["placed_at"] else order["status"],
    )


def totals(orders: Iterable[OrderSummary]) -> Totals:
    """The sums over all orders."""
    number, lines, money = 0, 0, Counter[str]()
    for order in orders:
        number += 1
        lines += len(order.items)
        money[order.currency] += order.total
    return Totals(number, lines, money)


def compare_orders(
    expected: Mapping[str, OrderSummary], found: Mapping[str, Sequence[OrderSummary]]
) -> list[Difference]:
    """The differences of each order, and of the totals over all orders."""
    differences = [
        Difference(basket_id, *pair)
        for basket_id in dict.fromkeys([*expected, *found])
        for pair in _differing(expected.get(basket_id), found.get(basket_id, []))
    ]
    expected_totals = totals(expected.values())
    found_totals = totals(order for group in found.values() for order in group)
    if expected_totals != found_totals:
        differences.append(Difference(ALL_ORDERS, str(expected_totals), str(found_totals)))
    return differences


def compare_rejections(expected: Counter[str], found: Counter[str]) -> list[Difference]:
    """The baskets of which more or fewer lines were rejected than expected."""
    return [
        Difference(
            basket_id,
            f"{count(expected[basket_id], 'line')} rejected",
            f"{count(found[basket_id], 'line')} rejected",
        )
        for basket_id in dict.fromkeys([*expected, *found])
        if expected[basket_id] != found[basket_id]
    ]


def _differing(
    expected: OrderSummary | None, found: Sequence[OrderSummary]
) -> list[tuple[str, str]]:
    """Pairs of what was expected and what was found, for one basket."""
    if expected is None:
        return [("no order", str(order)) for order in found]
    if len(found) != 1:
        return [("one order", f"{len(found)} orders")]
    return _differing_parts(expected, found[0])


def _differing_parts(expected: OrderSummary, found: OrderSummary) -> list[tuple[str, str]]:
    pairs = [
        (expected.status, found.status),
        (
            format_amount(expected.total, expected.currency),
            format_amount(found.total, found.currency),
        ),
        (count(len(expected.items), "line"), count(len(found.items), "line")),
    ]
    if len(expected.items) == len(found.items):
        lines = [
            (
                f"line {number}: {_format_item(one, expected.currency)}",
                f"line {number}: {_format_item(other, found.currency)}",
            )
            for number, (one, other) in enumerate(zip(expected.items, found.items, strict=True), 1)
            if one != other
        ]
        pairs += lines[:1]  # The first is enough: in a shuffled order, all lines differ.
    return [(one, other) for one, other in pairs if one != other]


def amounts(money: Mapping[str, int]) -> str:
    """Amounts in several currencies: "12.50 USD, 3.00 EUR"."""
    return (
        ", ".join(format_amount(amount, code) for code, amount in sorted(money.items()))
        or "nothing"
    )


def count(number: int, thing: str) -> str:
    """A number with its noun: "1 order", "1,000 orders"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _format_item(item: Item, currency: str) -> str:
    return f"{item.quantity} × {item.sku} for {format_amount(item.paid, currency)}"
