"""Two sets of books, one from the baskets' file and one from the API, and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dev.demo.baskets import Basket
from orders.money import formatted


class Item(NamedTuple):
    """A line as far as the books care; `paid` is in minor units."""

    sku: str
    quantity: int
    paid: int


@dataclass(frozen=True)
class Entry:
    """One order in the books; `total` is in minor units."""

    total: int
    currency: str
    items: tuple[Item, ...]
    status: str = "placed"

    def __str__(self) -> str:
        total = formatted(self.total, self.currency)
        return f"{self.status}, {count(len(self.items), 'line')}, {total}"


@dataclass(frozen=True)
class Sums:
    """What all entries come to."""

    orders: int
    lines: int
    money: Mapping[str, int]
    """In minor units, by currency."""

    def __str__(self) -> str:
        orders, lines = count(self.orders, "order"), count(self.lines, "line")
        return f"{orders}, {lines}, {amounts(self.money)}"


@dataclass(frozen=True)
class Difference:
    """Something that the books do not agree on."""

    where: str
    expected: str
    found: str


def from_file(baskets: Iterable[Basket]) -> dict[str, Entry]:
    """What the file says that must be ordered, by basket: all lines but those of nothing."""
    return {
        basket.basket_id: Entry(
            total=basket.total - sum(line.paid for line in basket.lines if not line.is_good),
            currency=basket.currency,
            items=tuple(
                Item(line.sku, line.quantity, line.paid) for line in basket.lines if line.is_good
            ),
        )
        for basket in baskets
        if any(line.is_good for line in basket.lines)
    }


def expected_refusals(baskets: Iterable[Basket]) -> Counter[str]:
    """How many lines of each basket must be refused."""
    return Counter(b.basket_id for b in baskets for line in b.lines if not line.is_good)


def from_api(documents: Iterable[Mapping[str, Any]]) -> dict[str, list[Entry]]:
    """What the API says that was ordered, by external reference; a draft called off was not."""
    books: dict[str, list[Entry]] = {}
    for order in documents:
        if order["placed_at"] or order["status"] != "cancelled":
            reference = order["external_reference"] or f"none: {order['order_id']}"
            books.setdefault(reference, []).append(_entry(order))
    return books


def _entry(order: Mapping[str, Any]) -> Entry:
    return Entry(
        total=order["total"],
        currency=order["currency"],
        items=tuple(Item(i["sku"], i["quantity"], i["total"]) for i in order["lines"]),
        # Since then, a placed order goes on by itself.
        status="placed" if order["placed_at"] else order["status"],
    )


def sums(entries: Iterable[Entry]) -> Sums:
    """The sums over all entries."""
    orders, lines, money = 0, 0, Counter[str]()
    for entry in entries:
        orders += 1
        lines += len(entry.items)
        money[entry.currency] += entry.total
    return Sums(orders, lines, money)


def compare(
    expected: Mapping[str, Entry], found: Mapping[str, Sequence[Entry]]
) -> list[Difference]:
    """Every difference: per order, and then in the sums, which have no order to hide behind."""
    differences = [
        Difference(basket_id, *pair)
        for basket_id in dict.fromkeys([*expected, *found])
        for pair in _differing(expected.get(basket_id), found.get(basket_id, []))
    ]
    should_be, are = sums(expected.values()), sums(e for group in found.values() for e in group)
    if should_be != are:
        differences.append(Difference("all together", str(should_be), str(are)))
    return differences


def compare_refusals(expected: Counter[str], found: Counter[str]) -> list[Difference]:
    """The baskets of which more or fewer lines were refused than should have been."""
    return [
        Difference(
            basket_id,
            f"{count(expected[basket_id], 'line')} refused",
            f"{count(found[basket_id], 'line')} refused",
        )
        for basket_id in dict.fromkeys([*expected, *found])
        if expected[basket_id] != found[basket_id]
    ]


def _differing(expected: Entry | None, found: Sequence[Entry]) -> list[tuple[str, str]]:
    """What to say of one basket: pairs of what was expected and what was found instead."""
    if expected is None:
        return [("no order", str(entry)) for entry in found]
    if len(found) != 1:
        return [("one order", f"{len(found)} orders")]
    return _differing_parts(expected, found[0])


def _differing_parts(expected: Entry, found: Entry) -> list[tuple[str, str]]:
    pairs = [
        (expected.status, found.status),
        (formatted(expected.total, expected.currency), formatted(found.total, found.currency)),
        (count(len(expected.items), "line"), count(len(found.items), "line")),
    ]
    if len(expected.items) == len(found.items):
        both = zip(expected.items, found.items, strict=True)
        differing = [
            (
                f"line {place}: {_item(ours, expected.currency)}",
                f"line {place}: {_item(theirs, found.currency)}",
            )
            for place, (ours, theirs) in enumerate(both, 1)
            if ours != theirs
        ]
        pairs += differing[:1]  # One tells where to look; in a shuffled order, all lines differ.
    return [(ours, theirs) for ours, theirs in pairs if ours != theirs]


def amounts(money: Mapping[str, int]) -> str:
    """Amounts of several currencies, as people read them."""
    return ", ".join(formatted(amount, code) for code, amount in sorted(money.items())) or "nothing"


def count(number: int, thing: str) -> str:
    """So many of a thing: "1 order", "1,000 orders"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _item(item: Item, currency: str) -> str:
    return f"{item.quantity} × {item.sku} for {formatted(item.paid, currency)}"
