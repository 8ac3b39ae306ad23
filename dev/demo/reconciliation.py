"""Runs scenarios on placed orders, then reconciles the orders with the services' ledgers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from rich.console import Console

from dev.api_client import ApiClient, Json
from dev.demo.baskets import Basket
from dev.demo.checkout import PlacedOrder
from dev.demo.expected import Difference
from dev.demo.ledger_totals import (
    Ledger,
    compare_ledgers,
    ledgers_of_orders,
    ledgers_of_services,
    sum_ledgers,
)
from dev.demo.order_session import (
    OrderSession,
    OrderStalled,
    describe_status,
    furthest_status,
    is_settled,
    net_paid,
    open_authorisation,
)
from dev.demo.parallel import for_each, progress_bar
from dev.demo.scenarios import ScenarioPlan, paid
from dev.simulator_client import SimulatorClient
from orders.money import format_amount

CONCURRENT_SCENARIOS = 32
SETTLE_TIMEOUT_S = 60.0
POLL_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """How an order ended, or must end by the file. Amounts are in minor units."""

    status: str
    paid: int
    authorised: int
    """And not captured yet."""

    def format(self, currency: str) -> str:
        money = (format_amount(amount, currency) for amount in (self.paid, self.authorised))
        return "{}, {} paid, {} authorised".format(self.status, *money)


@dataclass(frozen=True)
class Reconciliation:
    """The result: how the orders ended, and where the ledgers differ."""

    ends: Counter[str]
    """Orders by their furthest status."""
    scenarios: Counter[str]
    """Orders by the scenario they went through."""
    took_s: float
    orders_ledger: Ledger
    services_ledger: Ledger
    differences: list[Difference]


class Reconciler:
    """Compares the orders that were placed since `ignore_existing` with the services' ledgers."""

    def __init__(self, api: ApiClient, simulators: SimulatorClient, console: Console) -> None:
        self.api = api
        self.simulators = simulators
        self.console = console
        self._existing: frozenset[str] = frozenset()

    async def ignore_existing(self) -> None:
        """Leaves the orders that exist now out of all comparisons."""
        known = [order["order_id"] async for order in self.api.orders()]
        self._existing = frozenset(known) | (await self.service_ledgers()).keys()

    async def orders(self) -> list[Json]:
        """Every new order."""
        return [o async for o in self.api.orders() if o["order_id"] not in self._existing]

    async def service_ledgers(self) -> dict[str, Ledger]:
        """The ledgers of payments and stock for every new order, by order id."""
        payments, stock = await asyncio.gather(
            self.simulators.ledger("payments"), self.simulators.ledger("stock")
        )
        ledgers = ledgers_of_services(payments, stock)
        return {key: one for key, one in ledgers.items() if key not in self._existing}

    async def reconcile(
        self,
        placed: Sequence[PlacedOrder],
        baskets: Sequence[Basket],
        plans: Mapping[int, ScenarioPlan],
    ) -> Reconciliation:
        """Runs the planned scenarios, waits until all orders are settled, and compares."""
        began = time.perf_counter()
        expected = {p.order_id: _confirmed(baskets[p.number]) for p in placed}
        planned = {p.order_id: plans[p.number] for p in placed if p.number in plans}
        stalled = await self._run_scenarios(planned, expected)
        for plan in plans.values():
            await plan.restock(self.simulators)
        orders = await self._wait_until_settled(expected.keys())
        of_orders, of_services = ledgers_of_orders(orders), await self.service_ledgers()
        return Reconciliation(
            ends=Counter(furthest_status(order) for order in orders if order["placed_at"]),
            scenarios=Counter(plan.scenario.name for plan in planned.values()),
            took_s=time.perf_counter() - began,
            orders_ledger=sum_ledgers(of_orders.values()),
            services_ledger=sum_ledgers(of_services.values()),
            differences=[
                *stalled,
                *compare_outcomes(expected, orders),
                *compare_ledgers(of_orders, of_services),
            ],
        )

    async def _run_scenarios(
        self, planned: Mapping[str, ScenarioPlan], expected: dict[str, Outcome]
    ) -> list[Difference]:
        """Updates the expected outcomes; a stalled order has none, and is returned."""
        stalled: list[Difference] = []

        async def run(order_id: str) -> None:
            plan = planned[order_id]
            try:
                kept = await plan.run(OrderSession(self.api, self.simulators, order_id))
            except OrderStalled as error:
                stalled.append(Difference(order_id, plan.scenario.name, str(error)))
                del expected[order_id]
            else:
                expected[order_id] = Outcome(plan.scenario.final_status, kept, 0)

        with progress_bar(self.console, "Scenarios", len(planned)) as advance:
            await for_each(planned, run, CONCURRENT_SCENARIOS, lambda: advance(1))
        return stalled

    async def _wait_until_settled(self, order_ids: AbstractSet[str]) -> list[Json]:
        """All orders once these are settled, or as they are when none settles any more."""
        clock = asyncio.get_running_loop().time
        with progress_bar(self.console, "Settling", len(order_ids)) as advance:
            settled, progress_at = 0, clock()
            while True:
                orders = await self.orders()
                now = sum(_is_at_rest(order) for order in orders if order["order_id"] in order_ids)
                advance(now - settled)
                if now > settled:
                    settled, progress_at = now, clock()
                if settled == len(order_ids) or clock() > progress_at + SETTLE_TIMEOUT_S:
                    return orders
                await asyncio.sleep(POLL_S)


def compare_outcomes(expected: Mapping[str, Outcome], orders: Sequence[Json]) -> list[Difference]:
    """The orders with another status, payment or authorisation than expected."""
    found = {order["order_id"]: order for order in orders}
    differences = []
    for order_id, outcome in expected.items():
        if order_id not in found:
            differences.append(Difference(order_id, outcome.status, "no order"))
            continue
        order = found[order_id]
        actual = Outcome(describe_status(order), net_paid(order), open_authorisation(order))
        if actual != outcome:
            both = (it.format(order["currency"]) for it in (outcome, actual))
            differences.append(Difference(order_id, *both))
    return differences


def _confirmed(basket: Basket) -> Outcome:
    """The outcome of an order without a scenario."""
    total = paid(line for line in basket.lines if line.is_valid)
    return Outcome("confirmed", paid=0, authorised=total)


def _is_at_rest(order: Json) -> bool:
    """Whether it is settled, and waits for no decision."""
    return is_settled(order) and order["status"] in ("confirmed", "completed", "cancelled")
