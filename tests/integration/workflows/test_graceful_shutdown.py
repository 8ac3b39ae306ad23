"""A stopping worker finishes the calls that it has begun."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections import Counter
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from temporalio.testing import WorkflowEnvironment

import worker
from activities.service_client import http_client
from api.gateway.gateway import Gateway
from dev.stack.supervisor import STOP_S_MAX
from eventlog import log
from privacy.keys import PostgresKeys
from settings import SERVICE_TIMEOUT_SECONDS_MAX, Settings
from tests.support.command_builders import new_order_id, placing
from tests.support.event_log import log_has
from tests.support.paths import ROOT
from tests.support.processes import UNREACHABLE_DSN, environment
from tests.support.servers import cut_off, serving
from worker import activities_for, running, unsealing, workers_for
from workflows.activity_options import STEP_TIMEOUT

RESTARTS = 6  # More than the attempts after which a step is stuck.
PAYMENT_SECONDS = 1.0
WAIT_SECONDS = 60.0


class SlowPayments:
    """A slow payment service, and fast stock and shipping services."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.app = FastAPI()
        self.app.post("/authorisations")(self.authorise)
        self.app.post("/reservations")(self.reserve)
        self.app.put("/shipments/{order_id}/{shipment_id}")(self.book)

    async def authorise(self, body: dict[str, Any]) -> dict[str, str]:
        self.begun[body["order_id"]] += 1
        await asyncio.sleep(PAYMENT_SECONDS)
        self.finished[body["order_id"]] += 1
        return {"reference": "a"}

    async def reserve(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"held": [{**line, "location": "EAST"} for line in body["lines"]]}

    async def book(self, order_id: str, shipment_id: str) -> dict[str, Any]:
        return {}

    async def wait_until_begun(self, order_id: str) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while order_id not in self.begun:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("part", "call"),
    [("_bridge_worker", "finalize_shutdown"), ("_activity_worker", "wait_all_completed")],
)
async def test_worker_is_left_if_the_sdk_does_not_end_it(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    part: str,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The SDK has been seen to wait for ever, after the last call, for its core to end.

    It ignores that it is cancelled there, and only there.
    """
    monkeypatch.setattr(worker, "SHUTDOWN_SECONDS_MAX", 1.0)
    settings = Settings(postgres_dsn=UNREACHABLE_DSN, task_queue=f"left-{new_order_id()}")
    hanging, *steps = workers_for(temporal.client, settings, cut_off(pool))
    monkeypatch.setattr(getattr(hanging, part), call, asyncio.Event().wait)
    has_ended = asyncio.Event()
    async with asyncio.timeout(WAIT_SECONDS):
        async with running([hanging, *steps], has_ended.set):
            pass
        await has_ended.wait()
    assert "is left" in caplog.text


async def test_sigterm_during_a_slow_payment_lets_it_finish(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, dsn: str
) -> None:
    services, order_id, queue = SlowPayments(), new_order_id(), f"sigterm-{new_order_id()}"
    async with serving(services.app) as http:
        url = str(http.base_url)
        variables = environment(
            ORDERLY_POSTGRES_DSN=dsn,
            ORDERLY_TASK_QUEUE=queue,
            ORDERLY_PAYMENTS_URL=url,
            ORDERLY_STOCK_URL=url,
            ORDERLY_SHIPPING_URL=url,
            TEMPORAL_ADDRESS=temporal.client.service_client.config.target_host,
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "worker.py", cwd=ROOT, env=variables
        )
        try:
            order = placing(order_id)
            await Gateway(temporal.client, pool, queue).execute(order, WAIT_SECONDS)
            await services.wait_until_begun(order_id)
        finally:
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        assert services.finished == Counter([order_id])


async def test_restarts_during_payments_are_not_attempts_of_a_step(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool
) -> None:
    services, order_ids = SlowPayments(), [new_order_id() for _ in range(RESTARTS)]
    queue = f"restarts-{new_order_id()}"
    gateway = Gateway(temporal.client, pool, queue)
    async with serving(services.app) as http, http_client(5) as client:
        settings = settings_for(http, queue)
        activities = activities_for(settings, pool, client, unsealing(PostgresKeys(pool)))
        for order_id in order_ids:
            async with running(workers_for(temporal.client, settings, activities), lambda: None):
                await gateway.execute(placing(order_id), WAIT_SECONDS)
                await services.wait_until_begun(order_id)
            assert services.finished[order_id] == 1, "the worker waited for the response"
        async with running(workers_for(temporal.client, settings, activities), lambda: None):
            for order_id in order_ids:
                await log_has(pool, order_id, "shipment-booked")
    assert services.begun == Counter(order_ids), "no payment was called again"
    for order_id in order_ids:
        types = {event.type for event in await log.read_stream(pool, order_id)}
        assert "step-stuck" not in types


def settings_for(services: httpx.AsyncClient, queue: str) -> Settings:
    url = str(services.base_url)
    return Settings(
        postgres_dsn=UNREACHABLE_DSN,
        task_queue=queue,
        payments_url=url,
        stock_url=url,
        shipping_url=url,
    )


def test_longest_call_fits_into_the_stop_timeout() -> None:
    assert SERVICE_TIMEOUT_SECONDS_MAX < STEP_TIMEOUT.total_seconds() < STOP_S_MAX
    compose = (ROOT / "docker-compose.yml").read_text()
    (grace,) = re.findall(r"^  stop_grace_period: (\d+)s", compose, re.MULTILINE)
    assert int(grace) > STEP_TIMEOUT.total_seconds()
