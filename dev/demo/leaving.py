"""Leaves some orders waiting in the demo's stack, for its console to show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dev.api_client import ApiError
from dev.demo.parallel import for_each, progress_bar
from dev.demo.reconciliation import Reconciler
from dev.scenarios.play import run
from dev.scenarios.scenarios import SCENARIOS
from dev.scenarios.session import ScenarioError, ScenarioSession
from dev.simulator_client import SimulatorError

CONCURRENT_ORDERS = 8
# How many orders are left in the middle of each scenario: the slowest first.
ORDERS = {
    "stuck-step": 3,
    "unpaid": 2,
    "chargeback": 1,
    "return": 2,
    "declined-card": 3,
    "shortfall": 2,
    "held": 2,
    "split-shipment": 1,
}


@dataclass
class LeftOrders:
    """The orders that wait."""

    by_scenario: Counter[str] = field(default_factory=Counter)
    waits: dict[str, str] = field(default_factory=dict)
    """What they wait for, by the scenario."""
    problems: list[str] = field(default_factory=list)
    """Why an order does not wait as its scenario says."""


async def leave_orders(reconciler: Reconciler) -> LeftOrders:
    """Runs some scenarios to where their orders wait."""
    left = LeftOrders()

    async def leave(numbered: tuple[int, str]) -> None:
        number, name = numbered
        reference = {"customer_id": f"demo-{number}", "external_reference": f"WAITS-{number}"}
        session = ScenarioSession(
            reconciler.api, reconciler.simulators, lambda _: None, **reference
        )
        try:
            what = await run(SCENARIOS[name], session, is_unfinished=True)
        except (ScenarioError, ApiError, SimulatorError) as error:
            left.problems.append(f"{name}: {error}")
            return
        assert what is not None  # Each scenario waits once.
        left.waits[name] = what
        left.by_scenario[name] += 1

    names = list(enumerate(Counter(ORDERS).elements(), 1))
    with progress_bar(reconciler.console, "Waiting", len(names)) as advance:
        await for_each(names, leave, CONCURRENT_ORDERS, lambda: advance(1))
    return left
