"""After the sale: some orders live on, and in the end everybody's books must say the same."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from rich.console import Console

from dev.demo import ledger_totals as ledgers
from dev.demo import order_session as sale
from dev.demo.baskets import Basket
from dev.demo.checkout import Placed
from dev.demo.expected import Difference
from dev.demo.http_client import Json, Wire
from dev.demo.ledger_totals import Ledger
from dev.demo.order_session import Sale, Stalled
from dev.demo.parallel import bar, each
from dev.demo.scenarios import Planned, paid
from dev.demo.simulator_client import StandIns
from orders.money import formatted

LIVES_AT_ONCE = 32
PATIENCE_S = 60.0
LOOK_S = 0.5


@dataclass(frozen=True)
class Due:
    """What must have become of an order, by the file. Amounts are minor units."""

    ends: str
    paid: int
    promised: int
    """Authorised, and not captured yet."""

    def told(self, currency: str) -> str:
        money = (formatted(amount, currency) for amount in (self.paid, self.promised))
        return "{}, {} paid, {} authorised".format(self.ends, *money)


@dataclass(frozen=True)
class Aftermath:
    """How it all ended."""

    ends: Counter[str]
    """Orders by how far they have come."""
    lives: Counter[str]
    """Orders by what happened to them on the way."""
    took_s: float
    ours: Ledger
    """All orders' own ledgers in one."""
    theirs: Ledger
    """All books of payments and stock in one."""
    differences: list[Difference]


class Shop:
    """The placed orders, whoever has a part in them, and what was there before."""

    def __init__(self, wire: Wire, stand_ins: StandIns, console: Console) -> None:
        self.wire = wire
        self.stand_ins = stand_ins
        self.console = console
        self._there_before: frozenset[str] = frozenset()

    async def opens(self) -> None:
        """What there is by now is not ours."""
        known = [order["order_id"] async for order in self.wire.orders()]
        self._there_before = frozenset(known) | (await self.books()).keys()

    async def orders(self) -> list[Json]:
        """Every order since the shop has opened."""
        return [o async for o in self.wire.orders() if o["order_id"] not in self._there_before]

    async def books(self) -> dict[str, Ledger]:
        """The services' books, by order, since the shop has opened."""
        payments, stock = await asyncio.gather(
            self.stand_ins.books("payments"), self.stand_ins.books("stock")
        )
        books = ledgers.of_services(payments, stock)
        return {key: book for key, book in books.items() if key not in self._there_before}

    async def goes_on(
        self, placed: Sequence[Placed], baskets: Sequence[Basket], plan: Mapping[int, Planned]
    ) -> Aftermath:
        """Lets orders live as planned, waits until nobody owes anything, and compares."""
        began = time.perf_counter()
        due = {p.order_id: _only_confirmed(baskets[p.number]) for p in placed}
        living = [p for p in placed if p.number in plan]
        stalled: list[Difference] = []

        async def live(one: Placed) -> None:
            planned = plan[one.number]
            try:
                kept = await planned.live(Sale(self.wire, self.stand_ins, one.order_id))
            except Stalled as why:
                stalled.append(Difference(one.order_id, planned.life.name, str(why)))
                del due[one.order_id]
            else:
                due[one.order_id] = Due(planned.life.ends, kept, 0)

        with bar(self.console, "Lives", len(living)) as advance:
            await each(living, live, LIVES_AT_ONCE, lambda: advance(1))
        for planned in plan.values():
            await planned.refill(self.stand_ins)
        orders = await self._settled(due.keys())
        ours, theirs = ledgers.of_orders(orders), await self.books()
        return Aftermath(
            ends=Counter(sale.ending(order) for order in orders if order["placed_at"]),
            lives=Counter(plan[p.number].life.name for p in living),
            took_s=time.perf_counter() - began,
            ours=ledgers.sums(ours.values()),
            theirs=ledgers.sums(theirs.values()),
            differences=[*stalled, *compare(due, orders), *ledgers.compare(ours, theirs)],
        )

    async def _settled(self, due: AbstractSet[str]) -> list[Json]:
        """All orders once nobody owes them anything; or as they are, if nothing gets on."""
        clock = asyncio.get_running_loop().time
        with bar(self.console, "Settling", len(due)) as advance:
            settled, progress_at = 0, clock()
            while True:
                orders = await self.orders()
                now = sum(_is_still(order) for order in orders if order["order_id"] in due)
                advance(now - settled)
                if now > settled:
                    settled, progress_at = now, clock()
                if settled == len(due) or clock() > progress_at + PATIENCE_S:
                    return orders
                await asyncio.sleep(LOOK_S)


def compare(due: Mapping[str, Due], orders: Sequence[Json]) -> list[Difference]:
    """The orders that have not become what they should, or for which other money was paid."""
    found = {order["order_id"]: order for order in orders}
    differences = []
    for order_id, should_be in due.items():
        if order_id not in found:
            differences.append(Difference(order_id, should_be.ends, "no order"))
            continue
        order = found[order_id]
        actual = Due(sale.standing(order), sale.paid(order), sale.promised(order))
        if actual != should_be:
            both = (it.told(order["currency"]) for it in (should_be, actual))
            differences.append(Difference(order_id, *both))
    return differences


def _only_confirmed(basket: Basket) -> Due:
    total = paid(line for line in basket.lines if line.is_good)
    return Due("confirmed", paid=0, promised=total)


def _is_still(order: Json) -> bool:
    """Whether nobody owes the order anything, and it waits for nobody."""
    return sale.is_settled(order) and order["status"] in ("confirmed", "completed", "cancelled")
