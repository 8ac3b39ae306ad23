"""The load: clients that each send one request at a time, and what a round of it took."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Protocol, TypeVar

T = TypeVar("T")

COMMANDS_PER_ORDER = 10
ITEM = {"sku": "1095275", "title": "ROLLS: BAGELS", "quantity": 2, "unit_price": 50}
ROUND_S_MAX = 600.0  # A round that hangs ends with an error.


@dataclass(frozen=True)
class Round:
    """What a number of requests took, up to their acknowledgement and to the end of all work."""

    requests: int
    acknowledged_s: float
    done_s: float
    latencies_s: list[float]
    """From each request to its acknowledgement."""
    cpu_s: dict[str, float]
    """By the name of the process."""

    @property
    def per_second(self) -> float:
        return self.requests / self.done_s

    @property
    def acknowledged_per_second(self) -> float:
        return self.requests / self.acknowledged_s


class Stopwatch:
    """Awaits requests and notes how long each took."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []

    async def __call__(self, request: Awaitable[T]) -> T:
        began = perf_counter()
        answer = await request
        self.latencies_s.append(perf_counter() - began)
        return answer


ReadCpu = Callable[[], dict[str, float]]
"""Processor seconds used so far, by the name of the process."""

Client = Callable[[T, Stopwatch], Awaitable[None]]
"""Does one job, timing each request that it sends for it."""


async def run(
    clients: Sequence[Client[T]],
    jobs: Iterable[T],
    caught_up: Callable[[], Awaitable[None]],
    cpu: ReadCpu,
) -> Round:
    """Shares the jobs among the clients; returns when all that follows has been done, too."""
    timed, waiting = Stopwatch(), iter(jobs)

    async def work(client: Client[T]) -> None:
        for job in waiting:
            await client(job, timed)

    cpu_before, began = cpu(), perf_counter()
    async with asyncio.timeout(ROUND_S_MAX):
        await asyncio.gather(*map(work, clients))
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


class Shop(Protocol):
    """Where a client sends its commands."""

    async def open(self) -> str:
        """Opens an order and returns its id."""

    async def add(self, order_id: str) -> None:
        """Adds ITEM to an order."""


class Side(Protocol):
    """One of those that are compared."""

    @property
    def shops(self) -> Sequence[Shop]:
        """One for each client."""

    async def catch_up(self, commands: int) -> None:
        """Returns when all that follows from so many commands more has been done."""


async def fill_orders(side: Side, orders: int, cpu: ReadCpu) -> Round:
    """Commands to new orders, COMMANDS_PER_ORDER to each, one after the other."""
    clients = [partial(_fill_one, shop) for shop in side.shops]
    caught_up = partial(side.catch_up, orders * COMMANDS_PER_ORDER)
    return await run(clients, range(orders), caught_up, cpu)


async def _fill_one(shop: Shop, _: int, timed: Stopwatch) -> None:
    order_id = await timed(shop.open())
    for _ in range(COMMANDS_PER_ORDER - 1):
        await timed(shop.add(order_id))
