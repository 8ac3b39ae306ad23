"""The demo itself: baskets in over HTTP, orders out over HTTP, and everybody's books compared."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import httpx
from rich.console import Console

from dev.demo import expected as books
from dev.demo import scenarios as lives
from dev.demo.baskets import Basket
from dev.demo.checkout import ShopFront, Tally
from dev.demo.http_client import Unanswered, Wire
from dev.demo.parallel import bar, each
from dev.demo.reconciliation import Shop
from dev.demo.simulator_client import StandIns
from dev.demo.summary import Outcome, show

if TYPE_CHECKING:
    from dev.stack.programs import Addresses

SHOPPERS = 16
ANSWER_S_MAX = 35.0  # The API answers within 10 seconds, if only that it does not know yet.

EXIT_DIFFERENT = 1


async def run(stack: Addresses, baskets: list[Basket]) -> int:
    """Replays the baskets and says how it went.

    Returns the exit code: 0 only if the API's books are the file's, and payments' and stock's books
    are the orders', to the cent and the piece.
    """
    console = Console(highlight=False)
    try:
        # No proxy on the way to ourselves.
        async with (
            httpx.AsyncClient(base_url=stack.api_url, timeout=ANSWER_S_MAX, trust_env=False) as api,
            httpx.AsyncClient(base_url=stack.simulators_url, trust_env=False) as outside,
        ):
            outcome = await replay(Shop(Wire(api), StandIns(outside), console), baskets)
    except Unanswered as error:
        print(f"orderly: the demo had to stop. {error}", file=sys.stderr)
        return EXIT_DIFFERENT
    show(console, outcome, stack)
    return EXIT_DIFFERENT if outcome.differences else 0


async def replay(
    shop: Shop, baskets: list[Basket], lives_every: int = lives.LIVES_EVERY
) -> Outcome:
    """Serves all baskets, lets orders live, and compares all books there are."""
    await shop.opens()
    plan = lives.plan(baskets, lives_every)
    for planned in plan.values():
        await planned.set_shelves(shop.stand_ins)
    wire, tally = shop.wire, Tally()
    front = ShopFront(wire, tally, {number: it.life.method for number, it in plan.items()})
    began = time.perf_counter()

    def told(seconds: float) -> str:
        return f"{len(tally.placed) / seconds:.0f} orders/s, {tally.reasons.total()} refused"

    with bar(shop.console, "Baskets", len(baskets), told) as advance:
        numbered = list(enumerate(baskets))
        await each(numbered, lambda it: front.serve(*it), SHOPPERS, lambda: advance(1))
    took_s = time.perf_counter() - began
    requests, repetitions = wire.commands, wire.repetitions
    # Each order was read in its last version: the read model has come as far as the shop has.
    expected, found = books.from_file(baskets), books.from_api(await shop.orders())
    to_refuse = books.expected_refusals(baskets)
    return Outcome(
        baskets=len(baskets),
        tally=tally,
        requests=requests,
        repetitions=repetitions,
        took_s=took_s,
        expected=books.sums(expected.values()),
        found=books.sums(entry for entries in found.values() for entry in entries),
        refusals_expected=to_refuse.total(),
        baskets_differ=[
            *books.compare(expected, found),
            *books.compare_refusals(to_refuse, tally.refused_lines),
        ],
        aftermath=await shop.goes_on(tally.placed, baskets, plan),
    )
