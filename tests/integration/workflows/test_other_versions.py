"""Orders whose commands, states or events another version of the software wrote."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import TypeAdapter
from pydantic_core import to_json
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

import orders.upcasting
import workflows.capacity
import workflows.unreadable
from api.gateway.command_message import CommandMessage
from api.gateway.command_status import command_status
from api.gateway.gateway import Gateway
from eventlog import log
from orders.commands import AddNote, CancelOrder
from orders.events import BY_TAG
from settings import Settings
from tests.support.api_requests import opened
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.histories import current_details, golden_histories, runs_of
from tests.support.orphans import resumed, terminate
from tests.support.other_versions import newer, restart
from tests.support.servers import Running, run_api, run_worker
from tests.support.shop import MILK, Shop
from workflows.command_handler import Rejected
from workflows.idempotency import CommandStatus
from workflows.messages import (
    EVENT_UNREADABLE,
    LOG_BEHIND,
    NOT_KNOWN_YET,
    CommandBatch,
    QueuedCommands,
)
from workflows.order import OrderWorkflow
from workflows.publisher import INEFFECTIVE_MAX
from workflows.replay import replayer
from workflows.snapshot import Snapshot, SnapshotLost

WAIT_SECONDS = 30.0
SOON = timedelta(seconds=0.3)

_STATUS: Any = CommandStatus | None  # The converter accepts it, although it is no class.


async def status(client: Client, sent: CommandMessage) -> CommandStatus | None:
    found: CommandStatus | None = await client.get_workflow_handle(sent.order_id).query(
        "command_status", sent.command_id, result_type=_STATUS
    )
    return found


async def reaches(gateway_pool: Any, order_id: str, version: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await log.head(gateway_pool, order_id) < version:
            await asyncio.sleep(0.02)


async def test_command_of_a_newer_version_is_rejected_for_now_and_leaves_no_trace(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    for _ in range(2):
        with pytest.raises(Rejected) as rejected:
            await gateway.execute(newer(order_id), WAIT_SECONDS)
        assert rejected.value.rejection.code == NOT_KNOWN_YET
    preview = await gateway.preview(newer(order_id), WAIT_SECONDS)
    assert preview.rejection is not None and preview.rejection.code == NOT_KNOWN_YET
    (run,) = await runs_of(orderly.client, order_id)
    kinds = [EventType.Name(event.event_type) for event in run.events]
    assert kinds.count("EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED") == 1, "only the opening"
    assert (await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)).version == 2


async def test_asynchronous_command_of_a_newer_version_waits_and_does_not_hold_up_others(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    gift, note = newer(order_id), message(order_id, AddNote(text="hi"))
    for sent in (gift, gift, note):
        assert await gateway.enqueue(sent) is None
    await reaches(orderly.pool, order_id, 2)
    assert await status(orderly.client, gift) == CommandStatus(is_unread=True)
    href = f"/v1/orders/{order_id}/commands/async/{gift.command_id}{gift.batch.payload_hash}"
    shown = (await orderly.http.get(href)).json()
    assert (shown["state"], shown["problem"]["code"]) == ("pending", NOT_KNOWN_YET)
    details = await current_details(orderly.client, order_id)
    assert "1 asynchronous commands wait for a newer version" in details


async def test_command_that_waits_in_a_snapshot_is_pending_without_a_worker(
    orderly: Running,
) -> None:
    """The run that it was sent to has continued as new, and no signal of the new one has it."""
    client, pool, queue = orderly.client, orderly.pool, f"older-{new_order_id()}"
    gateway, order_id = Gateway(client, pool, queue), new_order_id()
    gift = newer(order_id)
    async with run_worker(client, queue, pool):
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await gateway.enqueue(gift)
        await reaches(pool, order_id, 1)
        await restart(client, queue, order_id)
        assert await status(client, gift) == CommandStatus(is_unread=True)
    async with asyncio.timeout(WAIT_SECONDS):  # While a task may run, any command may have come.
        while await command_status(client, pool, order_id, "never-sent") is not None:
            await asyncio.sleep(0.1)
    assert await command_status(client, pool, order_id, gift.command_id) == CommandStatus()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows.unreadable, "RETRY_MIN", SOON)


async def tried_again(client: Client, order_id: str, times: int) -> None:
    """Waits until the newest run of an order has waited this often before it tried again."""
    fired = EventType.EVENT_TYPE_TIMER_FIRED
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            newest, *_ = await runs_of(client, order_id)
            if [event.event_type for event in newest.events].count(fired) >= times:
                return
            await asyncio.sleep(0.05)


def unable_to_read(monkeypatch: pytest.MonkeyPatch, known: type = AddNote) -> None:
    """From now on the workers are of a version that does not know a command."""
    usual = CommandBatch.is_readable.fget  # type: ignore[attr-defined]

    def is_readable(batch: CommandBatch) -> bool:
        return bool(usual(batch)) and not any(isinstance(c, known) for c in batch.commands)

    monkeypatch.setattr(CommandBatch, "is_readable", property(is_readable))


async def test_newer_worker_executes_what_an_older_one_could_not_read(
    orderly: Running, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without versioned workers: the newer one replays what the older one did."""
    client, pool, queue = orderly.client, orderly.pool, f"older-{new_order_id()}"
    gateway = Gateway(client, pool, queue)
    order_id, unopened = new_order_id(), new_order_id()
    note = message(order_id, AddNote(text="later"))
    order = opening(unopened, AddNote(text="at once"))
    with monkeypatch.context() as older:
        unable_to_read(older)
        async with run_worker(client, queue, pool):
            await gateway.execute(opening(order_id), WAIT_SECONDS)
            for sent in (note, order):
                await gateway.enqueue(sent)
            await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
            for unread in (order_id, unopened):
                await tried_again(client, unread, 1)
            for sent in (note, order):
                assert await status(client, sent) == CommandStatus(is_unread=True)
    async with run_worker(client, queue, pool):
        await reaches(pool, order_id, 3)
        await reaches(pool, unopened, 2)
        result = await gateway.execute(note, WAIT_SECONDS)
        assert (result.version, result.event_types) == (3, ["note-added"])
        assert (await gateway.execute(order, WAIT_SECONDS)).version == 2
        await gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)


@asynccontextmanager
async def older_worker_with_unread_note(
    orderly: Running, queue: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[CommandMessage]:
    """A note that an order has, and that the worker, which runs inside, cannot read."""
    gateway, order_id = Gateway(orderly.client, orderly.pool, queue), new_order_id()
    note = message(order_id, AddNote(text="later"))
    with monkeypatch.context() as older:
        unable_to_read(older)
        async with run_worker(orderly.client, queue, orderly.pool):
            await gateway.execute(opening(order_id), WAIT_SECONDS)
            await gateway.enqueue(note)
            assert await status(orderly.client, note) == CommandStatus(is_unread=True)
            yield note


async def test_repetition_of_an_unreadable_command_waits_with_it(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay knows by the key that it could not be read: it must not be executed before."""
    client, pool, queue = orderly.client, orderly.pool, f"older-{new_order_id()}"
    gateway = Gateway(client, pool, queue)
    async with older_worker_with_unread_note(orderly, queue, monkeypatch) as note:
        order_id = note.order_id
    async with run_worker(client, queue, pool):
        await gateway.enqueue(note)
        assert await status(client, note) == CommandStatus(is_unread=False)
        await restart(client, queue, order_id)
        await reaches(pool, order_id, 2)
        result = await gateway.execute(note, WAIT_SECONDS)
        assert (result.version, result.event_types) == (2, ["note-added"])


def unable_to_read_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the workers are of a version to which a batch of commands has another shape."""

    def fail(cls: type[QueuedCommands], sent: Any) -> None:
        TypeAdapter(int).validate_python("another shape")

    for read in ("model_validate_json", "model_validate"):
        monkeypatch.setattr(QueuedCommands, read, classmethod(fail))


async def test_signal_that_an_older_worker_could_not_read_is_executed_by_a_newer_one(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, pool, queue = orderly.client, orderly.pool, f"older-{new_order_id()}"
    gateway, order_id = Gateway(client, pool, queue), new_order_id()
    note = message(order_id, AddNote(text="later"))
    with monkeypatch.context() as older:
        unable_to_read_signals(older)
        async with run_worker(client, queue, pool):
            await gateway.execute(opening(order_id), WAIT_SECONDS)
            assert await gateway.enqueue(note) is None
            await restart(client, queue, order_id)
            assert await status(client, note) == CommandStatus(is_unread=True)
    async with run_worker(client, queue, pool):
        await restart(client, queue, order_id)
        await reaches(pool, order_id, 2)
        result = await gateway.execute(note, WAIT_SECONDS)
        assert (result.version, result.event_types) == (2, ["note-added"])


async def test_run_from_before_unreadable_signals_were_kept_replays(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rejected instead of ignored, so many would be published."""
    order_id = new_order_id()
    await orderly.gateway.execute(opening(order_id), WAIT_SECONDS)
    await reaches(orderly.pool, order_id, 1)
    handle = orderly.client.get_workflow_handle(order_id)
    for _ in range(INEFFECTIVE_MAX):
        await handle.signal("add-note", {"no": "key"})
    await handle.query("state")  # By then it has ignored them.
    await orderly.gateway.execute(message(order_id, AddNote(text="hi")), WAIT_SECONDS)
    (run,) = await runs_of(orderly.client, order_id)
    sent = json.loads(to_json(message(order_id, AddNote(text="lost")).queued))
    sent["batch"]["attempt_id"] = None
    for event in run.events:
        for payload in event.workflow_execution_signaled_event_attributes.input.payloads:
            payload.data = json.dumps(sent).encode()
    await replayer().replay_workflow(run)


async def test_finished_order_stays_for_a_command_that_it_cannot_read_yet(
    orderly: Running, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, pool, queue = orderly.client, orderly.pool, f"older-{new_order_id()}"
    gateway = Gateway(client, pool, queue)
    async with older_worker_with_unread_note(orderly, queue, monkeypatch) as note:
        await gateway.execute(message(note.order_id, CancelOrder()), WAIT_SECONDS)
        assert await status(client, note) == CommandStatus(is_unread=True)
    async with run_worker(client, queue, pool):
        handle = client.get_workflow_handle(note.order_id)
        assert await handle.result() == "cancelled at version 3"


async def test_terminated_order_that_no_version_could_open_yet_is_resumed_with_its_opening(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, pool, queue = orderly.client, orderly.pool, f"older-{new_order_id()}"
    order_id = new_order_id()
    with monkeypatch.context() as older:
        unable_to_read(older)
        async with run_worker(client, queue, pool, replays=False):
            order = opening(order_id, AddNote(text="later"))
            await Gateway(client, pool, queue).enqueue(order)
            await restart(client, queue, order_id)
            assert await status(client, order) == CommandStatus(is_unread=True)
            await terminate(client, order_id)
    async with run_worker(client, queue, pool, replays=False):
        assert await resumed(client, pool, queue, order_id)
        await reaches(pool, order_id, 2)


async def test_command_that_no_version_reads_is_answered_in_the_end(
    orderly: Running, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.command_queue.UNREAD_TIMEOUT", SOON)
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    await gateway.enqueue(newer(order_id))
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := await status(orderly.client, newer(order_id))) is None or not (
            found.rejected
        ):
            await asyncio.sleep(0.05)
    assert found.rejected.rejection.code == NOT_KNOWN_YET


@pytest.fixture
async def alone(
    temporal: WorkflowEnvironment, dsn: str, pool: asyncpg.Pool
) -> AsyncIterator[Running]:
    """An API and a log of the test's own: a projector would park what it cannot read."""
    queue = f"older-{new_order_id()}"
    settings = Settings(postgres_dsn=dsn, task_queue=queue)
    async with run_api(temporal.client, settings) as http:
        yield Running(temporal.client, pool, dsn, queue, http, http, "unused")


async def test_ended_order_with_a_newer_event_is_no_bug_and_answers_503(alone: Running) -> None:
    order_id, gateway = new_order_id(), alone.gateway
    async with run_worker(alone.client, alone.task_queue, alone.pool):
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)
        await alone.client.get_workflow_handle(order_id).result()
    (opened, _) = await log.read_stream(alone.pool, order_id)
    gift = opened.model_copy(update={"version": 3, "type": "gift-message-set", "data": {}})
    async with alone.pool.acquire() as connection:
        await log.append(connection, order_id, [gift])
    for command, body in (("cancel-order", {}), ("add-note", {"text": "late"})):
        for prefer in ("wait=30", "respond-async"):
            path = f"/v1/orders/{order_id}/commands/{command}"
            headers = {"Prefer": prefer, "Idempotency-Key": secrets.token_hex(8)}
            response = await alone.http.post(path, json=body, headers=headers)
            assert (response.status_code, response.json()["code"]) == (503, EVENT_UNREADABLE)
            assert "Retry-After" in response.headers


# States


async def state(orderly: Running, order_id: str) -> Snapshot:
    """The state of an order, once it has been checked."""
    handle = orderly.client.get_workflow_handle(order_id)
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            snapshot: Snapshot = await handle.query("snapshot", result_type=Snapshot)
            if not snapshot.reopened:
                return snapshot
            await asyncio.sleep(0.02)


def renamed(names: dict[str, str]) -> Callable[[Any], Any]:
    """The JSON of a state in a version in which some fields have another name."""

    def rename(part: Any) -> Any:
        match part:
            case dict():
                return {names.get(key, key): rename(value) for key, value in part.items()}
            case list():
                return [rename(each) for each in part]
            case _:
                return part

    return rename


CHANGES: list[dict[str, str]] = [
    {"goodwill": "courtesy", "authorisations": "promises"},  # Of the order: money.
    {"results": "answers", "rejections": "refusals"},  # Of the snapshot: keys.
    {"text": "packed"},  # Of a part of it: keys, too.
    {"needs_rebooking": "outdated", "refund_requested": "requested"},  # Of parts of the order.
    {"lines": "pieces", "amount": "sum", "reference": "number"},  # Of steps, among others.
]


async def test_state_of_a_version_with_other_names_loses_no_cent_and_no_key(
    shop: Shop, orderly: Running, caplog: pytest.LogCaptureFixture
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_refund_down")
    await order.ship()
    await order.deliver()
    await order.execute("refund-payment", amount=300, reason="sorry")
    key = {"Idempotency-Key": f"note-{order.order_id}"}
    noted = await order.send("add-note", headers=key, text="once")
    await order.wait_for(needs_attention=1, pending={0: {"type": "refund"}})
    before = await state(orderly, order.order_id)
    assert before.order.goodwill == 300 and before.order.steps
    with caplog.at_level(logging.WARNING):
        for names in CHANGES:
            await restart(orderly.client, orderly.task_queue, order.order_id, renamed(names))
            after = await state(orderly, order.order_id)
            assert after.order == before.order, names
            assert after.is_own
            again = await order.send("add-note", headers=key, text="once")
            assert (again.status_code, again.json()["version"]) == (200, noted.json()["version"])
    # A repeated workflow task says it again.
    folded = f"Order {order.order_id} was folded from the log"
    told = {r.getMessage() for r in caplog.records if folded in r.getMessage()}
    assert any("which differs in: authorisations, goodwill" in one for one in told)
    assert len(told) == 3, "the snapshot without results has the same order"
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled()
    assert (await order.payment_ledger())["refunded"] == 300
    await order.assert_ledgers_agree()


async def test_key_of_a_no_op_counts_in_a_version_with_other_names(orderly: Running) -> None:
    """Decided again, it would undo what came after it."""
    path = await opened(orderly.http)
    order_id = path.rpartition("/")[2]

    async def charge(amount: int, key: str) -> tuple[int, bool]:
        """The version, and whether the response is a repetition."""
        headers = {"Idempotency-Key": f"{key} of {order_id}"}
        response = await orderly.http.post(
            f"{path}/commands/set-shipping-charge", json={"amount": amount}, headers=headers
        )
        assert response.status_code == 200, response.text
        return response.json()["version"], "Idempotent-Replayed" in response.headers

    assert await charge(0, "journal") == (3, False)
    assert await charge(500, "change") == (4, False)  # With it, the journal gets the no-op.
    assert await charge(500, "snapshot") == (4, False)
    await reaches(orderly.pool, order_id, 4)
    for names in ({"results": "answers"}, {"text": "packed"}, {"event_types": "events"}):
        await restart(orderly.client, orderly.task_queue, order_id, renamed(names))
        assert (await state(orderly, order_id)).is_own
        assert await charge(0, "journal") == (3, True), names
        assert await charge(500, "snapshot") == (4, True), names
    await charge(700, "later")
    assert await charge(500, "snapshot") == (4, True)


async def test_run_that_does_not_know_where_commands_wait_does_not_go_on(alone: Running) -> None:
    """The version that wrote them is needed: no log has them."""
    order_id = new_order_id()
    waiting = {"command_id": "c", "batch": {}, "pointer": "#"}
    async with run_worker(alone.client, alone.task_queue, alone.pool):
        await alone.gateway.execute(opening(order_id), WAIT_SECONDS)

        rename = renamed({"queued": "waiting"})
        await restart(
            alone.client,
            alone.task_queue,
            order_id,
            lambda held: rename({**held, "queued": [waiting]}),
        )
        run = None
        async with asyncio.timeout(WAIT_SECONDS):
            while run is None or SnapshotLost.__name__ not in str(run.events):
                await asyncio.sleep(0.1)
                run = (await runs_of(alone.client, order_id))[-1]
    await terminate(alone.client, order_id)


async def test_state_with_the_same_names_is_checked_in_silence(
    shop: Shop, orderly: Running, caplog: pytest.LogCaptureFixture
) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    before = await state(orderly, order.order_id)
    await restart(orderly.client, orderly.task_queue, order.order_id)
    assert (await state(orderly, order.order_id)).order == before.order
    assert f"Order {order.order_id} was folded from the log" not in caplog.text
    await order.execute("add-note", text="hi")
    await order.assert_ledgers_agree()


async def test_unpublished_events_of_another_version_are_applied_and_published(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    await gateway.execute(message(order_id, AddNote(text="first")), WAIT_SECONDS)
    await reaches(orderly.pool, order_id, 2)
    (_, first) = await log.read_stream(orderly.pool, order_id)
    late = first.model_copy(
        update={"version": 3, "data": {"note_id": "late", "text": "unpublished"}}
    )

    def holding_an_event(snapshot: dict[str, Any]) -> dict[str, Any]:
        return snapshot | {"unpublished": [json.loads(late.model_dump_json())], "order": {}}

    await restart(orderly.client, orderly.task_queue, order_id, holding_an_event)
    await reaches(orderly.pool, order_id, 3)
    after = await state(orderly, order_id)
    assert (after.order.version, list(after.order.notes)[-1]) == (3, "late")


@pytest.mark.parametrize("names", [{"goodwill": "courtesy"}, {"order": "state"}])
async def test_replayed_run_with_a_state_that_lost_a_field_fails_loudly(
    names: dict[str, str],
) -> None:
    """Without versioned workers a newer one may replay a run that began with another shape."""
    replayer = Replayer(
        workflows=[OrderWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    continued = [run for run in golden_histories() if started_with(run).get("snapshot")]
    assert continued
    for run in continued[:2]:
        (payload,) = run.events[0].workflow_execution_started_event_attributes.input.payloads
        start = renamed(names)(started_with(run))
        start["snapshot"]["made_by"] = "another"
        payload.data = json.dumps(start).encode()
        result = await replayer.replay_workflow(run, raise_on_replay_failure=False)
        assert SnapshotLost.__name__ in repr(result.replay_failure)


def started_with(run: WorkflowHistory) -> dict[str, Any]:
    """The input of a run."""
    (payload,) = run.events[0].workflow_execution_started_event_attributes.input.payloads
    content: dict[str, Any] = json.loads(payload.data)
    return content


async def open_with_a_newer_event(alone: Running, order_id: str) -> None:
    """Opens an order; a newer version, which is gone by now, has added a note."""
    async with run_worker(alone.client, alone.task_queue, alone.pool):
        await alone.gateway.execute(opening(order_id), WAIT_SECONDS)
        await reaches(alone.pool, order_id, 1)
    (first,) = await log.read_stream(alone.pool, order_id)
    data = {"note_id": "new", "text": "hallo", "language": "de"}
    note = first.model_copy(
        update={"version": 2, "type": "note-added", "schema_version": 2, "data": data}
    )
    async with alone.pool.acquire() as connection:
        await log.append(connection, order_id, [note])


def able_to_read_newer_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the workers are of a version that knows the note of the newer one."""
    monkeypatch.setattr(BY_TAG["note-added"], "schema_version", 2)
    monkeypatch.setitem(orders.upcasting.UPCASTERS, ("note-added", 1), lambda data: data)


async def test_order_whose_log_has_newer_events_waits_for_the_version_that_reads_them(
    alone: Running, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, pool, queue = alone.client, alone.pool, alone.task_queue
    gateway, order_id = alone.gateway, new_order_id()
    await open_with_a_newer_event(alone, order_id)
    late = message(order_id, AddNote(text="It waits, too."))
    waiting = late.queued.model_copy(update={"received_at": datetime.now(UTC)})
    queued = [waiting.model_dump(mode="json")]
    async with run_worker(client, queue, pool):
        await restart(client, queue, order_id, lambda snapshot: snapshot | {"queued": queued})
        with pytest.raises(Rejected) as rejected:
            await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
        assert rejected.value.rejection.code == EVENT_UNREADABLE
        assert "note-added has schema version 2" in rejected.value.rejection.message
        preview = await gateway.preview(message(order_id, bagels()), WAIT_SECONDS)
        assert preview.rejection == rejected.value.rejection
        await tried_again(client, order_id, 2)
        assert await status(client, late) == CommandStatus()
        assert await gateway.enqueue(message(order_id, AddNote(text="So does this."))) is None
    able_to_read_newer_events(monkeypatch)
    async with run_worker(client, queue, pool):
        async with asyncio.timeout(WAIT_SECONDS):
            while (await state(alone, order_id)).order.version < 4:
                await asyncio.sleep(0.05)
        assert (await gateway.execute(late, WAIT_SECONDS)).version == 3
        assert (await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)).version == 5
    # A run from before what waits was bounded.
    monkeypatch.setattr(workflows.capacity, "WAITING_BYTES_MAX", 0)
    await replayer().replay_workflow((await runs_of(client, order_id))[0])


async def test_commands_to_an_order_that_cannot_read_its_log_wait_only_as_far_as_a_state_holds_them(
    alone: Running, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal terminates a workflow whose next run would begin with 2 MB."""
    client, pool, queue = alone.client, alone.pool, alone.task_queue
    gateway, order_id = alone.gateway, new_order_id()
    await open_with_a_newer_event(alone, order_id)
    notes = [AddNote(text="n" * 1_000)] * 180
    first, second, third = (message(order_id, *notes, key=key) for key in ("1", "2", "3"))
    async with run_worker(client, queue, pool):
        await restart(client, queue, order_id)
        for sent in (first, first, second, third, third, second):
            assert await gateway.enqueue(sent) is None
        assert await status(client, first) == await status(client, second) == CommandStatus()
        no = await status(client, third)
        assert no is not None and no.rejected is not None
        assert (no.rejected.rejection.code, no.rejected.rejection.version) == (LOG_BEHIND, 1)
        handle = client.get_workflow_handle(order_id)
        held: Snapshot = await handle.query("snapshot", result_type=Snapshot)
        assert [one.command_id for one in held.queued] == [first.command_id, second.command_id]
    able_to_read_newer_events(monkeypatch)
    async with run_worker(client, queue, pool):
        await reaches(pool, order_id, 362)
        assert await gateway.enqueue(third) is None
        await reaches(pool, order_id, 542)
        assert (await gateway.execute(second, WAIT_SECONDS)).version == 362
    await replayer().replay_workflow((await runs_of(client, order_id))[0])
