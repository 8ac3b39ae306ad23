"""Statistics equal a count over all events, in any order of projection."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog.log import SLICES
from eventlog.postgres import Connection
from orders import events as e
from orders.events import OrderEvent
from orders.evolve import evolve
from orders.order import Order
from readside.engine import batches, generations, parking, rebuild
from readside.engine.checkpoints import ALL_SLICES
from readside.engine.projection import Projection, Streams
from readside.order_view import projection as order_view
from readside.order_view.status_counts import COUNT_SECONDS, StatusCounts
from readside.statistics import service_results
from settings import Settings
from tests.support.api_requests import problem
from tests.support.command_builders import new_order_id
from tests.support.counted_statistics import (
    NEW_YEAR,
    STATS,
    Happened,
    Lives,
    abandoned_of,
    assert_as_counted_by_hand,
    lead_of_all,
    leads_of,
    project_all,
    publish,
    publish_all,
    publish_more,
    removed_of,
    some_lives,
    stats_of,
)
from tests.support.servers import Running, run_api, run_projector

SEEDS = (0, 2, 3, 4, *range(6, 20))

# The model: counted by hand, event by event


# Events in any order of projection


async def project_some(dsn: str, projection: Projection, dice: random.Random) -> None:
    """Two concurrent processes project some batches of disjoint slices."""
    slices, cut = dice.sample(ALL_SLICES, SLICES), dice.randint(1, SLICES - 1)

    async def some_batches(of: Sequence[int]) -> None:
        async with generations.connected(dsn, projection) as connection:
            for _ in range(dice.randint(1, 6)):
                await batches.project_batch(connection, projection, of)

    await asyncio.gather(some_batches(slices[:cut]), some_batches(slices[cut:]))


def with_a_bug(projection: Projection, order_ids: set[str]) -> Projection:
    """A version of the projection that fails on some orders."""

    async def project(connection: Connection, streams: Streams) -> None:
        await projection.project(connection, streams)  # Its writes are rolled back.
        assert not order_ids & streams.keys(), "a bug"

    return replace(projection, project=project)


# Small and large batches and chunks; `make soak` has other sizes and orders, too.
@pytest.mark.parametrize("seed", [1, 5, *(pytest.param(s, marks=pytest.mark.soak) for s in SEEDS)])
async def test_statistics_equal_a_count_by_hand(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(batches, "BATCH_EVENTS_MAX", dice.choice([5, 40, 2_000]))
    monkeypatch.setattr(rebuild, "CHUNK_EVENTS", dice.choice([10, 10_000]))
    lives, published = some_lives(dice), Counter[str]()
    unlucky = set(dice.sample(sorted(lives), 3))
    while published.total() < sum(map(len, lives.values())):
        await publish_more(pool, lives, published)
        for projection in STATS:
            await project_some(dsn, projection, dice)
            if dice.random() < 0.3:
                await project_all(dsn, with_a_bug(projection, unlucky))
            if dice.random() < 0.15:
                await rebuild.rebuild(dsn, projection)
    for projection in STATS:
        await project_all(dsn, with_a_bug(projection, unlucky))
    await publish_all(pool, lives)  # A repeated publish changes nothing.
    await parking.request_retry(pool)
    for projection in STATS:
        async with generations.connected(dsn, projection) as connection:
            await parking.retry(connection, projection, ALL_SLICES)
        await project_all(dsn, projection)
    assert await parking.parked_orders(pool) == []
    await assert_as_counted_by_hand(pool, lives)
    for projection in STATS:
        await rebuild.rebuild(dsn, projection)
    await assert_as_counted_by_hand(pool, lives)


async def test_orders_are_counted_by_status_once_in_a_while(pool: asyncpg.Pool, dsn: str) -> None:
    lives = some_lives(random.Random(5))
    await publish_all(pool, lives)
    await project_all(dsn, order_view.PROJECTION)
    by_hand = Counter[str]()
    for life in lives.values():
        order = Order()
        for happened in life:
            order = evolve(order, happened.event)
        by_hand[order.status] += 1
    now = 0.0
    counts = StatusCounts(pool, lambda: now)
    counted_at, items = await counts.read()
    assert {one.status: one.orders for one in items if one.orders} == by_hand
    assert (items[0].status, len(items)) == ("draft", 9)
    opened = Happened(NEW_YEAR, e.OrderOpened(customer_id="900", currency="EUR"))
    await publish(pool, new_order_id(), [opened], 1)
    await project_all(dsn, order_view.PROJECTION)
    now = COUNT_SECONDS - 1
    assert await counts.read() == (counted_at, items)
    now = COUNT_SECONDS
    assert sum(one.orders for one in (await counts.read())[1]) == len(lives) + 1


# Through the API


@pytest.fixture
async def lives(pool: asyncpg.Pool) -> Lives:
    """Published, and not projected yet."""
    lives = some_lives(random.Random(7))
    await publish_all(pool, lives)
    return lives


@pytest.fixture
async def http(
    temporal: WorkflowEnvironment, dsn: str, lives: Lives
) -> AsyncIterator[httpx.AsyncClient]:
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http, run_projector(dsn):
        yield http


async def statistics(http: httpx.AsyncClient, name: str, **params: str | int) -> dict[str, Any]:
    response = await http.get(f"/v1/stats/{name}", params=params, headers={"Prefer": "wait=30"})
    assert response.status_code == 200, response.text
    assert int(response.headers["Projection-Position"]) > 0
    assert int(response.headers["Projection-Lag-Ms"]) >= 0
    shown: dict[str, Any] = response.json()
    return shown


async def test_statistics_wait_for_the_consistency_token(
    http: httpx.AsyncClient, pool: asyncpg.Pool, lives: Lives
) -> None:
    in_2026 = {"from": "2026-01-01", "until": "2027-01-01"}
    order_id = new_order_id()
    lives[order_id] = [Happened(NEW_YEAR, e.OrderOpened(customer_id="900", currency="EUR"))]
    await publish(pool, order_id, lives[order_id], 1)
    for_all = {**in_2026, "consistency_token": f"{order_id}@1"}

    orders = await statistics(http, "orders", **for_all)
    assert orders["items"] == stats_of(lives)
    orders = await statistics(http, "orders", **for_all, currency="EUR")
    assert [(day["day"], day["opened"]) for day in orders["items"]] == [("2026-01-01", 1)]
    orders = await statistics(http, "orders", **{**for_all, "until": "2026-01-03"})
    assert orders["items"] == [day for day in stats_of(lives) if day["day"] <= "2026-01-02"]

    by_sku = removed_of(lives)
    items = await statistics(http, "removed-items", **for_all)
    assert items["items"] == by_sku
    assert (await statistics(http, "removed-items", **for_all, limit=1))["items"] == by_sku[:1]
    last = by_sku[-1]
    assert (await statistics(http, "removed-items", **for_all, sku=last["sku"]))["items"] == [last]

    drafts = await statistics(http, "abandoned-drafts", **for_all, limit=2)
    by_day, idle = abandoned_of(lives)
    assert (drafts["items"], drafts["open"]) == (by_day, len(idle))
    longest = [(draft["order_id"], draft["last_event_at"]) for draft in drafts["longest_idle"]]
    assert longest == [(key, at.isoformat().replace("+00:00", "Z")) for key, at in idle[:2]]
    age = (datetime.now(UTC) - idle[0][1]).total_seconds()
    assert drafts["longest_idle"][0]["idle_seconds"] == pytest.approx(age, abs=60)

    leads = await statistics(http, "lead-times", **for_all)
    assert (leads["items"], leads["period"]) == (leads_of(lives), lead_of_all(lives))
    counted = (await http.get("/v1/stats/statuses")).json()
    assert sum(one["orders"] for one in counted["items"]) > 0


async def test_default_period_is_the_last_thirty_days(
    http: httpx.AsyncClient, pool: asyncpg.Pool
) -> None:
    now = datetime.now(UTC)
    days = [now - timedelta(days=ago) for ago in (29, 30)]
    opened = e.OrderOpened(customer_id="900", currency="CHF")
    for at in days:
        order_id = new_order_id()
        await publish(pool, order_id, [Happened(at, opened)], 1)
    recent = await statistics(http, "orders", currency="CHF", consistency_token=f"{order_id}@1")
    # Midnight may have passed since.
    assert [day["day"] for day in recent["items"]] in ([f"{days[0].date()}"], [])


@pytest.mark.parametrize("name", ["orders", "removed-items", "abandoned-drafts", "lead-times"])
@pytest.mark.parametrize(
    ("params", "parameter", "message"),
    [
        ({"from": "2026-01-02", "until": "2026-01-02"}, "from", "must be before 2026-01-02"),
        ({"from": "2025-01-01", "until": "2026-01-03"}, "from", "must be 2025-01-02 or later"),
        ({"from": "9999-12-31"}, "from", "must be before"),
        ({"until": "0001-01-01"}, "from", "must be before"),
        ({"until": "yesterday"}, "until", "RFC 3339"),
        ({"from": "2026-02-30"}, "from", "must be a date (RFC 3339)"),
    ],
)
async def test_invalid_periods_are_rejected(
    orderly: Running, name: str, params: dict[str, str], parameter: str, message: str
) -> None:
    response = await orderly.http.get(f"/v1/stats/{name}", params=params)
    (error,) = problem(response, 422, "malformed-request")["errors"]
    assert error["parameter"] == parameter
    assert message in error["detail"]


async def test_longest_and_earliest_periods_are_accepted(orderly: Running) -> None:
    for params in ({"from": "2025-01-02", "until": "2026-01-03"}, {"until": "0001-01-02"}):
        response = await orderly.http.get("/v1/stats/lead-times", params=params)
        assert (response.status_code, response.json()["items"]) == (200, [])
        assert response.json()["period"]["placed"] == 0


@pytest.mark.parametrize(
    ("path_and_query", "status", "parameter"),
    [
        ("orders?currency=usd", 422, "currency"),
        ("removed-items?limit=0", 422, "limit"),
        ("removed-items?sku=", 422, "sku"),
        ("abandoned-drafts?limit=101", 422, "limit"),
        ("lead-times?consistency_token=nonsense", 400, "consistency_token"),
    ],
)
async def test_invalid_parameters_are_named(
    orderly: Running, path_and_query: str, status: int, parameter: str
) -> None:
    response = await orderly.http.get(f"/v1/stats/{path_and_query}")
    assert response.status_code == status
    assert response.json()["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize(
    "projection",
    [one for one in STATS if one is not service_results.PROJECTION],  # It needs no first event.
    ids=lambda projection: projection.name,
)
async def test_order_without_its_first_event_is_parked_by_statistics(
    pool: asyncpg.Pool, dsn: str, projection: Projection
) -> None:
    wrong: dict[str, OrderEvent] = {
        "order_stats": e.OrderConfirmed(),
        "removed_items": e.ItemRemoved(line_id="1"),
        "abandoned_drafts": e.ItemRemoved(line_id="1"),
        "lead_times": e.ShipmentDispatched(shipment_id="1", lines=[]),
    }
    await publish(pool, new_order_id(), [Happened(NEW_YEAR, wrong[projection.name])], 2)
    await project_all(dsn, projection)
    (parked,) = await parking.parked_orders(pool)
    assert (parked.projection, parked.version) == (projection.name, 2)
