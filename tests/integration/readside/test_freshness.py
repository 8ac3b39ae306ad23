"""The lag of a read model counts every published event that it lacks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from api.monitoring import readiness
from eventlog.announcements import announce
from eventlog.postgres import connect
from orders.events import NoteAdded, OrderPlaced
from readside import freshness as freshness_of_projections
from readside.engine import batches, generations
from readside.engine.batches import BatchStatus
from readside.freshness import HEARTBEAT_SECONDS_MAX, Freshness
from readside.statistics import lead_times
from settings import Settings
from tests.support.api_requests import until_ready
from tests.support.command_builders import new_order_id
from tests.support.event_log import settled
from tests.support.projections import BAGELS, OPENED, ORDER_VIEW, publish
from tests.support.servers import run_api, run_projector

HELD_SECONDS = 1.5


@asynccontextmanager
async def held_back(dsn: str) -> AsyncIterator[None]:
    """Another application's writing transaction, open inside the `async with`."""
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await connection.fetchval("SELECT pg_current_xact_id()::text")
            yield
    finally:
        await connection.close()


async def until(freshness: Freshness, holds: Callable[[int], bool], name: str) -> int:
    """Waits until the lag of a projection meets a condition."""
    async with asyncio.timeout(30):
        while (progress := freshness.progress(name)) is None or not holds(progress.lag_ms):
            await asyncio.sleep(0.02)
    return progress.lag_ms


def lag(freshness: Freshness, name: str = ORDER_VIEW.name) -> int:
    progress = freshness.progress(name)
    assert progress is not None
    return progress.lag_ms


def is_age(lag_ms: int, asked: float, began: float, ended: float) -> bool:
    """Whether a lag that was asked for is the age of an event published between two times."""
    tolerance_s = 0.2
    return asked - ended - tolerance_s < lag_ms / 1000 < time.monotonic() - began + tolerance_s


async def until_age(freshness: Freshness, began: float, ended: float) -> None:
    """Waits until the lag is the age of an event published between two times.

    A notification that a busy machine delivers late makes it shorter, until the next one.
    """
    async with asyncio.timeout(30):
        while True:
            asked = time.monotonic()
            if is_age(lag(freshness), asked, began, ended):
                return
            await asyncio.sleep(0.02)


def is_nothing(lag_ms: int) -> bool:
    return lag_ms == 0


async def test_lag_counts_events_behind_an_older_transaction(pool: asyncpg.Pool, dsn: str) -> None:
    freshness = Freshness(pool, dsn)
    async with freshness.listening(), run_projector(dsn):
        await until(freshness, is_nothing, ORDER_VIEW.name)
        async with held_back(dsn):
            began = time.monotonic()
            await publish(pool, new_order_id(), 1, OPENED)
            ended = time.monotonic()
            for _ in range(6):
                await asyncio.sleep(HELD_SECONDS / 6)
                await until_age(freshness, began, ended)
        await until(freshness, is_nothing, ORDER_VIEW.name)


async def test_open_transaction_without_events_behind_it_adds_no_lag(
    pool: asyncpg.Pool, dsn: str
) -> None:
    freshness = Freshness(pool, dsn)
    await publish(pool, new_order_id(), 1, OPENED)
    async with freshness.listening(), run_projector(dsn):
        await until(freshness, is_nothing, ORDER_VIEW.name)
        async with held_back(dsn):
            await asyncio.sleep(HELD_SECONDS)
            assert lag(freshness) == 0


async def test_uncommitted_event_adds_no_lag(pool: asyncpg.Pool, dsn: str) -> None:
    freshness = Freshness(pool, dsn)
    async with freshness.listening(), run_projector(dsn):
        await until(freshness, is_nothing, ORDER_VIEW.name)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO order_events (order_id, version, type, schema_version, occurred_at,"
                " data, metadata) VALUES ('ord_open', 1, 'order-held', 1, now(), '{}', '{}')"
            )
            await asyncio.sleep(HELD_SECONDS)
            assert lag(freshness) == 0


async def test_lag_counts_events_published_after_the_last_heartbeat(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness_of_projections, "HEARTBEAT_SECONDS_MAX", 3600.0)
    freshness = Freshness(pool, dsn)
    async with freshness.listening():
        async with run_projector(dsn):
            await until(freshness, is_nothing, ORDER_VIEW.name)
        began = time.monotonic()
        await publish(pool, new_order_id(), 1, OPENED)
        await until(freshness, lambda ms: ms > 0, ORDER_VIEW.name)
        heard = time.monotonic()
        await asyncio.sleep(0.5)
        asked = time.monotonic()
        assert is_age(lag(freshness), asked, began, heard)
        async with run_projector(dsn):
            await until(freshness, is_nothing, ORDER_VIEW.name)


async def test_announcement_of_an_event_that_is_projected_adds_no_lag(
    pool: asyncpg.Pool, dsn: str
) -> None:
    """A projector may find an event before it is announced."""
    freshness = Freshness(pool, dsn)
    async with freshness.listening(), run_projector(dsn, [ORDER_VIEW]):
        await until(freshness, is_nothing, ORDER_VIEW.name)
        for _ in range(20):
            await announce(pool, age_ms=60_000)
            await asyncio.sleep(0.01)
            assert lag(freshness) == 0
        await announce(pool)
        await until(freshness, lambda ms: ms > 0, ORDER_VIEW.name)


async def test_lag_grows_while_the_projector_is_silent(pool: asyncpg.Pool, dsn: str) -> None:
    freshness = Freshness(pool, dsn)
    async with freshness.listening():
        async with run_projector(dsn):
            await until(freshness, is_nothing, ORDER_VIEW.name)
        await until(freshness, lambda ms: ms > HEARTBEAT_SECONDS_MAX * 1000, ORDER_VIEW.name)


async def test_projection_of_rare_types_scans_the_log_bit_by_bit(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that had to find one of its events in a long log would take too long."""
    monkeypatch.setattr(batches, "SCANNED_EVENTS_MAX", 10)
    projection, order_id = lead_times.PROJECTION, new_order_id()
    notes = [NoteAdded(note_id=f"{n}", text="hi") for n in range(98)]
    await publish(pool, order_id, 1, OPENED, *notes, OrderPlaced(total=90))
    await settled(pool)
    async with generations.connected(dsn, projection) as connection:
        statuses = [await batches.project_batch(connection, projection) for _ in range(11)]
    assert statuses == [BatchStatus.MORE] * 10 + [BatchStatus.CAUGHT_UP]
    assert await pool.fetchval("SELECT version FROM lead_times.orders") == 100
    await publish(pool, order_id, 101, *notes)
    freshness = Freshness(pool, dsn, [projection.name])
    async with freshness.listening():
        assert lag(freshness, projection.name) > 0
        async with run_projector(dsn, [projection]):
            await until(freshness, is_nothing, projection.name)


async def test_events_of_other_types_add_no_lag(pool: asyncpg.Pool, dsn: str) -> None:
    name, order_id = lead_times.PROJECTION.name, new_order_id()
    assert "note-added" not in (lead_times.PROJECTION.types or ())
    freshness = Freshness(pool, dsn)
    async with freshness.listening(), run_projector(dsn):
        await publish(pool, order_id, 1, OPENED)
        await until(freshness, is_nothing, name)
        async with held_back(dsn):
            began = time.monotonic()
            await publish(pool, order_id, 2, NoteAdded(note_id="n", text="hi"))
            ended = time.monotonic()
            await asyncio.sleep(HELD_SECONDS)
            await until(freshness, is_nothing, name)
            await until_age(freshness, began, ended)


async def test_api_reports_the_lag_of_its_reads(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "LAG_SECONDS_MAX", 1)
    order_id = new_order_id()

    async with run_projector(dsn), run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:

        async def listed() -> tuple[bool, int]:
            response = await http.get("/v1/orders", params={"customer_id": OPENED.customer_id})
            ids = [item["order_id"] for item in response.json()["items"]]
            return order_id in ids, int(response.headers["Projection-Lag-Ms"])

        async def until_ready_and(words: str) -> None:
            async with asyncio.timeout(30):
                while True:
                    states = (await until_ready(http.admin, "reads"))["projections"]
                    if states["order_view"].endswith(words):
                        return
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(60):
            while await listed() != (False, 0):
                await asyncio.sleep(0.02)
            async with held_back(dsn):
                began = time.monotonic()
                await publish(pool, order_id, 1, OPENED, BAGELS)
                ended = asked = time.monotonic()
                lag_ms = 0
                while lag_ms < HELD_SECONDS * 1000 or not is_age(lag_ms, asked, began, ended):
                    asked = time.monotonic()
                    is_listed, lag_ms = await listed()
                    assert not is_listed
                await until_ready_and(" seconds behind")
            while await listed() != (True, 0):
                await asyncio.sleep(0.02)
        await until_ready_and("ok")


async def test_first_read_reports_the_lag(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    await publish(pool, new_order_id(), 1, OPENED)
    await asyncio.sleep(0.3)
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        response = await http.get("/v1/orders")
    assert int(response.headers["Projection-Lag-Ms"]) >= 300


async def test_reads_wait_for_versions_again_once_the_tables_are_there(
    pool: asyncpg.Pool, dsn: str
) -> None:
    """An API may run before `orderly migrate`."""
    order_id, freshness = new_order_id(), Freshness(pool, dsn)
    await publish(pool, order_id, 1, OPENED)
    async with freshness.listening(), run_projector(dsn, [ORDER_VIEW]):
        await pool.execute("ALTER TABLE parked_orders RENAME TO later")
        assert not await freshness.wait_for(ORDER_VIEW.name, order_id, 1, 1.0)
        await pool.execute("ALTER TABLE later RENAME TO parked_orders")
        assert await freshness.wait_for(ORDER_VIEW.name, order_id, 1, 30.0)
