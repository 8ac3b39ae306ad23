"""An order as of a version or a time is the fold of its events until then."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog import log
from orders.evolve import fold
from readside.order_view.view import OrderView
from readside.order_view.waiting import since_after
from settings import Settings
from tests.support.api_requests import opened, problem, shown
from tests.support.command_builders import new_order_id
from tests.support.personal_data import ADA, ERASED, erase, new_customer, whole
from tests.support.projections import OPENED, order_as_shown, publish, publish_unreadable
from tests.support.servers import Running, run_api
from tests.support.shop import MILK, Shop


async def as_of(http: httpx.AsyncClient, path: str, **moment: Any) -> dict[str, Any]:
    response = await http.get(path, params=moment)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    assert response.headers["ETag"] == f'"{document["version"]}"'
    return document


async def test_order_as_of_a_version_is_the_fold_up_to_it(shop: Shop, orderly: Running) -> None:
    sale = await shop.place_order(MILK)
    await sale.ship()
    await sale.deliver()
    now = await sale.document()
    stream = await log.read_stream(orderly.pool, sale.order_id)
    assert (len(stream), now["version"] > 8) == (now["version"], True)

    since: Mapping[str, datetime] = {}
    for event in stream:
        past = await as_of(shop.http, sale.path, version=event.version)
        order = fold(e.event() for e in stream[: event.version])
        since = since_after(since, order, event.occurred_at)
        placed = [e.occurred_at for e in stream[: event.version] if e.type == "order-placed"]
        view = OrderView(
            sale.order_id,
            order,
            opened_at=stream[0].occurred_at,
            placed_at=placed[0] if placed else None,
            updated_at=event.occurred_at,
            since=since,
        )
        assert past == order_as_shown(view)
    assert past == now


async def test_order_as_of_a_time_contains_the_events_until_then(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http)
    await http.post(f"{path}/commands/add-note", json={"text": "ring twice"})
    await http.post(f"{path}/commands/cancel-order")
    await shown(http, path, 5)
    history = (await http.get(f"{path}/history")).json()["items"]
    noted, cancelled = (datetime.fromisoformat(item["occurred_at"]) for item in history[3:])

    assert (await as_of(http, path, at=noted.isoformat()))["version"] == 4
    just_before = noted - timedelta(microseconds=1)
    assert (await as_of(http, path, at=just_before.isoformat()))["version"] == 3
    elsewhere = cancelled.isoformat().replace("+00:00", "Z")
    assert (await as_of(http, path, at=elsewhere))["status"] == "cancelled"
    assert (await as_of(http, path, at="2999-01-01T00:00:00+02:00"))["version"] == 5


async def test_time_before_the_opening_names_the_time_of_the_opening(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http)
    opened_at = (await shown(http, path, 3))["opened_at"]
    early = await http.get(path, params={"at": "2017-01-01T00:00:00Z"})
    detail = problem(early, 404, "not-open-yet")["detail"]
    assert opened_at.rstrip("Z") in detail


async def test_version_beyond_the_last_names_the_last(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http)
    await shown(http, path, 3)
    beyond = problem(await http.get(path, params={"version": 4}), 404, "unknown-version")
    assert beyond["current_version"] == 3
    assert "at version 3" in beyond["detail"]


async def test_read_waits_for_a_version_that_is_not_published_yet(
    http: httpx.AsyncClient,
) -> None:
    path = await opened(http)
    for version in range(4, 9):
        response = (await http.post(f"{path}/commands/add-note", json={"text": "x"})).json()
        token = response["consistency_token"]
        past = await as_of(http, path, version=version, consistency_token=token)
        assert past["version"] == version
        past = await as_of(http, path, at="2999-01-01T00:00:00Z", min_version=version)
        assert past["version"] == version
    late = await http.get(
        path, params={"version": 3, "min_version": 99}, headers={"Prefer": "wait=0"}
    )
    problem(late, 503, "projection-behind")


@pytest.mark.parametrize("moment", [{"version": 2}, {"at": "2999-01-01T00:00:00Z"}])
async def test_newer_event_is_a_problem_of_its_own(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, dsn: str, moment: dict[str, Any]
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await publish_unreadable(pool, order_id, 2)
    async with run_api(temporal.client, Settings(postgres_dsn=dsn, task_queue="unused")) as http:
        path = f"/v1/orders/{order_id}"
        response = await http.get(path, params=moment)
        problem(response, 503, "event-unreadable")
        assert response.headers["Retry-After"] == "60"
        assert (await as_of(http, path, version=1))["version"] == 1


@pytest.mark.parametrize("moment", [{"version": 1}, {"at": "2999-01-01T00:00:00Z"}])
async def test_unknown_order_has_no_past(http: httpx.AsyncClient, moment: dict[str, Any]) -> None:
    problem(await http.get(f"/v1/orders/{new_order_id()}", params=moment), 404, "unknown-order")


@pytest.mark.parametrize(
    ("moment", "parameters"),
    [
        ({"version": 2, "at": "2999-01-01T00:00:00Z"}, {"version", "at"}),
        ({"version": 0}, {"version"}),
        ({"version": -1}, {"version"}),
        ({"version": 2**31}, {"version"}),
        ({"version": "last"}, {"version"}),
        ({"at": "yesterday"}, {"at"}),
        ({"at": "1500000000"}, {"at"}),
        ({"at": "2017-01-01"}, {"at"}),
        ({"at": "2017-01-01T11:53:26"}, {"at"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
async def test_invalid_version_or_time_is_named(
    http: httpx.AsyncClient, moment: dict[str, Any], parameters: set[str]
) -> None:
    path = await opened(http)
    rejected = problem(await http.get(path, params=moment), 422, "malformed-request")
    assert {error["parameter"] for error in rejected["errors"]} == parameters


async def test_past_version_is_cacheable_without_personal_data(
    http: httpx.AsyncClient,
) -> None:
    customer = new_customer()
    path = await opened(http, customer_id=customer, shipping_address=ADA)
    await shown(http, path, 4)
    without = await http.get(path, params={"version": 3})
    assert "immutable" in without.headers["Cache-Control"]
    known = {"If-None-Match": without.headers["ETag"]}
    assert (await http.get(path, params={"version": 3}, headers=known)).status_code == 304

    with_it = await http.get(path, params={"version": 4})
    assert with_it.json()["shipping_address"] == whole(ADA)
    assert with_it.headers["Cache-Control"] == "no-store"
    await erase(http, customer)
    known = {"If-None-Match": with_it.headers["ETag"]}
    erased = await http.get(path, params={"version": 4}, headers=known)
    assert (erased.status_code, erased.json()["shipping_address"]) == (200, ERASED)
    now = await http.get(path, params={"at": "2999-01-01T00:00:00Z"})
    assert (now.json()["shipping_address"], now.headers["Cache-Control"]) == (ERASED, "no-store")
