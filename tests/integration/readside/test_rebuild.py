"""A read model is rebuilt and swapped in while reads continue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from orders.events import NoteAdded, OrderPlaced
from readside.engine import generations, parking, rebuild
from readside.engine.generations import LIVE
from readside.engine.rebuild import NEXT, PREVIOUS, RebuildError, RebuildProgress
from readside.order_view import projection as order_view
from readside.order_view import queries as order_lists
from readside.order_view.view import OrderView, StoredEvent, fold_view
from settings import Settings
from tests.support.command_builders import new_order_id
from tests.support.projections import (
    BAGELS,
    OPENED,
    ORDER_VIEW,
    assert_views_equal_folds,
    project_all,
    publish,
    publish_unreadable,
    shown,
)
from tests.support.servers import run_api, run_projector
from tests.support.webhook_receiver import until


@pytest.fixture
async def orders(pool: asyncpg.Pool, dsn: str) -> list[str]:
    """Orders with some events each, all of them projected."""
    order_ids = [new_order_id() for _ in range(30)]
    for number, order_id in enumerate(order_ids):
        await publish(pool, order_id, 1, OPENED, *[BAGELS][: number % 2])
    await project_all(dsn)
    return order_ids


async def test_rebuild_fixes_rows_and_rollback_restores_them(
    pool: asyncpg.Pool, dsn: str, orders: list[str]
) -> None:
    wrong = "UPDATE order_view.orders SET document = '{\"wrong\": true}' WHERE order_id = $1"
    await pool.execute(wrong, orders[0])
    progress: list[RebuildProgress] = []

    compared = await rebuild.rebuild(dsn, ORDER_VIEW, progress.append)

    assert (compared.orders, compared.different, compared.examples) == (30, 1, [orders[0]])
    assert progress[0] == RebuildProgress(0, 45)
    assert progress[-1] == RebuildProgress(45, 45)
    await assert_views_equal_folds(pool)
    await publish(pool, orders[1], 3, OrderPlaced(total=90))
    await project_all(dsn)
    await rebuild.rollback(dsn, ORDER_VIEW)
    row = await order_lists.find(pool, orders[0])
    assert row is not None
    assert "wrong" in row.document
    assert (await shown(pool, orders[1])).version == 3, (
        "events after the rebuild must be projected, too"
    )
    await rebuild.rollback(dsn, ORDER_VIEW)
    await project_all(dsn)
    await assert_views_equal_folds(pool)


async def live_version(dsn: str) -> int | None:
    async with generations.connected(dsn, ORDER_VIEW) as connection:
        return await generations.version_of(connection, ORDER_VIEW.name, LIVE)


async def test_prepared_read_model_is_live_once_a_projector_of_its_version_starts(
    pool: asyncpg.Pool, dsn: str, orders: list[str]
) -> None:
    newer = replace(ORDER_VIEW, version=ORDER_VIEW.version + 1)
    with pytest.raises(RebuildError, match="already"):
        await rebuild.prepare(dsn, ORDER_VIEW)
    assert not await rebuild.adopt_prepared(dsn, newer), "nothing is prepared yet"
    await rebuild.prepare(dsn, newer)
    await publish(pool, orders[1], 3, OrderPlaced(total=90))
    await project_all(dsn)
    assert await live_version(dsn) == ORDER_VIEW.version
    assert not await rebuild.adopt_prepared(dsn, ORDER_VIEW), "it is of another version"

    async with run_projector(dsn, (newer,)), asyncio.timeout(60):
        while await live_version(dsn) != newer.version:
            await asyncio.sleep(0.05)
    assert (await shown(pool, orders[1])).version == 3
    await assert_views_equal_folds(pool)


async def test_interrupted_rebuild_continues(
    pool: asyncpg.Pool, dsn: str, orders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "CHUNK_EVENTS", 7)

    class Killed(Exception):
        pass

    def kill(progress: RebuildProgress) -> None:
        if progress.filled > 20:
            raise Killed

    with pytest.raises(Killed):
        await rebuild.rebuild(dsn, ORDER_VIEW, kill)
    await publish(pool, orders[0], 2, NoteAdded(note_id="n", text="came meanwhile"))
    await publish(pool, new_order_id(), 1, OPENED)
    await project_all(dsn)
    await assert_views_equal_folds(pool)
    progress: list[RebuildProgress] = []
    await rebuild.rebuild(dsn, ORDER_VIEW, progress.append)
    assert progress[0].filled > 20, "it must continue where it stopped"
    assert progress[-1] == RebuildProgress(45, 45)
    await assert_views_equal_folds(pool)


async def test_order_longer_than_a_chunk_is_filled_at_once(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "CHUNK_EVENTS", 4)
    notes = [NoteAdded(note_id=f"{n}", text="hi") for n in range(20)]
    for _ in range(3):
        await publish(pool, new_order_id(), 1, OPENED, *notes)
    await project_all(dsn)
    await rebuild.rebuild(dsn, ORDER_VIEW)
    await assert_views_equal_folds(pool)


async def test_rebuild_from_an_empty_log(pool: asyncpg.Pool, dsn: str) -> None:
    await rebuild.rebuild(dsn, ORDER_VIEW)
    await publish(pool, new_order_id(), 1, OPENED)
    await project_all(dsn)
    await assert_views_equal_folds(pool)


@pytest.mark.parametrize("rounds", [15, pytest.param(200, marks=pytest.mark.soak)])
async def test_readers_see_no_error_and_no_older_state_during_rebuilds(
    pool: asyncpg.Pool, dsn: str, orders: list[str], temporal: WorkflowEnvironment, rounds: int
) -> None:
    acknowledged = dict.fromkeys(orders[:16:2], 2)
    done = asyncio.Event()
    reads = 0

    async def write() -> None:
        for number in range(rounds):
            for order_id in list(acknowledged)[number % 2 :: 2]:
                version = acknowledged[order_id] + 1
                note = NoteAdded(note_id=f"{version}", text="hi")
                await publish(pool, order_id, version, note)
                acknowledged[order_id] = version
        try:
            await until(lambda: reads > len(acknowledged))
        finally:
            done.set()

    async def read(http: httpx.AsyncClient, order_id: str) -> None:
        nonlocal reads
        seen = 0
        while not done.is_set():
            response = await http.get(f"/v1/orders/{order_id}")
            assert response.status_code == 200, response.text
            assert response.json()["version"] >= seen, "the version must not decrease"
            seen = response.json()["version"]
            listed = await http.get("/v1/orders", params={"customer_id": "900", "limit": 5})
            assert (listed.status_code, len(listed.json()["items"])) == (200, 5)
            reads += 1

    async def swap() -> None:
        while not done.is_set():
            await rebuild.rebuild(dsn, ORDER_VIEW)
            await rebuild.rollback(dsn, ORDER_VIEW)

    for order_id in acknowledged:
        await publish(pool, order_id, 2, NoteAdded(note_id="2", text="hi"))
    async with (
        run_api(temporal.client, Settings(postgres_dsn=dsn)) as http,
        run_projector(dsn),
        run_projector(dsn),
    ):
        readers = (read(http, order_id) for order_id in acknowledged)
        await asyncio.gather(write(), swap(), *readers)
        for order_id, version in acknowledged.items():
            response = await http.get(f"/v1/orders/{order_id}", params={"min_version": version})
            assert response.json()["version"] == version
    await assert_views_equal_folds(pool)


async def test_new_version_of_a_projection_replaces_the_old_one(
    pool: asyncpg.Pool, dsn: str, orders: list[str]
) -> None:
    made_by = ORDER_VIEW.version
    newer = replace(
        ORDER_VIEW,
        version=made_by + 1,
        tables=f"{ORDER_VIEW.tables} CREATE TABLE more (x int);",
    )
    await rebuild.rebuild(dsn, newer)
    async with pool.acquire() as connection:
        assert await generations.version_of(connection, ORDER_VIEW.name, LIVE) == made_by + 1
        assert await generations.version_of(connection, ORDER_VIEW.name, PREVIOUS) == made_by
    assert await pool.fetchval("SELECT count(*) FROM order_view.more") == 0
    with pytest.raises(RebuildError, match="with the software that made it"):
        await rebuild.rollback(dsn, newer)
    await rebuild.rollback(dsn, ORDER_VIEW)
    await assert_views_equal_folds(pool)


async def test_generation_that_parks_more_orders_is_not_swapped_in(
    pool: asyncpg.Pool, dsn: str, orders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as buggy:

        def failing_fold(view: OrderView, stream: Sequence[StoredEvent]) -> OrderView:
            assert view.order_id != orders[2], "a bug"
            return fold_view(view, stream)

        buggy.setattr(order_view, "fold_view", failing_fold)
        with pytest.raises(RebuildError, match="cannot project 1 orders that the live one has"):
            await rebuild.rebuild(dsn, ORDER_VIEW)
    async with pool.acquire() as connection:
        assert await generations.version_of(connection, ORDER_VIEW.name, NEXT) is None
    await assert_views_equal_folds(pool)
    await rebuild.rebuild(dsn, ORDER_VIEW)


async def test_order_parked_in_the_live_generation_is_parked_in_the_new_one(
    pool: asyncpg.Pool, dsn: str, orders: list[str]
) -> None:
    await publish_unreadable(pool, orders[0], 2)
    await project_all(dsn)
    before = await parking.parked_orders(pool)
    await rebuild.rebuild(dsn, ORDER_VIEW)
    assert [one[:4] for one in await parking.parked_orders(pool)] == [one[:4] for one in before]
    assert (await shown(pool, orders[0])).version == 1


async def test_concurrent_rebuild_and_rollback_without_previous_generation_are_rejected(
    dsn: str, orders: list[str]
) -> None:
    with pytest.raises(RebuildError, match="no previous"):
        await rebuild.rollback(dsn, ORDER_VIEW)
    async with rebuild._exclusive(dsn, ORDER_VIEW):  # As another one that is running.
        with pytest.raises(RebuildError, match="is running"):
            await rebuild.rebuild(dsn, ORDER_VIEW)
    await rebuild.rebuild(dsn, ORDER_VIEW)
