"""The feed as a stream: nothing is skipped, and no reader costs more than its place."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from api.events import stream as streams
from dev.stack.ports import free_ports
from eventlog import feed, log
from eventlog.feed import EventFilter, Page
from eventlog.log import Checkpoint
from eventlog.postgres import Reader, connect_pool
from settings import Settings
from tests.support.api_requests import opened, problem
from tests.support.command_builders import new_order_id
from tests.support.event_feed import SSE, Stream, page, places, streaming
from tests.support.event_log import append, note
from tests.support.personal_data import ADA, ERASED, erase, new_customer, whole
from tests.support.servers import run_api

PATIENCE_S = 60


@pytest.fixture
async def api(dsn: str, temporal: WorkflowEnvironment) -> AsyncIterator[httpx.AsyncClient]:
    """An API on a log that only its test writes to."""
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        yield http


@pytest.fixture
def no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without heartbeats a stream that is not woken would never look again."""
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 3600.0)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """What each look at the log has found."""
    looks: list[Page] = []
    read = feed.read

    async def recorded(reader: Reader, after: Checkpoint, filter: EventFilter, limit: int) -> Page:
        looks.append(await read(reader, after, filter, limit))
        return looks[-1]

    monkeypatch.setattr(feed, "read", recorded)
    return looks


@pytest.mark.usefixtures("no_heartbeat")
async def test_a_stream_tells_what_was_and_then_what_comes(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    first, second = new_order_id(), new_order_id()
    await append(pool, first, *(note(version) for version in range(1, 121)))
    async with streaming(api) as stream:
        assert places(await stream.take(120)) == [(first, v) for v in range(1, 121)]
        for version in range(1, 6):
            await append(pool, second, note(version))
            assert places([await stream.next()]) == [(second, version)]
        as_page = await page(api, limit=1000)
    async with streaming(api) as stream:
        assert await stream.take(125) == as_page["items"]


async def test_a_stream_goes_on_after_the_last_event_id_across_restarts(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    settings, order_id = Settings(postgres_dsn=dsn), new_order_id()
    await append(pool, order_id, note(1), note(2), note(3))
    async with run_api(temporal.client, settings) as http, streaming(http) as stream:
        assert places(await stream.take(2)) == [(order_id, 1), (order_id, 2)]
    await append(pool, order_id, note(4))
    async with run_api(temporal.client, settings) as http:
        # A browser comes back with the address that it first had, and with the id.
        begin = (await page(http, limit=1))["next"]
        async with streaming(http, stream.last_id, cursor=begin) as resumed:
            assert places(await resumed.take(2)) == [(order_id, 3), (order_id, 4)]
        assert places((await page(http, resumed.last_id))["items"]) == []


@pytest.mark.usefixtures("no_heartbeat")
async def test_a_late_commit_is_not_skipped_by_a_stream(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    before, early, late = new_order_id(), new_order_id(), new_order_id()
    await append(pool, before, note(1))
    async with streaming(api) as stream, pool.acquire() as slow:
        assert places([await stream.next()]) == [(before, 1)]
        holding = slow.transaction()
        await holding.start()
        await log.append(slow, early, [note(1)])  # Has its position, but is not committed.
        await append(pool, late, note(1))
        coming = asyncio.create_task(stream.take(2))
        await page(api)
        assert not coming.done()
        await holding.commit()
        assert places(await coming) == [(early, 1), (late, 1)]


@pytest.mark.usefixtures("no_heartbeat")
async def test_what_an_older_transaction_held_back_comes_though_nobody_announces_its_end(
    pool: asyncpg.Pool, api: httpx.AsyncClient, looks: list[Page]
) -> None:
    before, held = new_order_id(), new_order_id()
    await append(pool, before, note(1))
    async with streaming(api) as stream, pool.acquire() as slow:
        assert places([await stream.next()]) == [(before, 1)]
        holding = slow.transaction()
        await holding.start()
        await slow.execute("SELECT pg_current_xact_id()")
        await append(pool, held, note(1))
        coming = asyncio.create_task(stream.next())
        async with asyncio.timeout(PATIENCE_S):
            while not any(look.unsettled for look in looks):
                await asyncio.sleep(0.01)
        assert not coming.done()
        await holding.rollback()  # Of which no listener hears.
        assert places([await coming]) == [(held, 1)]


@pytest.mark.usefixtures("no_heartbeat")
async def test_a_stream_tells_only_what_is_wanted(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    one, other = new_order_id(), new_order_id()
    async with streaming(api, order_id=one, type="note-added") as stream:
        await append(pool, other, *(note(version) for version in range(1, 200)))
        await append(pool, one, note(1))
        assert places([await stream.next()]) == [(one, 1)]


async def test_a_quiet_stream_shows_that_it_lives_and_moves_the_place_where_to_go_on(
    pool: asyncpg.Pool, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    async with streaming(api, type="order-opened") as stream:
        await append(pool, new_order_id(), note(1))
        end = (await page(api, type="order-opened"))["next"]
        async with asyncio.timeout(PATIENCE_S):
            lines = [line async for line in _until(stream.response, f"id: {end}")]
    assert lines[0] == "retry: 1000"
    assert ": " in lines
    assert not any(line.startswith(("data", "event")) for line in lines)


async def _until(response: httpx.Response, last: str) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        yield line
        if line == last:
            return


async def test_personal_data_is_open_in_a_stream_until_it_is_erased(
    http: httpx.AsyncClient,
) -> None:
    customer = new_customer()
    path = await opened(http, customer_id=customer, shipping_address=ADA)
    query = {"order_id": path.rpartition("/")[2], "type": "shipping-address-set"}
    async with streaming(http, **query) as stream:
        assert (await stream.next())["data"]["address"] == whole(ADA)
    await erase(http, customer)
    async with streaming(http, **query) as stream:
        assert (await stream.next())["data"]["address"] == ERASED


async def test_a_last_event_id_that_was_tampered_with_is_refused(http: httpx.AsyncClient) -> None:
    for accepted in (SSE, {}):
        bad = await http.get("/v1/events", headers={**accepted, "Last-Event-ID": "AAAA"})
        refused = problem(bad, 400, "invalid-cursor")
        assert refused["errors"][0]["header"] == "Last-Event-ID"


@pytest.fixture
def two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 2)


@pytest.mark.usefixtures("no_heartbeat", "two_streams")
async def test_streams_are_limited_and_a_disconnected_one_frees_its_slot(
    api: httpx.AsyncClient,
) -> None:
    async with streaming(api):
        async with streaming(api):
            full = await api.get("/v1/events", headers=SSE)
            problem(full, 429, "too-many-streams")
            assert int(full.headers["Retry-After"]) > 0
            assert (await api.get("/v1/events")).status_code == 200, "pages need no slot"
        async with asyncio.timeout(PATIENCE_S):
            while True:
                async with api.stream("GET", "/v1/events", headers=SSE) as response:
                    if response.status_code == 200:
                        return
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("no_heartbeat")
async def test_a_slow_reader_is_not_read_ahead_for_holds_up_nobody_and_misses_nothing(
    pool: asyncpg.Pool, api: httpx.AsyncClient, looks: list[Page]
) -> None:
    count, text = 1_000, "x" * 40_000  # Far more than what a connection holds on its way.
    slow_one, fast_one = new_order_id(), new_order_id()
    for order_id in (slow_one, fast_one):
        await append(pool, order_id, *(note(version, text) for version in range(1, count + 1)))
    async with streaming(api, order_id=slow_one) as slow:
        assert places([await slow.next()]) == [(slow_one, 1)]
        async with streaming(api, order_id=fast_one) as fast:
            assert places(await fast.take(count)) == [(fast_one, v) for v in range(1, count + 1)]
        found = [page.events[0].order_id for page in looks if page.events]
        assert found.count(slow_one) < found.count(fast_one) / 2
        assert places(await slow.take(count - 1)) == [(slow_one, v) for v in range(2, count + 1)]


@pytest.mark.usefixtures("no_heartbeat")
async def test_streams_at_the_same_place_share_what_they_find(
    pool: asyncpg.Pool, api: httpx.AsyncClient, looks: list[Page]
) -> None:
    order_id = new_order_id()
    async with streaming(api) as a, streaming(api) as b, streaming(api) as c, streaming(api) as d:
        for version in range(1, 21):
            await append(pool, order_id, note(version))
            for stream in (a, b, c, d):
                assert places([await stream.next()]) == [(order_id, version)]
    finds = [page for page in looks if page.events]
    assert 20 <= len(finds) < 4 * 20


async def test_a_stream_loses_nothing_when_the_api_loses_all_its_connections(
    dsn: str, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on or ends well, and then its reader comes back; the notifications are lost."""
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.5)
    order_id, seen, last_id = new_order_id(), 0, ""
    async with await connect_pool(dsn, 1) as killer:
        while seen < 5:
            headers = SSE | {"Last-Event-ID": last_id}
            async with api.stream("GET", "/v1/events", headers=headers) as response:
                if response.status_code == 503:
                    continue
                stream = Stream(response)
                with suppress(EOFError):
                    while seen < 5:
                        await append(killer, order_id, note(seen + 1))
                        assert places([await stream.next()]) == [(order_id, seen + 1)]
                        seen, last_id = seen + 1, stream.last_id
                        await killer.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                        )


async def test_streams_end_when_the_api_is_to_stop_so_that_it_can(
    pool: asyncpg.Pool, dsn: str
) -> None:
    order_id = new_order_id()
    await append(pool, order_id, note(1))
    (port,) = free_ports({"--api-port": 0})
    command = [str(Path(sys.executable).with_name("orderly")), "api"]
    settings = {
        "ORDERLY_POSTGRES_DSN": dsn,
        "ORDERLY_API_PORT": str(port),
        "ORDERLY_AUTH": "none",
    }
    running = await asyncio.create_subprocess_exec(*command, env={**os.environ, **settings})
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            async with asyncio.timeout(PATIENCE_S):
                while not await is_alive(http):
                    await asyncio.sleep(0.1)
            async with streaming(http) as stream:
                assert places([await stream.next()]) == [(order_id, 1)]
                running.send_signal(signal.SIGTERM)
                with pytest.raises(EOFError):  # Had it been cut off, that would be another error.
                    await stream.next()
        await asyncio.wait_for(running.wait(), PATIENCE_S)
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def is_alive(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False
