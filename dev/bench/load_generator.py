"""Clients that each send one request at a time, and the measurements of a round of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Protocol, TypeVar

from rich.console import Console

T = TypeVar("T")

COMMANDS_PER_ORDER = 10
ITEM = {"sku": "1095275", "title": "ROLLS: BAGELS", "quantity": 2, "unit_price": 50}
PAUSE_S = 0.5  # Work that goes on after a round must not count in the next one.
ROUND_S_MAX = 600.0  # A round that hangs ends with an error.


@dataclass(frozen=True)
class Round:
    """The duration of a number of requests, until they are acknowledged and until all is done."""

    requests: int
    acknowledged_s: float
    done_s: float
    latencies_s: list[float]
    """From each request to its acknowledgement."""
    cpu_s: dict[str, float]
    """By process name."""

    @property
    def per_second(self) -> float:
        return self.requests / self.done_s

    @property
    def acknowledged_per_second(self) -> float:
        return self.requests / self.acknowledged_s


class Stopwatch:
    """Awaits requests, and records the latency of each."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []

    async def __call__(self, request: Awaitable[T]) -> T:
        began = perf_counter()
        response = await request
        self.latencies_s.append(perf_counter() - began)
        return response


ReadCpu = Callable[[], dict[str, float]]
"""Processor seconds used so far, by process name."""

Worker = Callable[[T, Stopwatch], Awaitable[None]]
"""Does one job, and times each request of it."""


async def run_round(
    workers: Sequence[Worker[T]],
    jobs: Iterable[T],
    caught_up: Callable[[], Awaitable[None]],
    cpu: ReadCpu,
) -> Round:
    """Shares the jobs among the workers; returns when all consequences are done, too."""
    timed, queue = Stopwatch(), iter(jobs)

    async def work(worker: Worker[T]) -> None:
        for job in queue:
            await worker(job, timed)

    cpu_before, began = cpu(), perf_counter()
    async with asyncio.timeout(ROUND_S_MAX):
        await asyncio.gather(*map(work, workers))
        acknowledged = perf_counter()
        await caught_up()
        ended, cpu_after = perf_counter(), cpu()
    return Round(
        requests=len(timed.latencies_s),
        acknowledged_s=acknowledged - began,
        done_s=ended - began,
        latencies_s=timed.latencies_s,
        cpu_s={name: cpu_after[name] - cpu_before[name] for name in cpu_after},
    )


class OrderClient(Protocol):
    """Sends commands to orders."""

    async def open(self) -> str:
        """Opens an order and returns its id."""

    async def add(self, order_id: str) -> None:
        """Adds ITEM to an order."""

    async def place_order(self, order_id: str) -> None:
        """Places an order, whose steps follow."""


class System(Protocol):
    """One of the systems that are compared."""

    @property
    def clients(self) -> Sequence[OrderClient]:
        """They send at the same time."""

    async def catch_up(self, commands: int) -> None:
        """Returns when the consequences of this many further commands are done."""


async def fill_orders(system: System, orders: int, cpu: ReadCpu) -> Round:
    """Sends COMMANDS_PER_ORDER commands, one after the other, to each of `orders` new orders."""
    workers = [partial(fill_order, client) for client in system.clients]
    caught_up = partial(system.catch_up, orders * COMMANDS_PER_ORDER)
    return await run_round(workers, range(orders), caught_up, cpu)


async def alternate(
    fills: Mapping[str, Callable[[], Awaitable[Round]]], rounds: int, console: Console
) -> dict[str, list[Round]]:
    """Runs rounds of each of `fills`, which take turns in going first; returns them by name."""
    found: dict[str, list[Round]] = {name: [] for name in fills}
    width = max(map(len, fills)) + 1
    for number in range(rounds):
        for name in sorted(fills, reverse=number % 2 == 0):
            await asyncio.sleep(PAUSE_S)
            one = await fills[name]()
            found[name].append(one)
            console.print(
                f"round {number + 1}: {name:<{width}} {one.per_second:6.1f} commands per second"
            )
    return found


async def load_together(
    fills: Mapping[str, Callable[[], Awaitable[Round]]], rounds: int, console: Console
) -> dict[str, list[Round]]:
    """Runs rounds of all `fills` at the same time; returns them by name.

    What slows the machine down for a while then slows all of them down alike.
    """
    found: dict[str, list[Round]] = {name: [] for name in fills}
    for number in range(rounds):
        await asyncio.sleep(PAUSE_S)
        ended = await asyncio.gather(*(fill() for fill in fills.values()))
        for name, one in zip(fills, ended, strict=True):
            found[name].append(one)
        rates = ", ".join(f"{name} {found[name][-1].per_second:.1f}" for name in fills)
        console.print(f"round {number + 1}, commands per second: {rates}")
    return found


def orders_of_a_round(commands: int, rounds: int) -> int:
    """How many new orders each of `rounds` fills, which have `commands` in all."""
    return max(commands // rounds // COMMANDS_PER_ORDER, 1)


async def fill_order(client: OrderClient, _: int, timed: Stopwatch) -> None:
    """Sends COMMANDS_PER_ORDER commands, one after the other, to a new order."""
    order_id = await timed(client.open())
    for _ in range(COMMANDS_PER_ORDER - 1):
        await timed(client.add(order_id))
