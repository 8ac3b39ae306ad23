"""The projector keeps the read model equal to the fold of the log, or stops and says where."""

from __future__ import annotations

import asyncio
import random

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog import log
from eventlog.envelope import Envelope
from eventlog.log import Checkpoint
from orders.events import ItemAdded, NoteAdded, OrderEvent, OrderOpened, OrderPlaced
from readside import order_view, projector
from readside.freshness import Freshness
from readside.order_document import OrderDocument, View, document
from readside.projection import Undigestible
from readside.projector import ORDER_VIEW, Step
from settings import Settings
from tests.conftest import run_api, run_projector
from tests.mail import new_order_id
from tests.test_eventlog import ABOUT, AT

OPENED = OrderOpened(customer_id="900", currency="USD")
BAGELS = ItemAdded(
    line_id="1", sku="1095275", title="BAGELS", quantity=2, unit_price=50, discount=10, tax=0
)


async def publish(pool: asyncpg.Pool, order_id: str, first: int, *events: OrderEvent) -> None:
    envelopes = [Envelope.of(e, version, AT, ABOUT) for version, e in enumerate(events, first)]
    async with pool.acquire() as connection:
        await log.append(connection, order_id, envelopes)


async def project_all(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        while await projector.step(connection, ORDER_VIEW) is not Step.CAUGHT_UP:
            pass


async def test_the_view_is_the_fold_of_the_stream(pool: asyncpg.Pool) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED, BAGELS)
    await project_all(pool)
    await publish(pool, order_id, 3, OrderPlaced(total=90))
    await project_all(pool)
    await assert_views_equal_folds(pool)
    row = await order_view.find(pool, order_id)
    assert row is not None
    shown = OrderDocument.model_validate_json(row.document)
    assert (shown.version, shown.status, shown.total, shown.placed_at) == (3, "placed", 90, AT)


async def test_the_view_keeps_the_lines_in_the_order_in_which_they_came(
    pool: asyncpg.Pool,
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    for version, line_id in enumerate(["zz", "b", "aaa"], start=2):
        await publish(pool, order_id, version, BAGELS.model_copy(update={"line_id": line_id}))
        await project_all(pool)
    row = await order_view.find(pool, order_id)
    assert row is not None
    shown = OrderDocument.model_validate_json(row.document)
    assert [line.line_id for line in shown.lines] == ["zz", "b", "aaa"]
    await assert_views_equal_folds(pool)


async def test_two_projectors_that_fight_and_die_count_every_event_once(
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
            async with run_projector(pool, dsn) as following:
                await asyncio.sleep(dice.random() / 5)
                following.cancel()

    await asyncio.gather(write(), project_and_die(), project_and_die())
    await project_all(pool)
    await assert_views_equal_folds(pool)


async def test_a_checkpoint_that_another_projector_has_moved_is_left_alone(
    pool: asyncpg.Pool,
) -> None:
    async with pool.acquire() as connection:
        ours = Checkpoint(1, 1)
        assert not await projector._move(connection, ORDER_VIEW.name, ours, Checkpoint(9, 9))
        row = await connection.fetchrow("SELECT transaction_id, position FROM projections")
        assert row is not None
        assert tuple(row) == (0, 0)


async def test_on_a_gap_the_projector_stops_and_says_where(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await publish(pool, order_id, 3, BAGELS)
    await assert_stops(pool, dsn, f"order {order_id}, version 3: expected version 2")
    assert await order_view.find(pool, order_id) is None, "a batch is digested whole or not at all"


async def test_a_stopped_projector_is_seen_on_readyz_with_the_place_where_it_stopped(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    settings = Settings(postgres_dsn=dsn)
    order_id = new_order_id()
    async with run_api(temporal.client, settings) as http:
        async with run_projector(pool, dsn):
            assert (await http.get("/readyz")).status_code == 200
        await publish(pool, order_id, 2, BAGELS)
        await assert_stops(pool, dsn, f"order {order_id}, version 2: expected version 1")
        seen = await http.get("/readyz")
    assert (seen.status_code, seen.json()["ready"]) == (503, False)
    assert seen.json()["projector"] == (
        f"stopped at order {order_id}, version 2: expected version 1"
    )
    assert (seen.json()["temporal"], seen.json()["postgres"]) == ("ok", "ok")


async def test_on_an_event_it_cannot_read_the_projector_stops_and_goes_on_once_it_can(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await pool.execute(
        "INSERT INTO order_events (order_id, version, type, schema_version, occurred_at, data,"
        " metadata) VALUES ($1, 2, 'order-teleported', 1, now(), '{}', $2)",
        order_id,
        ABOUT.model_dump(),
    )
    await assert_stops(pool, dsn, f"order {order_id}, version 2: order-teleported")

    with monkeypatch.context() as fixed:
        fixed.setattr(Envelope, "event", lambda self: BAGELS if self.version == 2 else OPENED)
        await project_all(pool)
    row = await order_view.find(pool, order_id)
    assert row is not None
    assert row.version == 2
    assert await pool.fetchval("SELECT stopped_by FROM projections") is None


async def test_a_reader_can_wait_for_a_version_and_is_told_if_it_does_not_come(
    pool: asyncpg.Pool, dsn: str
) -> None:
    order_id = new_order_id()
    freshness = Freshness(pool, dsn)
    async with freshness.listening(), run_projector(pool, dsn):
        waiting = asyncio.create_task(freshness.reach(order_id, 2, seconds=30))
        await publish(pool, order_id, 1, OPENED)
        assert await freshness.reach(order_id, 1, seconds=30)
        assert not waiting.done()
        await publish(pool, order_id, 2, BAGELS)
        assert await waiting
        assert not await freshness.reach(order_id, 3, seconds=0.05)
        assert freshness.position > 0
        assert freshness.silence_seconds < 3


async def assert_stops(pool: asyncpg.Pool, dsn: str, reason: str) -> None:
    with pytest.raises(Undigestible, match=reason):
        async with asyncio.timeout(30), run_projector(pool, dsn) as following:
            await following
    stopped_by = await pool.fetchval("SELECT stopped_by FROM projections")
    assert stopped_by.startswith(reason)


async def assert_views_equal_folds(pool: asyncpg.Pool) -> None:
    orders = await pool.fetch("SELECT DISTINCT order_id FROM order_events")
    assert await pool.fetchval("SELECT count(*) FROM order_view") == len(orders)
    for (order_id,) in orders:
        view = order_view.digested(View(order_id), await log.read_stream(pool, order_id))
        row = await order_view.find(pool, order_id)
        assert row is not None
        assert OrderDocument.model_validate_json(row.document) == document(view)
