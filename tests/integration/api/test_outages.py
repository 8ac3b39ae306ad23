"""What is acknowledged and cannot be published shows in readiness and in the metrics."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from unittest.mock import AsyncMock

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from api.app import READINESS_SECONDS
from api.monitoring import health
from api.monitoring.readiness import read_state
from eventlog import log
from eventlog.postgres import connect_pool
from settings import Settings
from tests.support.api_requests import BASKET, until_ready
from tests.support.processes import UNREACHABLE_DSN, run_inside
from tests.support.servers import ApiClient, Running, run_api, run_projector, run_worker

SHOWN_SECONDS_MAX = 60
"""On a busy machine; the documentation promises 15."""


async def test_order_that_cannot_publish_is_counted_until_it_can(
    temporal: WorkflowEnvironment, dsn: str, pool: asyncpg.Pool
) -> None:
    """The workers alone cannot reach Postgres: commands are accepted, and reads are served."""
    queue = f"outage-{secrets.token_hex(4)}"
    settings = Settings(postgres_dsn=dsn, task_queue=queue)
    async with run_projector(dsn), run_api(temporal.client, settings) as http:
        await _wait_for(http, 0)
        async with (
            await connect_pool(UNREACHABLE_DSN) as unreachable,
            run_worker(temporal.client, queue, unreachable),
        ):
            opened = await http.post("/v1/orders", json=BASKET)
            assert opened.status_code == 201
            assert await _wait_for(http, 1) >= 5
            await until_ready(http, "commands")
            await _wait_for_status(http, r"^unpublished orders +1: ")

            second = await http.post("/v1/orders", json=BASKET)
            assert second.status_code == 201, "orders are accepted meanwhile"
        order_id = opened.json()["order_id"]
        assert await log.head(pool, order_id) == 0
        async with run_worker(temporal.client, queue, pool):
            assert await _wait_for(http, 0) == 0
            assert await log.head(pool, order_id) == opened.json()["version"]


async def test_readiness_tells_commands_from_reads(
    temporal: WorkflowEnvironment, dsn: str, pool: asyncpg.Pool
) -> None:
    """Without a projector, a balancer may still send commands to this process."""
    queue = f"outage-{secrets.token_hex(4)}"
    async with (
        run_worker(temporal.client, queue, pool),
        run_api(temporal.client, Settings(postgres_dsn=dsn, task_queue=queue)) as http,
    ):
        async with asyncio.timeout(SHOWN_SECONDS_MAX):
            while (await http.get("/readyz", params={"for": "reads"})).status_code != 503:
                await asyncio.sleep(0.2)
        await until_ready(http, "commands")
        seen = await http.get("/readyz")
        assert seen.status_code == 503
        assert seen.json() == {"ready": False, "commands": True, "reads": False}
        for port in (http, http.admin):
            assert (await port.get("/readyz", params={"for": "lunch"})).status_code == 422
        [reason] = (await http.admin.get("/readyz", params={"for": "reads"})).json()["reasons"]
        assert reason.startswith("order_view: no projector ")


async def _wait_for(http: ApiClient, orders: int) -> float:
    """The age in seconds that the metrics show, once they and the readiness show these orders."""
    async with asyncio.timeout(SHOWN_SECONDS_MAX):
        while (await http.admin.get("/readyz")).json()["unpublished_orders"] != orders:
            await asyncio.sleep(0.2)
        while (shown := await _unpublished(http)) is None or shown[0] != orders:
            await asyncio.sleep(0.2)
    return shown[1]


async def _wait_for_status(http: ApiClient, line: str) -> None:
    """Waits until `orderly status`, which waits four seconds for an answer, prints a line."""
    async with asyncio.timeout(SHOWN_SECONDS_MAX):
        while True:
            url = str(http.admin.base_url)
            seen = await asyncio.to_thread(run_inside, "status", "--url", url)
            assert seen.returncode == 1, seen
            if re.search(line, seen.stdout, re.MULTILINE):
                return


async def _unpublished(http: ApiClient) -> tuple[float, float] | None:
    """The number and the age in seconds that the metrics show; None while Temporal is slow."""
    metrics = (await http.admin.get("/metrics")).text
    orders = re.search(r"^orderly_unpublished_orders (\S+)", metrics, re.MULTILINE)
    age = re.search(r"^orderly_unpublished_age_seconds (\S+)", metrics, re.MULTILINE)
    return (float(orders[1]), float(age[1])) if orders and age else None


async def test_flood_of_readiness_checks_is_one_check_a_second(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = AsyncMock(wraps=read_state)
    monkeypatch.setattr(health, "read_state", read)
    began = time.monotonic()
    for _ in range(5):
        await asyncio.gather(*(orderly.http.get("/readyz") for _ in range(20)))
    assert read.await_count <= 1 + (time.monotonic() - began) / READINESS_SECONDS
