"""The demo: replays baskets through the API, runs scenarios, and reconciles every amount."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
from rich.console import Console

from dev.api_client import TIMEOUT_S, ApiClient, ApiUnavailable
from dev.demo import scenarios
from dev.demo.baskets import Basket
from dev.demo.checkout import Checkout, CheckoutStats
from dev.demo.expected import (
    compare_orders,
    compare_rejections,
    expected_orders,
    expected_rejections,
    found_orders,
    totals,
)
from dev.demo.leaving import leave_orders
from dev.demo.parallel import for_each, progress_bar
from dev.demo.reconciliation import Reconciler
from dev.demo.summary import ReplayResult, show, show_left, show_links
from dev.demo.webhooks import witnessing
from dev.simulator_client import SimulatorClient, SimulatorError

if TYPE_CHECKING:
    from dev.stack.programs import Addresses

CONCURRENT_CHECKOUTS = 16

EXIT_DIFFERENT = 1


async def run(stack: Addresses, baskets: list[Basket], *, is_kept: bool) -> int:
    """Replays the baskets and prints the result; leaves some orders waiting in a stack that stays.

    Returns the exit code: 0 only if the orders agree with the file, and with the ledgers of
    payments and stock, to the cent and the piece. The orders that wait are no part of that.
    """
    console = Console(highlight=False)
    try:
        # No proxy between this process and the stack.
        async with (
            httpx.AsyncClient(base_url=stack.api_url, timeout=TIMEOUT_S, trust_env=False) as api,
            httpx.AsyncClient(base_url=stack.simulators_url, trust_env=False) as simulators,
        ):
            reconciler = Reconciler(ApiClient(api), SimulatorClient(simulators), console)
            async with witnessing(api) as witness:
                result = await replay(reconciler, baskets)
                result = replace(result, webhooks=await witness.compare())
            show(console, result)
            if is_kept:
                show_left(console, await leave_orders(reconciler))
                show_links(console, result, stack)
    except (ApiUnavailable, SimulatorError) as error:
        print(f"orderly: the demo had to stop. {error}", file=sys.stderr)
        return EXIT_DIFFERENT
    if not is_kept:
        console.print("\n  To look around afterwards: make demo ARGS=--keep\n")
    return EXIT_DIFFERENT if result.differences else 0


async def replay(
    reconciler: Reconciler,
    baskets: list[Basket],
    scenario_every: int = scenarios.SCENARIO_EVERY,
) -> ReplayResult:
    """Checks out all baskets, runs the scenarios, and compares."""
    await reconciler.ignore_existing()
    plans = scenarios.plan(baskets, scenario_every)
    for plan in plans.values():
        await plan.set_stock(reconciler.simulators)
    api, stats = reconciler.api, CheckoutStats()
    methods = {number: plan.scenario.payment_method for number, plan in plans.items()}
    checkout = Checkout(api, stats, methods)
    began = time.perf_counter()

    def status(seconds: float) -> str:
        rejections = stats.rejections.total()
        return f"{len(stats.placed) / seconds:.0f} orders/s, {rejections} rejections"

    with progress_bar(reconciler.console, "Baskets", len(baskets), status) as advance:
        numbered = list(enumerate(baskets))
        await for_each(
            numbered, lambda it: checkout.check_out(*it), CONCURRENT_CHECKOUTS, lambda: advance(1)
        )
    took_s, requests, retries = time.perf_counter() - began, api.posts, api.retries
    # Each order was read at its last version, so the read model has all of them.
    expected, found = expected_orders(baskets), found_orders(await reconciler.orders())
    rejections = expected_rejections(baskets)
    return ReplayResult(
        baskets=len(baskets),
        stats=stats,
        requests=requests,
        retries=retries,
        took_s=took_s,
        expected=totals(expected.values()),
        found=totals(order for orders in found.values() for order in orders),
        expected_rejections=rejections.total(),
        order_differences=[
            *compare_orders(expected, found),
            *compare_rejections(rejections, stats.rejected_lines),
        ],
        reconciliation=await reconciler.reconcile(stats.placed, baskets, plans),
    )
