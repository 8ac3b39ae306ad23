"""Calls that hang hold no slot that publishing or another service needs."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI
from temporalio.testing import WorkflowEnvironment

import worker
from activities.service_client import http_client
from api.gateway.gateway import Gateway
from privacy.keys import PostgresKeys
from settings import SERVICE_TIMEOUT_SECONDS_MAX, Settings
from tests.support.command_builders import new_order_id, placing
from tests.support.event_log import log_has
from tests.support.processes import UNREACHABLE_DSN
from tests.support.servers import run_worker, serving
from worker import activities_for, unsealing

SLOTS = 2
WAIT_SECONDS = 60.0


class Services:
    """A stock service that answers at once, and a payment service that answers once it may."""

    def __init__(self) -> None:
        self.hanging = 0
        self.may_answer = asyncio.Event()
        self.app = FastAPI()
        self.app.post("/stock/reservations")(self.reserve)
        self.app.post("/payments/authorisations")(self.authorise)

    async def reserve(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"held": [{**line, "location": "EAST"} for line in body["lines"]]}

    async def authorise(self, body: dict[str, Any]) -> dict[str, Any]:
        self.hanging += 1
        await self.may_answer.wait()
        return {"reference": f"ref-{body['order_id']}"}

    async def wait_until_hanging(self, count: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while self.hanging < count:
                await asyncio.sleep(0.02)


async def test_hanging_calls_delay_no_event_and_no_other_service(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STEP_SLOTS", SLOTS)
    services, queue = Services(), f"slots-{new_order_id()}"
    gateway = Gateway(temporal.client, pool, queue)

    async def place() -> str:
        order_id = new_order_id()
        await gateway.execute(placing(order_id), WAIT_SECONDS)
        return order_id

    async with serving(services.app) as http, http_client(SERVICE_TIMEOUT_SECONDS_MAX) as client:
        settings = Settings(
            postgres_dsn=UNREACHABLE_DSN,
            task_queue=queue,
            stock_url=f"{http.base_url}/stock",
            payments_url=f"{http.base_url}/payments",
        )
        activities = activities_for(settings, pool, client, unsealing(PostgresKeys(pool)))
        running = run_worker(
            temporal.client, queue, pool, activities, max_concurrent_activities=SLOTS
        )
        async with running:
            placed = [await place() for _ in range(SLOTS + 1)]
            await services.wait_until_hanging(SLOTS)
            placed.append(await place())
            await log_has(pool, placed[-1], "stock-reserved")
            services.may_answer.set()
            for order_id in placed:
                await log_has(pool, order_id, "payment-authorised")
