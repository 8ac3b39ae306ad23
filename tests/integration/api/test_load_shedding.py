"""What is too much is sent away unharmed, and an engine that is away is told from a slow order."""

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

import asyncpg
import httpx
import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

import api.gateway.availability
from dev.stack.ports import LOOPBACK, free_ports
from eventlog import log
from settings import Settings
from tests.support.api_requests import BASKET, problem, shown
from tests.support.servers import TEMPORAL, Running, run_api, run_projector, run_worker
from workflows.client import connect


@pytest.fixture(autouse=True)
def production_health_check(health_check_seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.gateway.availability, "HEALTH_CHECK_SECONDS_MAX", health_check_seconds)


# More than can be served


async def test_shed_commands_have_changed_nothing_and_are_told_when_to_come_again(
    orderly: Running,
) -> None:
    keys = [secrets.token_hex(8) for _ in range(30)]
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, max_concurrent_commands=2
    )
    async with run_api(orderly.client, settings) as http:

        async def opens(key: str) -> httpx.Response:
            body = {**BASKET, "external_reference": key}
            return await http.post("/v1/orders", json=body, headers={"Idempotency-Key": key})

        answers = dict(zip(keys, await asyncio.gather(*map(opens, keys)), strict=True))
        shed = {key for key, answer in answers.items() if answer.status_code == 503}
        assert 0 < len(shed) < len(keys)
        for key in shed:
            problem(answers[key], 503, "overloaded")
            assert answers[key].headers["Retry-After"] == "1"
        for key in keys:
            again = await opens(key)
            assert again.status_code == 201
            # What was answered is not done again; what was shed is done for the first time.
            assert ("Idempotent-Replayed" in again.headers) == (key not in shed)


async def test_commands_that_nobody_waits_for_are_shed_as_well(orderly: Running) -> None:
    reference = secrets.token_hex(8)
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, max_concurrent_commands=2
    )
    async with run_api(orderly.client, settings) as http:

        async def opens(key: str) -> httpx.Response:
            body = {**BASKET, "external_reference": reference}
            headers = {"Idempotency-Key": f"{reference} {key}", "Prefer": "respond-async"}
            return await http.post("/v1/orders", json=body, headers=headers)

        keys = [str(number) for number in range(30)]
        answers = await asyncio.gather(*map(opens, keys))
        shed = [key for key, one in zip(keys, answers, strict=True) if one.status_code != 202]
        assert 0 < len(shed) < len(keys)
        for key in shed:
            answer = answers[int(key)]
            problem(answer, 503, "overloaded")
            assert answer.headers["Retry-After"] == "1"

        async def found() -> int:
            query: dict[str, str | int] = {"external_reference": reference, "limit": 100}
            return len((await http.get("/v1/orders", params=query)).json()["items"])

        async with asyncio.timeout(60):
            while await found() < len(keys) - len(shed):
                await asyncio.sleep(0.1)
            for key in shed:
                assert (await opens(key)).status_code == 202
            while await found() < len(keys):
                await asyncio.sleep(0.1)
        assert await found() == len(keys)


async def test_reads_that_are_too_many_are_shed_and_those_that_wait_take_no_place(
    orderly: Running,
) -> None:
    opened = (await orderly.http.post("/v1/orders", json=BASKET)).json()
    path = f"/v1/orders/{opened['order_id']}"
    await shown(orderly.http, path, opened["version"])
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, max_concurrent_reads=4
    )
    async with run_api(orderly.client, settings) as http:
        # Three wait for what has not happened yet, one follows the feed: there are places left.
        coming = {"min_version": opened["version"] + 1}
        waiting = [asyncio.create_task(http.get(path, params=coming)) for _ in range(3)]
        async with http.stream(
            "GET", "/v1/events", headers={"Accept": "text/event-stream"}
        ) as feed:
            assert feed.status_code == 200
            for _ in range(10):
                assert (await http.get(path)).status_code == 200
            assert not any(task.done() for task in waiting)
        note = await http.post(f"{path}/commands/add-note", json={"text": "here it is"})
        assert note.status_code == 200
        assert [(await task).status_code for task in waiting] == [200] * 3

        answers = await asyncio.gather(*(http.get("/v1/orders") for _ in range(50)))
        shed = [answer for answer in answers if answer.status_code != 200]
        assert 0 < len(shed) < len(answers)
        for answer in shed:
            problem(answer, 503, "overloaded")
            assert answer.headers["Retry-After"] == "1"
        assert (await http.get(path)).status_code == 200


async def test_a_read_that_is_shed_leaves_its_connection_as_it_was(
    temporal: WorkflowEnvironment, dsn: str
) -> None:
    async with run_api(
        temporal.client, Settings(postgres_dsn=dsn).model_copy(update={"max_concurrent_reads": 0})
    ) as http:
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)

        def send(path: str, *headers: str, body: str = "") -> None:
            head = [f"GET {path} HTTP/1.1", "Host: here", *headers, "", body]
            writer.write("\r\n".join(head).encode())

        async def answer() -> tuple[str, dict[str, str], bytes]:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            return status, headers, await reader.readexactly(int(headers["content-length"]))

        async with asyncio.timeout(30):
            # Four at once, one with a body: each gets its own answer, in turn.
            send("/v1/orders?limit=1", "X-Request-Id: first")
            send("/v1/orders/x", "X-Request-Id: second", "Content-Length: 2", body="{}")
            send("/healthz")
            send("/v1/events", "X-Request-Id: last", "Connection: close")
            for request_id, path in (("first", "/v1/orders"), ("second", "/v1/orders/x")):
                status, headers, body = await answer()
                assert " 503 " in status
                assert headers["retry-after"] == "1"
                assert headers["x-request-id"] == request_id
                document = json.loads(body)
                assert document["code"] == "overloaded"
                assert (document["request_id"], document["instance"]) == (request_id, path)
                assert document["trace_id"]
            assert " 200 " in (await answer())[0]
            assert (await answer())[1]["x-request-id"] == "last"
            assert await reader.read() == b"", "it was asked to hang up"
        writer.close()
        metrics = (await http.get("/metrics")).text
        assert re.search(r'_count\{method="GET",route="none",status="503"\} \d', metrics)


async def test_every_read_leaves_its_place_however_it_ends(orderly: Running) -> None:
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

        async def says(head: str, *, waits: bool = True) -> bytes:
            reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
            writer.write(f"{head}\r\nHost: here\r\nConnection: close\r\n\r\n".encode("latin-1"))
            await writer.drain()
            answer = await reader.read() if waits else b""
            writer.close()
            return answer.partition(b"\r\n")[0]

        async def says_in_the_end(head: str) -> bytes:
            while b" 503 " in (answer := await says(head)):
                await asyncio.sleep(0.01)  # Who has hung up may still be served.
            return answer

        async with asyncio.timeout(60):
            assert b" 400 " in await says("GET /v1/orders/\xff HTTP/1.1")
            upgrade = "Connection: upgrade\r\nUpgrade: websocket"
            await says(f"GET {path} HTTP/1.1\r\n{upgrade}", waits=False)
            await says(f"GET {path}?min_version=99 HTTP/1.1", waits=False)  # It hangs up.
            assert b" 404 " in await says_in_the_end("GET /v1/nothing HTTP/1.1")
            assert b" 422 " in await says("GET /v1/orders?limit=x HTTP/1.1")
            assert b" 405 " in await says("GET /v1/orders/x/commands/add-note HTTP/1.1")
            while (answer := await http.get(path)).status_code != 429:
                assert answer.status_code == 200, "the one place is not free again"
            for _ in range(3):  # What is refused further in leaves its place, too.
                assert (await http.get(path)).status_code == 429


# The engine away


@dataclass
class Engine:
    """A Temporal server of the test's own."""

    process: Process
    address: str


@asynccontextmanager
async def engine(port: int) -> AsyncIterator[Engine]:
    command = ["server", "start-dev", "--headless", "--ip", LOOPBACK, "--port", str(port)]
    for attribute in ("CustomerId=Keyword", "OrderStatus=Keyword"):
        command += ["--search-attribute", attribute]
    process = await asyncio.create_subprocess_exec(
        TEMPORAL, *command, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True
    )
    try:
        yield Engine(process, f"{LOOPBACK}:{port}")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def answers(http: httpx.AsyncClient, key: str) -> httpx.Response:
    """The first answer to opening an order that is not that the engine is away."""
    async with asyncio.timeout(120):
        while True:
            answer = await opens(http, key)
            if answer.status_code == 201:
                return answer
            assert answer.json()["code"] in ("temporal-unavailable", "outcome-unknown"), answer.text
            await asyncio.sleep(0.1)


async def opens(http: httpx.AsyncClient, key: str, wait: int = 30) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Prefer": f"wait={wait}"}
    return await http.post("/v1/orders", json=BASKET, headers=headers)


async def is_told(http: httpx.AsyncClient, key: str) -> None:
    """With the engine away, commands are answered long before their wait ends, and reads go on."""
    answered = asyncio.create_task(opens(http, key))
    reads = 0
    while not answered.done():
        assert (await http.get("/v1/orders")).status_code == 200
        reads += 1
    assert reads > 0
    problem(await answered, 503, "temporal-unavailable")
    assert (await answered).headers["Retry-After"] == "1"


async def test_an_engine_that_is_stopped_or_killed_is_told_at_once_while_reads_go_on(
    dsn: str, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports({"engine": 0})
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"{LOOPBACK}:{port}")
    client = await connect(lazy=True)  # As the API has it.
    async with run_projector(dsn), run_api(client, Settings(postgres_dsn=dsn)) as http:
        # It has never been there.
        await is_told(http, "first")
        async with engine(port) as server:
            async with run_worker(await connected(), "orders", pool):
                assert "Idempotent-Replayed" not in (await answers(http, "first")).headers
                server.process.send_signal(signal.SIGSTOP)
                await is_told(http, "second")
                server.process.send_signal(signal.SIGCONT)
                order_id = (await answers(http, "second")).json()["order_id"]
                assert len(await log.read_stream(pool, order_id)) <= 3
            server.process.kill()
            await server.process.wait()
            await is_told(http, "third")


async def connected() -> Client:
    async with asyncio.timeout(60):
        while True:
            with suppress(ConnectionError):
                return await connect()
            await asyncio.sleep(0.1)


async def test_a_slow_order_is_waited_for_as_long_as_the_caller_wants(
    temporal: WorkflowEnvironment, dsn: str
) -> None:
    """There is no worker, so no order answers; but the engine does."""
    async with run_api(
        temporal.client, Settings(postgres_dsn=dsn, task_queue=secrets.token_hex(4))
    ) as http:
        problem(await opens(http, "slow", wait=3), 503, "outcome-unknown")
