"""Failures of the embedded stack make their alerts fire, and dashboards show a stack that works.

`make drills` runs this, with a real Prometheus that scrapes every process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass

import asyncpg
import httpx
import pytest
from temporalio.client import Client

from dev.stack.ports import free_ports
from eventlog.postgres import connect_pool
from orders.events import OrderExpired
from tests.support.command_builders import new_order_id
from tests.support.dashboards import queries
from tests.support.drills import DRILLS, ROUNDS
from tests.support.harmed_stack import HarmedStack, run_harmed_stack
from tests.support.processes import run
from tests.support.projections import OPENED, publish
from tests.support.prometheus import NEEDS_PROMETHEUS, Prometheus, Value, run_prometheus
from tests.support.shop import BREAD, MILK

pytestmark = [NEEDS_PROMETHEUS, pytest.mark.soak, pytest.mark.drill, pytest.mark.timeout(600)]

FIRES_SECONDS_MAX = CLEARS_SECONDS_MAX = 120.0
REQUEST_SECONDS = 0.2
QUIET_SECONDS = 600.0
"""In a drill a minute of a range lasts ten seconds: an hour."""
SHOPPERS = 4
# What a stack without a message broker has no data of.
WITHOUT_DATA = {"orderly_relay_lag_seconds"}


@dataclass(frozen=True)
class Rig(HarmedStack):
    """With a Prometheus beside it."""

    prometheus: Prometheus

    @asynccontextmanager
    async def repeating(self, call: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
        """Repeats a call until the end of the `async with`, whether it fails or not."""

        async def repeat() -> None:
            while True:
                with suppress(httpx.TransportError):
                    await call()
                await asyncio.sleep(REQUEST_SECONDS)

        task = asyncio.create_task(repeat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def orderly(self, *command: str) -> None:
        """Runs a command of the operator on the stack."""
        dsn, temporal = self.stack.postgres_dsn, self.stack.temporal_address
        ended = run(*command, ORDERLY_POSTGRES_DSN=dsn, TEMPORAL_ADDRESS=temporal)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("monitoring")
    (folder / "prometheus").mkdir()
    async with run_harmed_stack(folder) as harmed:
        jobs = {f"orderly-{name}": url for name, url in harmed.stack.admin_urls.items()}
        async with run_prometheus(folder / "prometheus", jobs) as prometheus:
            yield Rig(**vars(harmed), prometheus=prometheus)


@asynccontextmanager
async def endpoint_that_is_away(rig: Rig) -> AsyncIterator[None]:
    """A webhook endpoint at a port on which nothing listens."""
    (port,) = free_ports({"": 0})
    endpoint = {"url": f"http://127.0.0.1:{port}", "from": "beginning"}
    registered = await rig.http.post("/v1/webhook-endpoints", json=endpoint)
    assert registered.status_code == 201, registered.text
    try:
        await (await rig.shop.place_order(MILK)).wait_until_settled()
        yield
    finally:
        path = f"/v1/webhook-endpoints/{registered.json()['endpoint_id']}"
        assert (await rig.http.delete(path)).is_success


@asynccontextmanager
async def no_deliverer(rig: Rig) -> AsyncIterator[None]:
    async with endpoint_that_is_away(rig), rig.fault("down", "deliverer"):
        yield


@asynccontextmanager
async def no_projector(rig: Rig) -> AsyncIterator[None]:
    async with rig.fault("down", "projector"):
        await rig.shop.place_order(MILK)
        yield


@asynccontextmanager
async def no_postgres(rig: Rig) -> AsyncIterator[None]:
    async with rig.fault("down", "postgres"), rig.repeating(lambda: rig.http.get("/v1/orders")):
        yield


@asynccontextmanager
async def locked_log(rig: Rig) -> AsyncIterator[None]:
    async with rig.fault("lock", "order_events"):
        await rig.shop.place_order(MILK)
        yield


@asynccontextmanager
async def no_services(rig: Rig) -> AsyncIterator[None]:
    async with rig.fault("down", "simulators"):
        for _ in range(3):
            await rig.shop.place_order(MILK)
        yield


@asynccontextmanager
async def forged_callbacks(rig: Rig) -> AsyncIterator[None]:
    async with rig.repeating(lambda: rig.http.post("/v1/callbacks/payments", json={})):
        yield


@asynccontextmanager
async def open_transaction(rig: Rig) -> AsyncIterator[None]:
    connection = await asyncpg.connect(rig.stack.postgres_dsn)
    try:
        await connection.execute("BEGIN; SELECT pg_current_xact_id()")
        yield
    finally:
        connection.terminate()


@asynccontextmanager
async def gap_in_the_log(rig: Rig) -> AsyncIterator[None]:
    order_id = new_order_id()
    async with await connect_pool(rig.stack.postgres_dsn) as pool:
        await publish(pool, order_id, 2, OrderExpired())
        yield
        await publish(pool, order_id, 1, OPENED)
    await asyncio.to_thread(rig.orderly, "projections", "retry")


@asynccontextmanager
async def terminated_workflow(rig: Rig) -> AsyncIterator[None]:
    order = await rig.shop.place_order(MILK)
    await order.wait_until_settled()
    client = await Client.connect(rig.stack.temporal_address)
    await client.get_workflow_handle(order.order_id).terminate()
    yield
    await asyncio.to_thread(rig.orderly, "resume", order.order_id)


STAGED: dict[str, Callable[[Rig], AbstractAsyncContextManager[None]]] = {
    "no API": lambda rig: rig.fault("pause", "api"),
    "no worker": lambda rig: rig.fault("down", "worker"),
    "no projector": no_projector,
    "no deliverer": no_deliverer,
    "no Postgres": no_postgres,
    "a locked log": locked_log,
    "no Temporal": lambda rig: rig.fault("pause", "temporal"),
    "no services": no_services,
    "forged callbacks": forged_callbacks,
    "an open transaction": open_transaction,
    "a gap in the log": gap_in_the_log,
    "a terminated workflow": terminated_workflow,
    "a webhook endpoint that is away": endpoint_that_is_away,
}


async def test_every_panel_shows_data_of_a_stack_that_works(rig: Rig) -> None:
    """Only an endpoint is away, and commands are rejected."""

    async def be_busy() -> None:
        draft = await rig.shop.place_order(MILK, place=False)
        assert (await draft.send("release-order")).status_code == 409
        await (await rig.shop.place_order(MILK, BREAD)).wait_until_settled()

    empty = ["not asked yet"]
    async with endpoint_that_is_away(rig), rig.repeating(be_busy):
        try:
            async with asyncio.timeout(FIRES_SECONDS_MAX):
                while empty:
                    empty = [each async for each in panels_without_data(rig.prometheus)]
        except TimeoutError:
            pytest.fail(f"no data: {empty}")


async def panels_without_data(prometheus: Prometheus) -> AsyncIterator[str]:
    for query in queries():
        if query.metrics & WITHOUT_DATA:
            continue
        if not has_numbers(await prometheus.query(query.expr)):
            yield f"{query.panel}: {query.expr}"


def has_numbers(series: list[Value]) -> bool:
    """Whether one of the series has a value that a panel can draw."""
    return any(one["value"][1] != "NaN" for one in series)


@pytest.mark.timeout(1_200)
async def test_nothing_fires_in_a_quiet_hour_of_load(rig: Rig) -> None:
    """Orders are placed and settled, and commands rejected, which is usual."""

    async def shop() -> None:
        while not over.is_set():
            draft = await rig.shop.place_order(MILK, place=False)
            assert (await draft.send("release-order")).status_code == 409
            await (await rig.shop.place_order(MILK, BREAD)).wait_until_settled()

    while not await rig.prometheus.query('up{job="orderly-api"} == 1'):
        await asyncio.sleep(1)  # Before its first scrape, Prometheus knows of no API.
    await rig.prometheus.see(set(), CLEARS_SECONDS_MAX)
    over, clock = asyncio.Event(), asyncio.get_running_loop().time
    until = clock() + QUIET_SECONDS
    async with asyncio.TaskGroup() as shoppers:
        for _ in range(SHOPPERS):
            shoppers.create_task(shop())
        while clock() < until:
            assert await rig.prometheus.firing() == set()
            await asyncio.sleep(1)
        over.set()


@pytest.mark.parametrize("drills", ROUNDS, ids=", ".join)
async def test_failures_fire_their_alerts_and_their_end_clears_them(
    rig: Rig, drills: list[str]
) -> None:
    await rig.prometheus.see(set(), CLEARS_SECONDS_MAX)
    expected = {alert for drill in drills for alert in DRILLS[drill]}
    async with AsyncExitStack() as staged:
        for drill in drills:
            await staged.enter_async_context(STAGED[drill](rig))
        await rig.prometheus.see(expected, FIRES_SECONDS_MAX)
    await rig.prometheus.see(set(), CLEARS_SECONDS_MAX)
