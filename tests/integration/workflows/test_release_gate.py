"""The release gate lets a version get orders, or says why not; histories are recorded."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.testing import WorkflowEnvironment

import release_gate
import workflows.command_handler
from api.gateway.gateway import Gateway
from cli.recording import record
from contracts.declaration import Declaration
from dev.release.past import orders_of
from readside.registry import PROJECTIONS
from release_gate import GateChecks
from tests.support.changed_rules import decide_dearer
from tests.support.command_builders import bagels, new_order_id, opening
from tests.support.servers import cut_off, run_worker
from tests.support.worker_versions import Deployment
from workflows.release_gate import RELEASE_GATE, GateInput, GateReport

WAIT_SECONDS = 60
ACTIVITY_COMPLETED = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED


async def until_publishing_is_recorded(client: Client, order_id: str) -> None:
    """Waits until a replay of the order would notice other events: by what was published."""
    handle = client.get_workflow_handle(order_id)
    async with asyncio.timeout(WAIT_SECONDS):
        while ACTIVITY_COMPLETED not in {e.event_type async for e in handle.fetch_history_events()}:
            await asyncio.sleep(0.05)


async def test_gate_closes_for_what_must_not_get_orders(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, queue = temporal.client, f"gate-{secrets.token_hex(4)}"
    gate = GateChecks(client, pool, queue)

    async def passed() -> GateReport:
        report: GateReport = await client.execute_workflow(
            RELEASE_GATE,
            id=f"gate-{secrets.token_hex(4)}",
            task_queue=queue,
            result_type=GateReport,
        )
        return report

    async def refusal() -> str:
        with pytest.raises(WorkflowFailureError) as failed:
            await passed()
        cause = failed.value.cause
        assert isinstance(cause, ActivityError) and isinstance(cause.cause, ApplicationError)
        return cause.cause.message

    activities = [*cut_off(pool), gate.check_release]
    order_id = new_order_id()
    async with run_worker(client, queue, pool, activities, replays=False):
        await Gateway(client, pool, queue).execute(opening(order_id, bagels()), WAIT_SECONDS)
        await until_publishing_is_recorded(client, order_id)
        # Visibility lists an order a moment after it was opened.
        while (report := await passed()).replayed == 0:
            pass
        assert report == GateReport(replayed=1, rewritten=0)

        recorded = [runs async for runs in record(client, queue, 5, tmp_path)]
        (order,) = [order async for order in orders_of(tmp_path.glob("*.json"))]
        assert [runs for _, runs in recorded] == [1]
        assert [fact[0] for fact in order.events] == ["order-opened", "item-added"]

        with monkeypatch.context() as changed:
            changed.setattr(workflows.command_handler, "decide_all", decide_dearer)
            assert "rewrites the past of 1 of 1 open orders" in await refusal()
            declared = Declaration(rewrites="dearer", workers="versioned")
            changed.setattr(release_gate, "read_declaration", lambda _: declared)
            assert await passed() == GateReport(replayed=1, rewritten=1)

        with monkeypatch.context() as changed:
            newer = replace(PROJECTIONS[0], version=99)
            changed.setattr(release_gate, "PROJECTIONS", (newer,))
            assert "run `orderly projections rebuild order_view`" in await refusal()

        await pool.execute("DELETE FROM schema_migrations WHERE name LIKE '0009%'")
        assert "0009_intents.sql is not applied: run `orderly migrate`" in await refusal()


async def test_gate_replays_no_order_that_stays_in_an_older_version(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(temporal.client, pool, dsn, f"gate-{secrets.token_hex(4)}")

    async def opened(build: str) -> None:
        await deployment.make_current(build)
        order_id = new_order_id()
        await deployment.gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
        await until_publishing_is_recorded(deployment.client, order_id)
        await deployment.wait_until_listed(build, order_id)

    async with deployment.worker("old"), deployment.worker("new"):
        await opened("old")
        monkeypatch.setattr(workflows.command_handler, "decide_all", decide_dearer)
        await opened("new")
        gate = GateChecks(deployment.client, pool, deployment.name)
        assert await gate.check_release(GateInput()) == GateReport(replayed=1, rewritten=0)


async def test_gate_names_a_database_without_tables(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool
) -> None:
    await pool.execute("DROP TABLE schema_migrations")
    gate = GateChecks(temporal.client, pool, "none")
    [reason] = [reason async for reason in gate._unprepared()]
    assert reason.startswith("0001_order_events.sql, ")
    assert reason.endswith(" is not applied: run `orderly migrate`")
