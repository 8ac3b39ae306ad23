"""Once a service is back, the orders that waited for it go on one after the other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI, Response
from temporalio.testing import WorkflowEnvironment

import worker_pacing
from activities.service_client import http_client
from api.gateway.gateway import Gateway
from privacy.keys import PostgresKeys
from settings import SERVICE_TIMEOUT_SECONDS_MAX, Settings
from tests.support.command_builders import new_order_id, placing
from tests.support.event_log import log_has
from tests.support.processes import UNREACHABLE_DSN
from tests.support.servers import run_worker, serving
from worker import activities_for, unsealing
from workflows import step_runner

ORDERS = 6
PER_SECOND = 0.5  # Slow enough for a new order to overtake them on a busy machine.
WAIT_SECONDS = 60.0


class Stock:
    """A stock service that is down until it is said to be back."""

    def __init__(self) -> None:
        self.is_back = False
        self.reserved: dict[str, float] = {}
        """When it did so, by order."""
        self.app = FastAPI()
        self.app.post("/reservations")(self.reserve)

    async def reserve(self, body: dict[str, Any], response: Response) -> dict[str, Any]:
        if not self.is_back:
            response.status_code = 503
            return {"reason": "the warehouse is closed"}
        self.reserved[body["order_id"]] = time.monotonic()
        return {"held": [{**line, "location": "EAST"} for line in body["lines"]]}

    async def wait_until_reserved(self, count: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.reserved) < count:
                await asyncio.sleep(0.02)


async def test_orders_take_turns_and_new_ones_wait_for_none_of_them(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All are due at once, and the worker finds no time for more.
    monkeypatch.setattr(step_runner, "STUCK_SECONDS", (0.1, 0.1))
    monkeypatch.setattr(worker_pacing, "adjusted", lambda *_: PER_SECOND)
    stock, queue = Stock(), f"outage-{new_order_id()}"
    gateway = Gateway(temporal.client, pool, queue)

    async def place() -> str:
        order_id = new_order_id()
        await gateway.execute(placing(order_id), WAIT_SECONDS)
        return order_id

    async with serving(stock.app) as http, http_client(SERVICE_TIMEOUT_SECONDS_MAX) as client:
        settings = Settings(
            postgres_dsn=UNREACHABLE_DSN, task_queue=queue, stock_url=str(http.base_url)
        )
        activities = activities_for(settings, pool, client, unsealing(PostgresKeys(pool)))
        async with run_worker(temporal.client, queue, pool, activities):
            stuck = [await place() for _ in range(ORDERS)]
            for order_id in stuck:
                await log_has(pool, order_id, "step-stuck")
            stock.is_back = True
            await stock.wait_until_reserved(1)
            new = await place()
            await stock.wait_until_reserved(ORDERS + 1)
    turns = sorted(stock.reserved[order_id] for order_id in stuck)
    # The first calls may have been taken before, and come at once.
    assert turns[-1] - turns[0] >= (ORDERS - 3) / PER_SECOND
    assert stock.reserved[new] < turns[-1]
