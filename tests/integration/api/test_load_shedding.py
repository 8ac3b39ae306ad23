"""Excess load is rejected without effect; an unavailable Temporal differs from a slow order."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import asyncpg
import httpx
import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from api.gateway import availability
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import SEARCH_ATTRIBUTES
from eventlog import log
from settings import Settings
from tests.support.api_requests import BASKET, problem, shown
from tests.support.servers import TEMPORAL, Running, run_api, run_projector, run_worker
from tests.support.webhook_receiver import until
from workflows.client import connect

# Overload


async def test_rejected_commands_change_nothing_and_have_retry_after(
    orderly: Running,
) -> None:
    keys = [secrets.token_hex(8) for _ in range(30)]
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, max_concurrent_commands=2
    )
    async with run_api(orderly.client, settings) as http:

        async def open_order(key: str) -> httpx.Response:
            body = {**BASKET, "external_reference": key}
            return await http.post("/v1/orders", json=body, headers={"Idempotency-Key": key})

        responses = dict(zip(keys, await asyncio.gather(*map(open_order, keys)), strict=True))
        rejected = {key for key, response in responses.items() if response.status_code == 503}
        assert 0 < len(rejected) < len(keys)
        for key in rejected:
            problem(responses[key], 503, "overloaded")
            assert responses[key].headers["Retry-After"] == "1"
        for key in keys:
            again = await open_order(key)
            assert again.status_code == 201
            # An acknowledged command is not executed again; a rejected one is executed now.
            assert ("Idempotent-Replayed" in again.headers) == (key not in rejected)


async def test_async_commands_are_rejected_as_well(orderly: Running) -> None:
    reference = secrets.token_hex(8)
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, max_concurrent_commands=2
    )
    async with run_api(orderly.client, settings) as http:

        async def open_order(key: str) -> httpx.Response:
            body = {**BASKET, "external_reference": reference}
            headers = {"Idempotency-Key": f"{reference} {key}", "Prefer": "respond-async"}
            return await http.post("/v1/orders", json=body, headers=headers)

        keys = [str(number) for number in range(30)]
        responses = await asyncio.gather(*map(open_order, keys))
        rejected = [key for key, one in zip(keys, responses, strict=True) if one.status_code != 202]
        assert 0 < len(rejected) < len(keys)
        for key in rejected:
            response = responses[int(key)]
            problem(response, 503, "overloaded")
            assert response.headers["Retry-After"] == "1"

        async def count_orders() -> int:
            query: dict[str, str | int] = {"external_reference": reference, "limit": 100}
            return len((await http.get("/v1/orders", params=query)).json()["items"])

        async with asyncio.timeout(60):
            while await count_orders() < len(keys) - len(rejected):
                await asyncio.sleep(0.1)
            for key in rejected:
                assert (await open_order(key)).status_code == 202
            while await count_orders() < len(keys):
                await asyncio.sleep(0.1)
        assert await count_orders() == len(keys)


async def test_excess_reads_are_rejected_and_waiting_ones_hold_no_slot(
    orderly: Running,
) -> None:
    opened = (await orderly.http.post("/v1/orders", json=BASKET)).json()
    path = f"/v1/orders/{opened['order_id']}"
    await shown(orderly.http, path, opened["version"])
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, max_concurrent_reads=4
    )
    async with run_api(orderly.client, settings) as http:
        # Three wait for a later version, one is an event stream: they hold no slots.
        later = {"min_version": opened["version"] + 1}
        patient = {"Prefer": "wait=30"}
        waiting = [
            asyncio.create_task(http.get(path, params=later, headers=patient)) for _ in range(3)
        ]
        async with http.stream(
            "GET", "/v1/events", headers={"Accept": "text/event-stream"}
        ) as feed:
            assert feed.status_code == 200
            for _ in range(10):
                assert (await http.get(path)).status_code == 200
            assert not any(task.done() for task in waiting)
        note = await http.post(f"{path}/commands/add-note", json={"text": "a later version"})
        assert note.status_code == 200
        assert [(await task).status_code for task in waiting] == [200] * 3

        responses = await asyncio.gather(*(http.get("/v1/orders") for _ in range(50)))
        rejected = [response for response in responses if response.status_code != 200]
        assert 0 < len(rejected) < len(responses)
        for response in rejected:
            problem(response, 503, "overloaded")
            assert response.headers["Retry-After"] == "1"
        assert (await http.get(path)).status_code == 200


async def test_rejected_read_keeps_its_connection(temporal: WorkflowEnvironment, dsn: str) -> None:
    async with run_api(
        temporal.client, Settings(postgres_dsn=dsn).model_copy(update={"max_concurrent_reads": 0})
    ) as http:
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)

        def send(path: str, *headers: str, body: str = "") -> None:
            head = [f"GET {path} HTTP/1.1", "Host: here", *headers, "", body]
            writer.write("\r\n".join(head).encode())

        async def receive() -> tuple[str, dict[str, str], bytes]:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            return status, headers, await reader.readexactly(int(headers["content-length"]))

        async with asyncio.timeout(30):
            # Four pipelined requests, one with a body: the responses arrive in order.
            send("/v1/orders?limit=1", "X-Request-Id: first")
            send("/v1/orders/x", "X-Request-Id: second", "Content-Length: 2", body="{}")
            send("/healthz")
            send("/v1/events", "X-Request-Id: last", "Connection: close")
            for request_id, path in (("first", "/v1/orders"), ("second", "/v1/orders/x")):
                status, headers, body = await receive()
                assert " 503 " in status
                assert headers["retry-after"] == "1"
                assert headers["x-request-id"] == request_id
                document = json.loads(body)
                assert document["code"] == "overloaded"
                assert (document["request_id"], document["instance"]) == (request_id, path)
                assert document["trace_id"]
            assert " 200 " in (await receive())[0]
            assert (await receive())[1]["x-request-id"] == "last"
            assert await reader.read() == b"", "the client asked to close it"
        writer.close()
        metrics = (await http.admin.get("/metrics")).text
        assert re.search(r'_count\{method="GET",route="none",status="503"\} \d', metrics)


async def test_every_read_releases_its_slot_however_it_ends(orderly: Running) -> None:
    opened = (await orderly.http.post("/v1/orders", json=BASKET)).json()
    path = f"/v1/orders/{opened['order_id']}"
    await shown(orderly.http, path, opened["version"])
    settings = Settings(
        postgres_dsn=orderly.dsn,
        task_queue=orderly.task_queue,
        max_concurrent_reads=1,
        rate_limit_burst=20,
    ).model_copy(update={"rate_limit_per_second": 0.01})
    async with run_api(orderly.client, settings) as http:

        async def send(head: str, *, wait: bool = True) -> bytes:
            reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
            writer.write(f"{head}\r\nHost: here\r\nConnection: close\r\n\r\n".encode("latin-1"))
            await writer.drain()
            response = await reader.read() if wait else b""
            writer.close()
            return response.partition(b"\r\n")[0]

        async def send_until_served(head: str) -> bytes:
            """A request of a client that hung up may still hold the only slot, or take it again."""
            while b" 503 " in (response := await send(head)):
                await asyncio.sleep(0.01)
            return response

        async with asyncio.timeout(60):
            assert b" 400 " in await send("GET /v1/orders/\xff HTTP/1.1")
            upgrade = "Connection: upgrade\r\nUpgrade: websocket"
            await send(f"GET {path} HTTP/1.1\r\n{upgrade}", wait=False)
            await send(f"GET {path}?min_version=99 HTTP/1.1", wait=False)  # It disconnects.
            assert b" 404 " in await send_until_served("GET /v1/nothing HTTP/1.1")
            assert b" 422 " in await send_until_served("GET /v1/orders?limit=x HTTP/1.1")
            add_note = "GET /v1/orders/x/commands/add-note HTTP/1.1"
            assert b" 405 " in await send_until_served(add_note)
            while b" 429 " not in (response := await send_until_served(f"GET {path} HTTP/1.1")):
                assert b" 200 " in response
            for _ in range(3):  # A read that is rejected by the rate limit releases its slot, too.
                assert b" 429 " in await send_until_served(f"GET {path} HTTP/1.1")


# Temporal unavailable


@dataclass
class TemporalServer:
    """The test's own Temporal server."""

    process: Process
    address: str


@asynccontextmanager
async def run_temporal(port: int) -> AsyncIterator[TemporalServer]:
    command = ["server", "start-dev", "--headless", "--ip", LOOPBACK, "--port", str(port)]
    for attribute in SEARCH_ATTRIBUTES:
        command += ["--search-attribute", attribute]
    process = await asyncio.create_subprocess_exec(
        TEMPORAL, *command, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
    )
    try:
        yield TemporalServer(process, f"{LOOPBACK}:{port}")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def open_until_available(http: httpx.AsyncClient, key: str) -> httpx.Response:
    """Opens an order, and retries until Temporal is available."""
    async with asyncio.timeout(120):
        while True:
            response = await open_order(http, key)
            if response.status_code == 201:
                return response
            assert response.json()["code"] in ("temporal-unavailable", "outcome-unknown"), (
                response.text
            )
            await asyncio.sleep(0.1)


async def open_order(http: httpx.AsyncClient, key: str, wait: int = 30) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Prefer": f"wait={wait}"}
    return await http.post("/v1/orders", json=BASKET, headers=headers)


async def assert_unavailable(http: httpx.AsyncClient, key: str) -> None:
    """Commands are rejected long before their wait ends, and reads keep working."""
    command = asyncio.create_task(open_order(http, key))
    reads = 0
    while not command.done():
        assert (await http.get("/v1/orders")).status_code == 200
        reads += 1
        await asyncio.sleep(0.02)
    assert reads > 0
    problem(await command, 503, "temporal-unavailable")
    assert (await command).headers["Retry-After"] == "1"


async def test_stopped_or_killed_temporal_is_reported_at_once_while_reads_work(
    dsn: str, pool: asyncpg.Pool, health_check_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "HEALTH_CHECK_SECONDS_MAX", health_check_seconds)
    (port,) = free_ports({"temporal": 0})
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"{LOOPBACK}:{port}")
    client = await connect(lazy=True)  # As the API does.
    async with run_projector(dsn), run_api(client, Settings(postgres_dsn=dsn)) as http:
        # It was not started yet.
        await assert_unavailable(http, "first")
        async with run_temporal(port) as server:
            async with run_worker(await connected(), "orders", pool):
                first = (await open_until_available(http, "first")).json()["order_id"]
                server.process.send_signal(signal.SIGSTOP)
                await assert_unavailable(http, "second")
                server.process.send_signal(signal.SIGCONT)
                second = (await open_until_available(http, "second")).json()["order_id"]
                for order_id in (first, second):
                    await until(partial(is_published, pool, order_id, 3))
                opened = "SELECT count(*) FROM order_events WHERE type = 'order-opened'"
                assert await pool.fetchval(opened) == 2, "each once, however often it was sent"
            server.process.kill()
            await server.process.wait()
            await assert_unavailable(http, "third")


async def is_published(pool: asyncpg.Pool, order_id: str, version: int) -> bool:
    return await log.head(pool, order_id) == version


async def connected() -> Client:
    async with asyncio.timeout(60):
        while True:
            with suppress(ConnectionError):
                return await connect()
            await asyncio.sleep(0.1)


async def test_request_to_a_slow_order_waits_until_its_deadline(
    temporal: WorkflowEnvironment, dsn: str
) -> None:
    """Without a worker no order responds, but Temporal does."""
    async with run_api(
        temporal.client, Settings(postgres_dsn=dsn, task_queue=secrets.token_hex(4))
    ) as http:
        problem(await open_order(http, "slow", wait=3), 503, "outcome-unknown")
