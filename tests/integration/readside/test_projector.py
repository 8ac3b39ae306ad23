"""The projector keeps the read models equal to the fold of the log, also after crashes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog import log
from eventlog.envelope import Envelope
from eventlog.log import START, Checkpoint
from eventlog.postgres import Connection
from orders.events import ItemRemoved, NoteAdded, OrderExpired, OrderPlaced
from readside.engine import checkpoints, generations, parking, rebuild
from readside.engine.batches import project_batch
from readside.engine.checkpoints import ALL_SLICES, CheckpointConflict, SliceGroup
from readside.engine.generations import LIVE
from readside.engine.slices import SliceLocks
from readside.freshness import Freshness
from readside.order_view import projection as order_view
from readside.order_view import queries as order_lists
from readside.order_view.list_query import ListQuery, OrderFilter
from readside.order_view.view import OrderView, StoredEvent, fold_view
from settings import Settings
from tests.support.api_requests import until_ready
from tests.support.command_builders import new_order_id
from tests.support.event_log import ABOUT, AT, append_unannounced, note
from tests.support.projections import (
    BAGELS,
    OPENED,
    ORDER_VIEW,
    UNREADABLE,
    assert_views_equal_folds,
    project_all,
    publish,
    publish_unreadable,
    shown,
)
from tests.support.servers import run_api, run_projector


async def test_row_is_the_fold_of_the_stream(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED, BAGELS)
    await project_all(dsn)
    await publish(pool, order_id, 3, OrderPlaced(total=90))
    await project_all(dsn)
    await assert_views_equal_folds(pool)
    seen = await shown(pool, order_id)
    assert (seen.version, seen.status, seen.total, seen.placed_at) == (3, "placed", 90, AT)


async def test_lines_keep_the_order_in_which_they_were_added(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    for version, line_id in enumerate(["zz", "b", "aaa"], start=2):
        await publish(pool, order_id, version, BAGELS.model_copy(update={"line_id": line_id}))
        await project_all(dsn)
    assert [line.line_id for line in (await shown(pool, order_id)).lines] == ["zz", "b", "aaa"]
    await assert_views_equal_folds(pool)


async def test_lists_by_sku_follow_lines_and_status(pool: asyncpg.Pool, dsn: str) -> None:
    order_id, other = new_order_id(), new_order_id()
    tuna = BAGELS.model_copy(update={"line_id": "2", "sku": "1053875"})

    async def found(sku: str, status: str) -> list[str]:
        await project_all(dsn)
        filter = OrderFilter(sku=sku, status=[status])
        rows = await order_lists.find_page(pool, ListQuery(filter, "opened_at", True, None, 9))
        return sorted(row.order_id for row in rows)

    await publish(pool, order_id, 1, OPENED, BAGELS)
    await publish(pool, other, 1, OPENED, BAGELS)
    assert await found(BAGELS.sku, "draft") == sorted([order_id, other])
    await publish(pool, order_id, 3, tuna, ItemRemoved(line_id="1"), OrderPlaced(total=90))
    assert await found(BAGELS.sku, "draft") == [other]
    assert await found(tuna.sku, "placed") == [order_id]
    assert await found(BAGELS.sku, "placed") == []
    await publish(pool, order_id, 6, OrderExpired())
    assert await found(tuna.sku, "placed") == []
    assert await found(tuna.sku, "expired") == [order_id]


async def test_competing_and_dying_projectors_count_each_event_once(
    pool: asyncpg.Pool, dsn: str
) -> None:
    dice = random.Random(11)
    orders = {new_order_id(): 0 for _ in range(30)}
    done = asyncio.Event()

    async def write() -> None:
        for _ in range(300):
            order_id = dice.choice(list(orders))
            first = orders[order_id] + 1
            notes = [NoteAdded(note_id=f"{first + i}", text="hi") for i in range(3)]
            await publish(pool, order_id, first, *(notes if first > 1 else [OPENED, *notes[1:]]))
            orders[order_id] += 3
        done.set()

    async def project_and_die() -> None:
        while not done.is_set():
            async with run_projector(dsn) as following:
                await asyncio.sleep(dice.random() / 2)
                following.cancel()

    async def project_unowned_slices() -> None:
        async with generations.connected(dsn, ORDER_VIEW) as connection:
            while not done.is_set():
                await project_batch(connection, ORDER_VIEW)
                await asyncio.sleep(dice.random() / 50)

    await asyncio.gather(write(), project_and_die(), project_and_die(), project_unowned_slices())
    await project_all(dsn)
    await assert_views_equal_folds(pool)


async def test_events_whose_announcements_are_lost_are_projected(
    pool: asyncpg.Pool, dsn: str
) -> None:
    orders = [new_order_id() for _ in range(20)]
    async with run_projector(dsn, [ORDER_VIEW]):
        for order_id in orders:
            opened = Envelope.of(OPENED, 1, AT, ABOUT)
            await append_unannounced(pool, order_id, opened, note(2))
        async with asyncio.timeout(60):
            while await pool.fetchval("SELECT count(*) FROM order_view.orders") < len(orders):
                await asyncio.sleep(0.05)
    await assert_views_equal_folds(pool)


async def test_conflicting_checkpoint_is_not_moved(
    pool: asyncpg.Pool,
) -> None:
    ours = SliceGroup(Checkpoint(1, 1), ALL_SLICES)
    with pytest.raises(CheckpointConflict):
        async with pool.acquire() as connection, connection.transaction():
            await checkpoints.advance(connection, ORDER_VIEW.name, LIVE, ours, Checkpoint(9, 9))
    async with pool.acquire() as connection:
        assert await checkpoints_of_slices(connection) == [(START, list(ALL_SLICES))]


# Slices


async def checkpoints_of_slices(connection: Connection) -> list[tuple[Checkpoint, Sequence[int]]]:
    slice_groups = await checkpoints.slice_groups(connection, ORDER_VIEW, LIVE, ALL_SLICES)
    return [(group.at, sorted(group.slices)) for group in slice_groups]


async def test_slices_at_different_checkpoints_converge(pool: asyncpg.Pool, dsn: str) -> None:
    orders = [new_order_id() for _ in range(40)]
    for order_id in orders:
        await publish(pool, order_id, 1, OPENED)
    await project_all(dsn, [1, 2])
    for order_id in orders:
        await publish(pool, order_id, 2, BAGELS)
    await project_all(dsn, [2, 5])
    async with pool.acquire() as connection:
        assert len(await checkpoints_of_slices(connection)) > 1
    await project_all(dsn)
    await assert_views_equal_folds(pool)
    async with pool.acquire() as connection:
        assert len(await checkpoints_of_slices(connection)) == 1


@asynccontextmanager
async def slice_locks(dsn: str) -> AsyncIterator[SliceLocks]:
    async with generations.connected(dsn, ORDER_VIEW) as connection:
        yield SliceLocks(connection, ORDER_VIEW.name)


async def test_processes_share_slices_and_take_over_those_of_a_dead_one(
    dsn: str,
) -> None:
    async with slice_locks(dsn) as first:
        await first.rebalance()
        assert sorted(first.owned) == list(ALL_SLICES)
        async with slice_locks(dsn) as second:
            await second.rebalance()
            assert second.owned == [], "a process must not take slices of another"
            await first.rebalance()
            await second.rebalance()
            assert len(first.owned) == len(second.owned) == len(ALL_SLICES) // 2
            assert sorted(first.owned + second.owned) == list(ALL_SLICES)
        async with asyncio.timeout(30):
            while len(first.owned) < len(ALL_SLICES):  # Until their locks are free.
                await first.rebalance()
        assert sorted(first.owned) == list(ALL_SLICES)


async def test_two_processes_project_the_same_as_one(pool: asyncpg.Pool, dsn: str) -> None:
    async with run_projector(dsn), run_projector(dsn):
        orders = [new_order_id() for _ in range(60)]
        for order_id in orders:
            await publish(pool, order_id, 1, OPENED, BAGELS)
        async with asyncio.timeout(60):
            while await pool.fetchval("SELECT count(*) FROM order_view.orders") < len(orders):
                await asyncio.sleep(0.05)
    await assert_views_equal_folds(pool)


# Orders that cannot be projected


async def test_gap_parks_its_order_and_others_continue(pool: asyncpg.Pool, dsn: str) -> None:
    order_id, other = new_order_id(), new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await publish(pool, order_id, 3, BAGELS)
    await publish(pool, other, 1, OPENED)
    await project_all(dsn)
    (parked,) = await parking.parked_orders(pool)
    assert (parked.order_id, parked.version) == (order_id, 3)
    assert parked.error == "expected version 2"
    assert (await shown(pool, other)).version == 1
    await publish(pool, order_id, 2, NoteAdded(note_id="n", text="late, but here"))
    await publish(pool, order_id, 4, NoteAdded(note_id="m", text="waits in line"))
    await project_all(dsn)
    assert (await shown(pool, order_id)).version == 1, "events before the gap are projected"
    await retry_parked(pool, dsn, order_id)
    assert (await shown(pool, order_id)).version == 4
    await assert_views_equal_folds(pool)


async def test_order_without_its_first_event_is_parked(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 2, BAGELS)
    await project_all(dsn)
    (parked,) = await parking.parked_orders(pool)
    assert (parked.version, parked.error) == (2, "expected version 1")
    assert await order_lists.find(pool, order_id) is None
    await publish(pool, order_id, 1, OPENED)
    await retry_parked(pool, dsn, order_id)
    await assert_views_equal_folds(pool)


async def test_repeated_events_are_skipped(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED, BAGELS)
    await project_all(dsn)
    await publish(pool, order_id, 3, NoteAdded(note_id="n", text="new among the old"))
    await pool.execute("UPDATE projection_checkpoints SET transaction_id = '0', position = 0")
    await project_all(dsn)
    assert (await shown(pool, order_id)).version == 3
    await assert_views_equal_folds(pool)
    assert await parking.parked_orders(pool) == []


async def test_unreadable_event_parks_its_order_until_it_is_readable(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await project_all(dsn)
    await publish_unreadable(pool, order_id, 2)
    await project_all(dsn)
    (parked,) = await parking.parked_orders(pool)
    assert (parked.version, UNREADABLE in parked.error) == (2, True)
    await retry_parked(pool, dsn, order_id)
    (parked,) = await parking.parked_orders(pool)
    assert parked.version == 2, "a retry before the fix leaves it parked"

    with monkeypatch.context() as fixed:
        readable = log.LoggedEvent.event
        fixed.setattr(
            log.LoggedEvent,
            "event",
            lambda self: BAGELS if self.type == UNREADABLE else readable(self),
        )
        await retry_parked(pool, dsn, order_id)
    assert await parking.parked_orders(pool) == []
    assert (await shown(pool, order_id)).version == 2


async def test_bug_parks_the_orders_it_concerns_and_a_retry_after_the_fix_projects_them(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [new_order_id() for _ in range(20)]
    bad = set(orders[3:5])
    for order_id in orders:
        await publish(pool, order_id, 1, OPENED)
    with monkeypatch.context() as buggy:

        def failing_fold(view: OrderView, stream: Sequence[StoredEvent]) -> OrderView:
            assert view.order_id not in bad, "a bug"
            return fold_view(view, stream)

        buggy.setattr(order_view, "fold_view", failing_fold)
        await project_all(dsn)
    parked = await parking.parked_orders(pool)
    assert {one.order_id for one in parked} == bad
    assert "a bug" in parked[0].error
    await retry_parked(pool, dsn)
    await assert_views_equal_folds(pool)


async def test_projection_stops_above_the_limit_of_parked_orders(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "PARKED_MAX", 3)
    order_id = new_order_id()
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        async with run_projector(dsn):
            await until_ready(http.admin, "reads")
            for _ in range(4):
                await publish(pool, new_order_id(), 2, BAGELS)
            async with asyncio.timeout(30):
                while "order_view" not in await checkpoints.stop_reasons(pool):
                    await asyncio.sleep(0.05)
            async with asyncio.timeout(60):  # A check may take too long on a busy machine.
                while True:
                    seen = await http.admin.get("/readyz", params={"for": "reads"})
                    if (seen.json()["temporal"], seen.json()["postgres"]) == ("ok", "ok"):
                        break
                    await asyncio.sleep(0.1)
            assert (seen.status_code, seen.json()["ready"]) == (503, False)
            readiness = seen.json()["projections"]
            assert readiness["order_view"].startswith("stopped: more than 3 orders")
        monkeypatch.setattr(parking, "PARKED_MAX", 9)
        async with run_projector(dsn):
            await publish(pool, order_id, 1, OPENED)
            assert (await until_ready(http.admin, "reads"))["parked_orders"] == 4
            async with asyncio.timeout(60):
                while await order_lists.find(pool, order_id) is None:
                    await asyncio.sleep(0.05)
    assert (await shown(pool, order_id)).version == 1


@pytest.mark.parametrize(
    ("step", "reason"), [(-1, "orderly projections rebuild"), (1, "newer software")]
)
async def test_projection_stops_at_tables_of_another_version(
    pool: asyncpg.Pool, dsn: str, step: int, reason: str
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await pool.execute("UPDATE projection_checkpoints SET version = version + $1", step)
    async with run_projector(dsn), asyncio.timeout(30):
        while reason not in (await checkpoints.stop_reasons(pool)).get(ORDER_VIEW.name, ""):
            await asyncio.sleep(0.05)
    assert await order_lists.find(pool, order_id) is None


async def test_reads_of_missing_tables_are_retryable(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    await pool.execute("ALTER TABLE order_view.skus DROP COLUMN status CASCADE")
    filters = {"sku": BAGELS.sku, "status": "draft"}
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        response = await http.get("/v1/orders", params=filters)
        assert (response.status_code, response.json()["code"]) == (503, "storage-unavailable")
        assert response.headers["Retry-After"] == "10"
        assert (await http.get("/v1/orders", params={"sku": BAGELS.sku})).status_code == 200
        await rebuild.rebuild(dsn, ORDER_VIEW)
        assert (await http.get("/v1/orders", params=filters)).status_code == 200


async def test_stopped_statistics_are_reported_but_do_not_fail_readiness(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    await pool.execute(
        "UPDATE projection_checkpoints SET version = 9 WHERE projection = 'lead_times'"
    )
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http, run_projector(dsn):
        async with asyncio.timeout(60):
            while "lead_times" not in await checkpoints.stop_reasons(pool):
                await asyncio.sleep(0.05)
        readiness = (await until_ready(http.admin, "reads"))["projections"]
    assert readiness["lead_times"].startswith("stopped: ")
    assert readiness["order_view"] == "ok"


# Freshness


async def test_read_waits_for_a_version_until_its_deadline(pool: asyncpg.Pool, dsn: str) -> None:
    order_id, later, name = new_order_id(), new_order_id(), ORDER_VIEW.name
    freshness = Freshness(pool, dsn)
    async with freshness.listening(), run_projector(dsn):
        waiting = asyncio.create_task(freshness.wait_for(name, order_id, 2, seconds=30))
        await publish(pool, order_id, 1, OPENED)
        assert await freshness.wait_for(name, order_id, 1, seconds=30)
        await publish(pool, later, 1, OPENED)
        assert await freshness.wait_for(name, later, 1, seconds=30)
        assert not waiting.done()
        await publish(pool, order_id, 2, BAGELS)
        assert await waiting
        assert not await freshness.wait_for(name, order_id, 3, seconds=0.05)
        async with asyncio.timeout(30):
            while (progress := freshness.progress(name)) is None or not progress.position:
                await asyncio.sleep(0.05)


async def test_read_of_a_parked_order_says_why_it_is_behind(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await publish_unreadable(pool, order_id, 2)
    await publish(pool, order_id, 3, BAGELS)
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http, run_projector(dsn):
        async with asyncio.timeout(30):
            while not await parking.parked_orders(pool):
                await asyncio.sleep(0.05)
        params = {"min_version": "3"}
        late = await http.get(f"/v1/orders/{order_id}", params=params, headers={"Prefer": "wait=1"})
    assert (late.status_code, late.json()["code"]) == (503, "projection-behind")
    assert UNREADABLE in late.json()["detail"]


async def test_freshness_histogram_counts_every_event(pool: asyncpg.Pool, dsn: str) -> None:
    for _ in range(3):
        await publish(pool, new_order_id(), 1, OPENED, BAGELS)
        await project_all(dsn)
    counts = await pool.fetchval(
        "SELECT freshness FROM projection_checkpoints WHERE slice = 0 AND projection = $1",
        ORDER_VIEW.name,
    )
    assert sum(counts) == 6
    assert counts[-1] == 6, "AT is long ago"


async def retry_parked(pool: asyncpg.Pool, dsn: str, order_id: str | None = None) -> None:
    assert await parking.request_retry(pool, order_id) > 0
    async with generations.connected(dsn, ORDER_VIEW) as connection:
        await parking.retry(connection, ORDER_VIEW, ALL_SLICES)
