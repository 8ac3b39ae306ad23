"""What becomes of some of the orders: which life each is given, and what it must come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dev.demo.baskets import Basket, BasketLine
from dev.demo.http_client import Json
from dev.demo.order_session import Sale, is_ready
from dev.demo.simulator_client import PLENTY, StandIns

LIVES_EVERY = 5  # So many baskets, one of which lives on; the others stay confirmed.

Lines = Sequence[BasketLine]


class Part(NamedTuple):
    """The lines of an order, and the one of them that something happens to."""

    lines: Lines
    at: int

    @property
    def line(self) -> BasketLine:
        return self.lines[self.at]

    @property
    def all_paid(self) -> int:
        return paid(self.lines)

    @property
    def others_paid(self) -> int:
        return paid([*self.lines[: self.at], *self.lines[self.at + 1 :]])


class Scarce(NamedTuple):
    """So many pieces of a line's SKU are on the shelves."""

    east: int
    west: int


Picks = Callable[[Lines, frozenset[str]], int | None]


@dataclass(frozen=True)
class Life:
    """What happens to an order after it was placed.

    `live` returns what the customer has then paid and not got back, as the file has it.
    """

    name: str
    ends: str
    live: Callable[[Sale, Part], Awaitable[int]]
    method: str | None = None
    picks: Picks = lambda lines, rare: 0
    """The line that something happens to, if there is one; `rare` are SKUs that no other has."""
    shelves: Callable[[BasketLine], Scarce] | None = None


@dataclass(frozen=True)
class Planned:
    """A life for one order."""

    life: Life
    part: Part

    async def set_shelves(self, stand_ins: StandIns) -> None:
        """Makes its line scarce, if that belongs to it."""
        if self.life.shelves:
            await stand_ins.stock(self.part.line.sku, *self.life.shelves(self.part.line))

    async def refill(self, stand_ins: StandIns) -> None:
        """Leaves nothing scarce behind."""
        if self.life.shelves:
            await stand_ins.stock(self.part.line.sku, PLENTY, 0)

    async def live(self, sale: Sale) -> int:
        return await self.life.live(sale, self.part)


def plan(baskets: Sequence[Basket], every: int = LIVES_EVERY) -> Mapping[int, Planned]:
    """The lives of some baskets, by their numbers: the same for the same baskets, each in turn."""
    sold = Counter(line.sku for basket in baskets for line in basket.lines)
    rare = frozenset(sku for sku, times in sold.items() if times == 1)
    waiting = list(LIVES)
    planned: dict[int, Planned] = {}
    for number, basket in list(enumerate(baskets))[::every]:
        lines = [line for line in basket.lines if line.is_good]
        for life in waiting if lines else []:
            if (at := life.picks(lines, rare)) is not None:
                planned[number] = Planned(life, Part(lines, at))
                waiting.remove(life)
                waiting.append(life)
                break
    return planned


def paid(lines: Iterable[BasketLine]) -> int:
    """What the file says that was paid for these lines, in minor units."""
    return sum(line.paid for line in lines)


# The lives


async def delivered(sale: Sale, part: Part) -> int:
    await sale.leaves()
    await sale.arrives()
    return part.all_paid


async def brought_by_the_shop(sale: Sale, part: Part) -> int:
    await sale.is_brought()
    return part.all_paid


async def shipped_from_two_places(sale: Sale, part: Part) -> int:
    await sale.becomes("split", lambda o: is_ready(o) and len(_shipments_with(o, part.at)) == 2)
    return await delivered(sale, part)


def _shipments_with(order: Json, at: int) -> list[Json]:
    line_id = order["lines"][at]["line_id"]
    return [s for s in order["shipments"] if line_id in (n["line_id"] for n in s["lines"])]


async def paid_by_another_card(sale: Sale, part: Part) -> int:
    await sale.awaits("payment")
    await sale.ask("retry-payment", method="pm_card")
    return await delivered(sale, part)


async def declined_and_given_up(sale: Sale, part: Part) -> int:
    await sale.awaits("payment")
    return await cancelled(sale, part)


async def confirmed_and_cancelled(sale: Sale, part: Part) -> int:
    await sale.is_confirmed()
    return await cancelled(sale, part)


async def cancelled(sale: Sale, part: Part) -> int:
    await sale.ask("cancel-order", reason="changed my mind")
    await sale.becomes("cancelled", lambda order: order["status"] == "cancelled")
    return 0


async def without_a_line(sale: Sale, part: Part) -> int:
    order = await sale.is_confirmed()
    line = order["lines"][part.at]
    pieces = [{"line_id": line["line_id"], "quantity": line["quantity"]}]
    await sale.ask("cancel-lines", lines=pieces, reason="one is enough")
    await delivered(sale, part)
    return part.others_paid


async def with_what_there_is(sale: Sale, part: Part) -> int:
    await sale.awaits("shortfall")
    await sale.ask("accept-shortfall")
    await delivered(sale, part)
    return part.others_paid


async def returned_in_part(sale: Sale, part: Part) -> int:
    await delivered(sale, part)
    line = (await sale.order())["lines"][part.at]
    await sale.comes_back(line["line_id"], line["quantity"], reason="not what I thought")
    return part.others_paid


async def refunded_for_goodwill(sale: Sale, part: Part) -> int:
    await delivered(sale, part)
    goodwill = max(1, part.all_paid // 10)
    await sale.ask("refund-payment", amount=goodwill, reason="it came late")
    await sale.settles()
    return part.all_paid - goodwill


# Which line it happens to


def last_of_several(lines: Lines, rare: frozenset[str]) -> int | None:
    return len(lines) - 1 if len(lines) > 1 else None


def rare_of_several(lines: Lines, rare: frozenset[str]) -> int | None:
    found = (at for at, line in enumerate(lines) if line.sku in rare)
    return next(found, None) if len(lines) > 1 else None


def rare_and_many(lines: Lines, rare: frozenset[str]) -> int | None:
    found = (at for at, line in enumerate(lines) if line.sku in rare and line.quantity > 1)
    return next(found, None)


def all_gone(line: BasketLine) -> Scarce:
    return Scarce(0, 0)


def in_two_places(line: BasketLine) -> Scarce:
    return Scarce(line.quantity - 1, 1)


DELIVERED = Life("delivered", "delivered", delivered, "pm_card")
# In this order, as far as they suit the baskets: in a short replay, too, much happens.
LIVES = (
    DELIVERED,
    Life(
        "shipped from two places", "delivered", shipped_from_two_places,
        picks=rare_and_many, shelves=in_two_places,
    ),
    Life("declined, paid by another card", "delivered", paid_by_another_card, "pm_declined"),
    Life(
        "short, shipped what there was", "delivered", with_what_there_is,
        picks=rare_of_several, shelves=all_gone,
    ),
    Life("cancelled when confirmed", "cancelled", confirmed_and_cancelled),
    Life("returned in part", "partly returned", returned_in_part, picks=last_of_several),
    Life("delivered, dispatched by the shop", "delivered", brought_by_the_shop, "pm_card"),
    Life("a line cancelled", "delivered", without_a_line, picks=last_of_several),
    Life("payments down twice, asked again", "delivered", delivered, "pm_flapping"),
    Life("refunded for goodwill", "delivered", refunded_for_goodwill),
    Life("declined, given up", "cancelled", declined_and_given_up, "pm_declined"),
    Life("charged without an answer, asked again", "delivered", delivered,
         "pm_timeout_after_charging"),
    Life("callback before the answer", "delivered", delivered, "pm_callback_first"),
    *[DELIVERED] * 7,
)  # fmt: skip
