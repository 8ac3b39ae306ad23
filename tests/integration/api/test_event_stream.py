"""The event stream: it skips nothing, resumes, and bounds what each reader costs."""

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
from dev.tcp_proxy import TcpProxy, through, unix_socket
from eventlog import feed, log
from eventlog.feed import EventFilter, Page
from eventlog.log import START, Checkpoint
from eventlog.postgres import Reader, connect_pool
from settings import Settings
from tests.support.api_requests import opened, problem
from tests.support.command_builders import new_order_id
from tests.support.event_feed import SSE, Stream, order_versions, page, streaming
from tests.support.event_log import append, append_unannounced, append_unsettled, note
from tests.support.personal_data import ADA, ERASED, erase, new_customer, whole
from tests.support.servers import run_api

TIMEOUT_S = 60


@pytest.fixture
async def api(dsn: str, temporal: WorkflowEnvironment) -> AsyncIterator[httpx.AsyncClient]:
    """An API on a log that only its test writes to."""
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        yield http


@pytest.fixture
def no_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without heartbeats, only a notification or a retry makes a stream read again."""
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 3600.0)


@pytest.fixture
def pages_read(monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """Every page that was read from the log."""
    pages_read: list[Page] = []
    read = feed.read

    async def record(reader: Reader, after: Checkpoint, filter: EventFilter, limit: int) -> Page:
        pages_read.append(await read(reader, after, filter, limit))
        return pages_read[-1]

    monkeypatch.setattr(feed, "read", record)
    return pages_read


@pytest.mark.usefixtures("no_heartbeat")
async def test_stream_sends_stored_events_then_new_ones(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    first, second = new_order_id(), new_order_id()
    await append(pool, first, *(note(version) for version in range(1, 121)))
    async with streaming(api) as stream:
        assert order_versions(await stream.take(120)) == [(first, v) for v in range(1, 121)]
        for version in range(1, 6):
            await append(pool, second, note(version))
            assert order_versions([await stream.next()]) == [(second, version)]
        as_page = await page(api, limit=1000)
    async with streaming(api) as stream:
        assert await stream.take(125) == as_page["items"]


async def test_stream_resumes_after_last_event_id_across_restarts(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    settings, order_id = Settings(postgres_dsn=dsn), new_order_id()
    await append(pool, order_id, note(1), note(2), note(3))
    async with run_api(temporal.client, settings) as http, streaming(http) as stream:
        assert order_versions(await stream.take(2)) == [(order_id, 1), (order_id, 2)]
    await append(pool, order_id, note(4))
    async with run_api(temporal.client, settings) as http:
        # A browser reconnects with its first URL and the last event id.
        begin = (await page(http, limit=1))["next"]
        async with streaming(http, stream.last_id, cursor=begin) as resumed:
            assert order_versions(await resumed.take(2)) == [(order_id, 3), (order_id, 4)]
        assert order_versions((await page(http, resumed.last_id))["items"]) == []


async def test_stream_finds_events_whose_announcements_are_lost(
    pool: asyncpg.Pool, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.1)
    order_id = new_order_id()
    async with streaming(api) as stream:
        for version in range(1, 6):
            await append_unannounced(pool, order_id, note(version))
            assert order_versions([await stream.next()]) == [(order_id, version)]


@pytest.mark.usefixtures("no_heartbeat")
async def test_stream_is_woken_when_notifications_can_arrive_again(
    pool: asyncpg.Pool, dsn: str, pages_read: list[Page]
) -> None:
    order_id = new_order_id()
    async with TcpProxy(unix_socket(dsn)).listening() as proxy:
        proxy.is_refusing = True
        streams_ = streams.Streams(pool, through(proxy, dsn))
        async with streams_.listening(), asyncio.timeout(TIMEOUT_S):
            pages = streams_.follow(START, EventFilter())
            assert (await anext(pages)).events == []
            following = asyncio.ensure_future(anext(pages))
            while len(pages_read) < 2:
                await asyncio.sleep(0.01)
            await append(pool, order_id, note(1))  # Its announcement is lost.
            proxy.is_refusing = False
            assert [event.order_id for event in (await following).events] == [order_id]


@pytest.mark.usefixtures("no_heartbeat")
async def test_late_commit_is_not_skipped_by_a_stream(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    before, early, late = new_order_id(), new_order_id(), new_order_id()
    await append(pool, before, note(1))
    async with streaming(api) as stream, pool.acquire() as slow:
        assert order_versions([await stream.next()]) == [(before, 1)]
        holding = slow.transaction()
        await holding.start()
        await log.append(slow, early, [note(1)])  # Has its position, but is not committed.
        await append_unsettled(pool, late, note(1))
        coming = asyncio.create_task(stream.take(2))
        await page(api)
        assert not coming.done()
        await holding.commit()
        assert order_versions(await coming) == [(early, 1), (late, 1)]


@pytest.mark.usefixtures("no_heartbeat")
async def test_event_behind_an_older_transaction_is_sent_without_a_notification(
    pool: asyncpg.Pool, api: httpx.AsyncClient, pages_read: list[Page]
) -> None:
    before, held = new_order_id(), new_order_id()
    await append(pool, before, note(1))
    async with streaming(api) as stream, pool.acquire() as slow:
        assert order_versions([await stream.next()]) == [(before, 1)]
        holding = slow.transaction()
        await holding.start()
        await slow.execute("SELECT pg_current_xact_id()")
        await append_unsettled(pool, held, note(1))
        coming = asyncio.create_task(stream.next())
        async with asyncio.timeout(TIMEOUT_S):
            while not any(read_page.unsettled for read_page in pages_read):
                await asyncio.sleep(0.01)
        assert not coming.done()
        await holding.rollback()  # Without a notification.
        assert order_versions([await coming]) == [(held, 1)]


@pytest.mark.usefixtures("no_heartbeat")
async def test_stream_sends_only_events_that_match_its_filter(
    pool: asyncpg.Pool, api: httpx.AsyncClient
) -> None:
    one, other = new_order_id(), new_order_id()
    async with streaming(api, order_id=one, type="note-added") as stream:
        await append(pool, other, *(note(version) for version in range(1, 200)))
        await append(pool, one, note(1))
        assert order_versions([await stream.next()]) == [(one, 1)]


async def test_heartbeats_of_an_idle_stream_advance_its_cursor(
    pool: asyncpg.Pool, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    async with streaming(api, type="order-opened") as stream:
        await append(pool, new_order_id(), note(1))
        end = (await page(api, type="order-opened"))["next"]
        async with asyncio.timeout(TIMEOUT_S):
            lines = [line async for line in _until(stream.response, f"id: {end}")]
    assert lines[0] == "retry: 1000"
    assert ": " in lines
    assert not any(line.startswith(("data", "event")) for line in lines)


async def _until(response: httpx.Response, last: str) -> AsyncIterator[str]:
    async for line in response.aiter_lines():
        yield line
        if line == last:
            return


async def test_personal_data_is_readable_in_a_stream_until_erased(
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


async def test_tampered_last_event_id_is_rejected(http: httpx.AsyncClient) -> None:
    for accepted in (SSE, {}):
        bad = await http.get("/v1/events", headers={**accepted, "Last-Event-ID": "AAAA"})
        rejected = problem(bad, 400, "invalid-cursor")
        assert rejected["errors"][0]["header"] == "Last-Event-ID"


@pytest.fixture
def two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 2)


@pytest.mark.usefixtures("no_heartbeat", "two_streams")
async def test_streams_are_limited_and_a_disconnect_releases_the_slot(
    api: httpx.AsyncClient,
) -> None:
    async with streaming(api):
        async with streaming(api):
            full = await api.get("/v1/events", headers=SSE)
            problem(full, 429, "too-many-streams")
            assert int(full.headers["Retry-After"]) > 0
            assert (await api.get("/v1/events")).status_code == 200, "pages need no slot"
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                async with api.stream("GET", "/v1/events", headers=SSE) as response:
                    if response.status_code == 200:
                        return
                await asyncio.sleep(0.01)


@pytest.mark.usefixtures("no_heartbeat")
async def test_slow_reader_bounds_read_ahead_blocks_no_other_and_misses_nothing(
    pool: asyncpg.Pool, api: httpx.AsyncClient, pages_read: list[Page]
) -> None:
    count, text = 1_000, "x" * 40_000  # Far more than a connection buffers.
    slow_one, fast_one = new_order_id(), new_order_id()
    for order_id in (slow_one, fast_one):
        await append(pool, order_id, *(note(version, text) for version in range(1, count + 1)))
    async with streaming(api, order_id=slow_one) as slow:
        assert order_versions([await slow.next()]) == [(slow_one, 1)]
        async with streaming(api, order_id=fast_one) as fast:
            assert order_versions(await fast.take(count)) == [
                (fast_one, v) for v in range(1, count + 1)
            ]
        found = [page.events[0].order_id for page in pages_read if page.events]
        assert found.count(slow_one) < found.count(fast_one) / 2
        assert order_versions(await slow.take(count - 1)) == [
            (slow_one, v) for v in range(2, count + 1)
        ]


@pytest.mark.usefixtures("no_heartbeat")
async def test_streams_at_the_same_position_share_reads(
    pool: asyncpg.Pool, api: httpx.AsyncClient, pages_read: list[Page]
) -> None:
    order_id = new_order_id()
    async with streaming(api) as a, streaming(api) as b, streaming(api) as c, streaming(api) as d:
        for version in range(1, 21):
            await append(pool, order_id, note(version))
            for stream in (a, b, c, d):
                assert order_versions([await stream.next()]) == [(order_id, version)]
    with_events = [page for page in pages_read if page.events]
    assert 20 <= len(with_events) < 4 * 20


async def test_stream_loses_nothing_when_the_api_loses_its_connections(
    dsn: str, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notifications are lost; the stream continues, or ends cleanly and its reader resumes."""
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
                        assert order_versions([await stream.next()]) == [(order_id, seen + 1)]
                        seen, last_id = seen + 1, stream.last_id
                        await killer.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                        )


async def test_sigterm_ends_open_streams_and_the_api(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await append(pool, order_id, note(1))
    (port,) = free_ports({"--api-port": 0})
    command = [str(Path(sys.executable).with_name("orderly")), "api"]
    settings = {
        "ORDERLY_POSTGRES_DSN": dsn,
        "ORDERLY_API_PORT": str(port),
        "ORDERLY_ADMIN_PORT": "0",
        "ORDERLY_AUTH": "none",
    }
    running = await asyncio.create_subprocess_exec(*command, env={**os.environ, **settings})
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            async with asyncio.timeout(TIMEOUT_S):
                while not await is_alive(http):
                    await asyncio.sleep(0.1)
            async with streaming(http) as stream:
                assert order_versions([await stream.next()]) == [(order_id, 1)]
                running.send_signal(signal.SIGTERM)
                with pytest.raises(EOFError):  # A broken connection would be another error.
                    await stream.next()
        await asyncio.wait_for(running.wait(), TIMEOUT_S)
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def is_alive(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False
