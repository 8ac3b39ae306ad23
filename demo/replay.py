"""The demo itself: baskets in over HTTP, orders out over HTTP, and the two compared."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from demo import books
from demo.baskets import Basket
from demo.shopfront import ShopFront, Tally
from demo.summary import Outcome, show
from demo.wire import Unanswered, Wire

if TYPE_CHECKING:
    from stack.programs import Addresses

SHOPPERS = 16
ANSWER_S_MAX = 35.0  # The API answers within 10 seconds, if only that it does not know yet.

EXIT_DIFFERENT = 1


async def run(stack: Addresses, baskets: list[Basket]) -> int:
    """Replays the baskets and says how it went.

    Returns the exit code: 0 only if the API's books are the file's, to the cent.
    """
    console = Console(highlight=False)
    try:
        # No proxy on the way to ourselves.
        async with httpx.AsyncClient(
            base_url=stack.api_url, timeout=ANSWER_S_MAX, trust_env=False
        ) as http:
            outcome = await replay(Wire(http), baskets, console)
    except Unanswered as error:
        print(f"orderly: the demo had to stop. {error}", file=sys.stderr)
        return EXIT_DIFFERENT
    show(console, outcome, stack)
    return EXIT_DIFFERENT if outcome.differences else 0


async def replay(wire: Wire, baskets: list[Basket], console: Console) -> Outcome:
    """Serves all baskets and compares what the API then shows with what the file says."""
    there_before = {order["order_id"] async for order in wire.orders()}
    tally = Tally()
    began = time.perf_counter()
    with _progress(console, len(baskets), tally) as show_progress:
        await _serve_all(ShopFront(wire, tally), baskets, show_progress)
    took_s = time.perf_counter() - began
    # Each order was read in its last version: the read model has come as far as the shop has.
    orders = [o async for o in wire.orders() if o["order_id"] not in there_before]
    expected, found = books.from_file(baskets), books.from_api(orders)
    to_refuse = books.expected_refusals(baskets)
    return Outcome(
        baskets=len(baskets),
        tally=tally,
        requests=wire.commands,
        repetitions=wire.repetitions,
        took_s=took_s,
        expected=books.sums(expected.values()),
        found=books.sums(entry for entries in found.values() for entry in entries),
        refusals_expected=to_refuse.total(),
        differences=[
            *books.compare(expected, found),
            *books.compare_refusals(to_refuse, tally.refused_lines),
        ],
    )


async def _serve_all(shop: ShopFront, baskets: list[Basket], served: Callable[[], None]) -> None:
    """Serves the baskets in turn, several at a time; the first that finds no answer ends it all."""
    queue = iter(enumerate(baskets))

    async def shopper() -> None:
        for number, basket in queue:
            await shop.serve(number, basket)
            served()

    try:
        async with asyncio.TaskGroup() as shoppers:
            for _ in range(SHOPPERS):
                shoppers.create_task(shopper())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


@contextmanager
def _progress(console: Console, baskets: int, tally: Tally) -> Iterator[Callable[[], None]]:
    """A bar that is up to date after each call."""
    columns = (
        TextColumn("  Baskets"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=baskets, told="")
        began = time.perf_counter()

        def served() -> None:
            speed = len(tally.placed) / (time.perf_counter() - began)
            refusals = tally.reasons.total()
            told = f"{speed:.0f} orders/s, {refusals} refused"
            progress.update(task, completed=tally.baskets, told=told)

        yield served
