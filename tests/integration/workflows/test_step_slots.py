"""Calls of services that hang hold no slot that publishing needs."""

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
from orders.commands import OpenOrder, PlaceOrder
from orders.policy import Policy
from privacy.keys import PostgresKeys
from settings import SERVICE_TIMEOUT_SECONDS_MAX, Settings
from tests.support.command_builders import bagels, message, new_order_id
from tests.support.event_log import log_has
from tests.support.processes import UNREACHABLE_DSN
from tests.support.servers import run_worker, serving
from worker import activities_for, unsealing

SLOTS = 2
WAIT_SECONDS = 60.0
OPENING = OpenOrder(customer_id="900", currency="USD", policy=Policy())


class HangingStock:
    """A stock service that answers only once it may."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_answer = asyncio.Event()
        self.app = FastAPI()
        self.app.post("/reservations")(self.reserve)

    async def reserve(self, body: dict[str, Any]) -> dict[str, Any]:
        self.begun += 1
        await self.may_answer.wait()
        return {"held": [{**line, "location": "EAST"} for line in body["lines"]]}

    async def wait_until_begun(self, count: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while self.begun < count:
                await asyncio.sleep(0.02)


async def test_hanging_calls_delay_no_event(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STEP_SLOTS", SLOTS)
    stock, queue = HangingStock(), f"slots-{new_order_id()}"
    gateway = Gateway(temporal.client, pool, queue)
    placed = [new_order_id() for _ in range(SLOTS + 1)]
    async with serving(stock.app) as http, http_client(SERVICE_TIMEOUT_SECONDS_MAX) as client:
        url = str(http.base_url)
        settings = Settings(postgres_dsn=UNREACHABLE_DSN, task_queue=queue, stock_url=url)
        activities = activities_for(settings, pool, client, unsealing(PostgresKeys(pool)))
        running = run_worker(
            temporal.client, queue, pool, activities, max_concurrent_activities=SLOTS
        )
        async with running:
            for order_id in placed:
                place = message(order_id, OPENING, bagels(), PlaceOrder(), creates_order=True)
                await gateway.execute(place, WAIT_SECONDS)
            await stock.wait_until_begun(SLOTS)
            later = new_order_id()
            await gateway.execute(message(later, OPENING, creates_order=True), WAIT_SECONDS)
            await log_has(pool, later, "order-opened")
            stock.may_answer.set()
            for order_id in placed:
                await log_has(pool, order_id, "stock-reserved")
