"""What happens to some of the placed orders: their scenarios, and the outcome of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dev.api_client import Json
from dev.demo.baskets import Basket, BasketLine
from dev.demo.order_session import OrderSession, is_ready
from dev.simulator_client import DEFAULT_STOCK, SimulatorClient

SCENARIO_EVERY = 5  # One basket in this many has a scenario; the others stay confirmed.

Lines = Sequence[BasketLine]


class Selection(NamedTuple):
    """The lines of an order, and the one that the scenario is about."""

    lines: Lines
    at: int
    """The index of that line."""

    @property
    def line(self) -> BasketLine:
        return self.lines[self.at]

    @property
    def all_paid(self) -> int:
        return paid(self.lines)

    @property
    def others_paid(self) -> int:
        return paid([*self.lines[: self.at], *self.lines[self.at + 1 :]])


class StockLevel(NamedTuple):
    """Pieces of a line's SKU in stock, by location."""

    east: int
    west: int


SelectLine = Callable[[Lines, frozenset[str]], int | None]


@dataclass(frozen=True)
class Scenario:
    """What happens to an order after it was placed.

    `run` returns what the customer has paid in the end less refunds, by the file.
    """

    name: str
    final_status: str
    run: Callable[[OrderSession, Selection], Awaitable[int]]
    payment_method: str | None = None
    select_line: SelectLine = lambda lines, rare: 0
    """The index of the line it is about, or None; `rare` are SKUs that no other order has."""
    stock: Callable[[BasketLine], StockLevel] | None = None


@dataclass(frozen=True)
class ScenarioPlan:
    """A scenario for one order."""

    scenario: Scenario
    selection: Selection

    async def set_stock(self, simulators: SimulatorClient) -> None:
        """Limits the stock of its line, if the scenario says so."""
        if self.scenario.stock:
            level = self.scenario.stock(self.selection.line)
            await simulators.set_stock(self.selection.line.sku, *level)

    async def restock(self, simulators: SimulatorClient) -> None:
        """Ends what `set_stock` did."""
        if self.scenario.stock:
            await simulators.set_stock(self.selection.line.sku, DEFAULT_STOCK, 0)

    async def run(self, session: OrderSession) -> int:
        return await self.scenario.run(session, self.selection)


def plan(baskets: Sequence[Basket], every: int = SCENARIO_EVERY) -> Mapping[int, ScenarioPlan]:
    """The scenarios of some baskets, by basket number: the same for the same baskets, in turn."""
    sold = Counter(line.sku for basket in baskets for line in basket.lines)
    rare = frozenset(sku for sku, times in sold.items() if times == 1)
    waiting = list(SCENARIOS)
    plans: dict[int, ScenarioPlan] = {}
    for number, basket in list(enumerate(baskets))[::every]:
        lines = [line for line in basket.lines if line.is_valid]
        for scenario in waiting if lines else []:
            if (index := scenario.select_line(lines, rare)) is not None:
                plans[number] = ScenarioPlan(scenario, Selection(lines, index))
                waiting.remove(scenario)
                waiting.append(scenario)
                break
    return plans


def paid(lines: Iterable[BasketLine]) -> int:
    """What was paid for these lines by the file, in minor units."""
    return sum(line.paid for line in lines)


# What happens


async def delivered(session: OrderSession, selection: Selection) -> int:
    await session.ship()
    await session.deliver()
    return selection.all_paid


async def delivered_by_shop(session: OrderSession, selection: Selection) -> int:
    await session.deliver_by_shop()
    return selection.all_paid


async def shipped_from_two_locations(session: OrderSession, selection: Selection) -> int:
    def is_split(order: Json) -> bool:
        return is_ready(order) and len(_shipments_with(order, selection.at)) == 2

    await session.wait_until("split", is_split)
    return await delivered(session, selection)


def _shipments_with(order: Json, index: int) -> list[Json]:
    line_id = order["lines"][index]["line_id"]
    return [s for s in order["shipments"] if line_id in (n["line_id"] for n in s["lines"])]


async def paid_by_another_card(session: OrderSession, selection: Selection) -> int:
    await session.wait_for_decision("payment")
    await session.send("retry-payment", method="pm_card")
    return await delivered(session, selection)


async def cancelled_after_decline(session: OrderSession, selection: Selection) -> int:
    await session.wait_for_decision("payment")
    return await cancelled(session, selection)


async def cancelled_after_confirmation(session: OrderSession, selection: Selection) -> int:
    await session.wait_until_ready()
    return await cancelled(session, selection)


async def cancelled(session: OrderSession, selection: Selection) -> int:
    await session.send("cancel-order", reason="changed my mind")
    await session.wait_until("cancelled", lambda order: bool(order["status"] == "cancelled"))
    return 0


async def delivered_without_a_line(session: OrderSession, selection: Selection) -> int:
    order = await session.wait_until_ready()
    line = order["lines"][selection.at]
    pieces = [{"line_id": line["line_id"], "quantity": line["quantity"]}]
    await session.send("cancel-lines", lines=pieces, reason="one is enough")
    await delivered(session, selection)
    return selection.others_paid


async def shortfall_accepted(session: OrderSession, selection: Selection) -> int:
    await session.wait_for_decision("shortfall")
    await session.send("accept-shortfall")
    await delivered(session, selection)
    return selection.others_paid


async def partly_returned(session: OrderSession, selection: Selection) -> int:
    await delivered(session, selection)
    line = (await session.order())["lines"][selection.at]
    await session.return_pieces(line["line_id"], line["quantity"], reason="not what I thought")
    return selection.others_paid


async def refunded_for_goodwill(session: OrderSession, selection: Selection) -> int:
    await delivered(session, selection)
    goodwill = max(1, selection.all_paid // 10)
    await session.send("refund-payment", amount=goodwill, reason="it came late")
    await session.wait_until_settled()
    return selection.all_paid - goodwill


# Which line it is about


def last_of_several(lines: Lines, rare: frozenset[str]) -> int | None:
    return len(lines) - 1 if len(lines) > 1 else None


def rare_of_several(lines: Lines, rare: frozenset[str]) -> int | None:
    found = (index for index, line in enumerate(lines) if line.sku in rare)
    return next(found, None) if len(lines) > 1 else None


def rare_with_several_pieces(lines: Lines, rare: frozenset[str]) -> int | None:
    found = (index for index, line in enumerate(lines) if line.sku in rare and line.quantity > 1)
    return next(found, None)


def out_of_stock(line: BasketLine) -> StockLevel:
    return StockLevel(0, 0)


def at_two_locations(line: BasketLine) -> StockLevel:
    return StockLevel(line.quantity - 1, 1)


DELIVERED = Scenario("delivered", "delivered", delivered, "pm_card")
# In this order, as far as they suit the baskets: so that a short replay has many of them, too.
SCENARIOS = (
    DELIVERED,
    Scenario(
        "shipped from two locations", "delivered", shipped_from_two_locations,
        select_line=rare_with_several_pieces, stock=at_two_locations,
    ),
    Scenario("declined, paid by another card", "delivered", paid_by_another_card, "pm_declined"),
    Scenario(
        "short, shipped what was in stock", "delivered", shortfall_accepted,
        select_line=rare_of_several, stock=out_of_stock,
    ),
    Scenario("cancelled when confirmed", "cancelled", cancelled_after_confirmation),
    Scenario(
        "returned in part", "partly returned", partly_returned, select_line=last_of_several
    ),
    Scenario("delivered, dispatched by the shop", "delivered", delivered_by_shop, "pm_card"),
    Scenario("a line cancelled", "delivered", delivered_without_a_line,
             select_line=last_of_several),
    Scenario("payments down twice, retried", "delivered", delivered, "pm_flapping"),
    Scenario("refunded for goodwill", "delivered", refunded_for_goodwill),
    Scenario("declined, given up", "cancelled", cancelled_after_decline, "pm_declined"),
    Scenario("charged without a response, retried", "delivered", delivered,
             "pm_timeout_after_charging"),
    Scenario("callback before the response", "delivered", delivered, "pm_callback_first"),
    *[DELIVERED] * 7,
)  # fmt: skip
