"""A stack whose parts can be harmed, and a shop that orders there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from dev.chaos.history import History
from dev.chaos.nemesis import Nemesis, Proxies
from dev.chaos.schedule import Fault
from dev.chaos.workload import Load
from dev.stack import Stack, StackOptions, run_stack
from tests.support.shop import Shop

LASTS = 600.0  # Longer than any fault of a test: it ends when it has been seen.
REQUEST_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class HarmedStack:
    """A stack, and what harms it."""

    stack: Stack
    http: httpx.AsyncClient
    shop: Shop
    _nemesis: Nemesis

    @asynccontextmanager
    async def fault(self, kind: str, target: str) -> AsyncIterator[None]:
        """A fault that lasts until the end of the `async with`."""
        task = asyncio.create_task(self._nemesis.do(Fault(kind, target, LASTS)))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def run_harmed_stack(folder: Path) -> AsyncIterator[HarmedStack]:
    """Runs a stack behind proxies."""
    proxies = Proxies()
    options = StackOptions(folder / "data", 0, 0, 0, reroute=proxies.reroute)
    async with (
        run_stack(options) as stack,
        httpx.AsyncClient(base_url=stack.api_url, timeout=REQUEST_SECONDS_MAX) as http,
        httpx.AsyncClient(base_url=stack.simulators_url, timeout=60) as simulators,
    ):
        load = Load(History(), stack.api_urls, stack.simulators_url, run="harmed")
        yield HarmedStack(stack, http, Shop(http, simulators), Nemesis(stack, proxies, load))
