"""`/metrics` reports the read side and the requests served, without ids of orders or customers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from temporalio.testing import WorkflowEnvironment

from readside.engine import checkpoints, parking
from readside.engine.checkpoints import FRESHNESS_MS
from readside.registry import PROJECTIONS
from settings import Settings
from tests.support.alerts import OF_THE_SDK, OF_WORKFLOWS, all_alerts
from tests.support.api_requests import BASKET
from tests.support.command_builders import new_order_id
from tests.support.paths import ROOT
from tests.support.processes import UNREACHABLE_DSN
from tests.support.projections import BAGELS, OPENED, ORDER_VIEW, project_all, publish
from tests.support.servers import ApiClient, Running, run_api, run_projector
from tests.support.shop import MILK, Shop

NAMES = {projection.name for projection in PROJECTIONS}
REQUESTS = "orderly_http_request_duration_seconds_count"


@pytest.fixture
async def http(temporal: WorkflowEnvironment, dsn: str) -> AsyncIterator[ApiClient]:
    """The API alone, on a database without a projector."""
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        yield http


async def scrape(http: ApiClient) -> list[Sample]:
    response = await http.admin.get("/metrics")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(response.text))
    assert all(family.documentation for family in families)
    return [sample for family in families for sample in family.samples]


async def sample_value(http: ApiClient, name: str, **labels: str) -> float:
    """The value of the only sample with this name and at least these labels; 0 if there is none."""
    values = [
        sample.value
        for sample in await scrape(http)
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(values) <= 1
    return values[0] if values else 0


async def value_by_projection(http: ApiClient, name: str) -> dict[str, float]:
    name = f"orderly_projection_{name}"
    return {s.labels["projection"]: s.value for s in await scrape(http) if s.name == name}


async def until(http: ApiClient, name: str, holds: Callable[[float], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds(await sample_value(http, name)):
            await asyncio.sleep(0.05)


async def test_metrics_contain_every_projection(
    http: ApiClient, pool: asyncpg.Pool, dsn: str
) -> None:
    assert await value_by_projection(http, "lag_seconds") == dict.fromkeys(NAMES, 0)
    await publish(pool, new_order_id(), 1, OPENED, BAGELS)
    waiting = await value_by_projection(http, "lag_seconds")
    assert waiting.keys() == NAMES
    assert all(seconds > 0 for seconds in waiting.values())
    assert (await value_by_projection(http, "lag_seconds"))["order_view"] > waiting["order_view"]
    await project_all(dsn)
    projected = await value_by_projection(http, "lag_seconds")
    assert projected["order_view"] == 0
    assert projected["order_stats"] > 0
    async with run_projector(dsn), asyncio.timeout(60):
        while any((await value_by_projection(http, "lag_seconds")).values()):
            await asyncio.sleep(0.05)


async def test_freshness_is_a_histogram(http: ApiClient, pool: asyncpg.Pool, dsn: str) -> None:
    async def buckets() -> dict[str, float]:
        name = "orderly_projection_freshness_seconds_bucket"
        found = [sample for sample in await scrape(http) if sample.name == name]
        return {s.labels["le"]: s.value for s in found if s.labels["projection"] == ORDER_VIEW.name}

    bounds = [*(f"{ms / 1000}" for ms in FRESHNESS_MS), "+Inf"]
    assert await buckets() == dict.fromkeys(bounds, 0)
    for _ in range(3):
        await publish(pool, new_order_id(), 1, OPENED, BAGELS)
        await project_all(dsn)
    assert await buckets() == {**dict.fromkeys(bounds, 0), "+Inf": 6}, "the events are old"
    await pool.execute(
        "UPDATE projection_checkpoints SET freshness = '{1,2,0,0,0,0,0,0,0,0,0,0,0}'"
        " WHERE projection = $1 AND slice = 7",
        ORDER_VIEW.name,
    )
    seen = await buckets()
    assert (seen["0.005"], seen["0.01"], seen["60.0"], seen["+Inf"]) == (1, 3, 3, 9)


async def test_metrics_show_parked_orders_and_stopped_projections(
    http: ApiClient, pool: asyncpg.Pool, dsn: str
) -> None:
    assert await value_by_projection(http, "parked_orders") == dict.fromkeys(NAMES, 0)
    assert await value_by_projection(http, "stopped") == dict.fromkeys(NAMES, 0)
    for _ in range(2):
        await publish(pool, new_order_id(), 2, BAGELS)
    await project_all(dsn)
    await checkpoints.record_stop(dsn, "lead_times", "it cannot go on")
    assert len(await parking.parked_orders(pool)) == 2
    nothing = dict.fromkeys(NAMES, 0)
    assert await value_by_projection(http, "parked_orders") == {**nothing, ORDER_VIEW.name: 2}
    assert await value_by_projection(http, "stopped") == {**nothing, "lead_times": 1}


async def test_metrics_count_open_orders_and_what_happened_today(
    http: ApiClient, pool: asyncpg.Pool, dsn: str
) -> None:
    today = datetime.now(UTC).date()
    for days, orders, amount in ((-1, 5, 900), (0, 2, 700), (1, 2, 700)):  # It may be midnight.
        await pool.execute(
            "INSERT INTO order_stats.daily VALUES ($1, 'USD', 'order-placed', 3, $2, $3)",
            *(today + timedelta(days=days), orders, amount),
        )
    await publish(pool, new_order_id(), 1, OPENED, BAGELS)
    await project_all(dsn)

    assert await sample_value(http, "orderly_open_orders", status="draft") == 1
    assert await sample_value(http, "orderly_open_orders", status="confirmed") == 0
    usd = {"currency": "USD"}
    assert await sample_value(http, "orderly_orders_total", stage="placed", **usd) == 2
    assert await sample_value(http, "orderly_orders_total", stage="cancelled", **usd) == 0
    placed = await sample_value(http, "orderly_money_minor_units_total", kind="placed", **usd)
    assert placed == 700


async def test_metrics_show_the_age_of_the_watermark(http: ApiClient, pool: asyncpg.Pool) -> None:
    age = "orderly_watermark_age_seconds"
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_current_xact_id()")
        await until(http, age, lambda seconds: seconds > 1)
    await until(http, age, lambda seconds: seconds < 1)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1")
        began = await connection.fetchval("SELECT now()")
        while (await pool.fetchval("SELECT clock_timestamp()") - began).total_seconds() < 1:
            await asyncio.sleep(0.05)
        assert await sample_value(http, age) < 1, "a reading transaction holds back no projection"


async def test_requests_are_counted_by_route_without_ids(orderly: Running) -> None:
    http, order_id = orderly.http, new_order_id()

    async def counts() -> list[float]:
        order = "/v1/orders/{order_id}"
        return [
            await sample_value(http, REQUESTS, route=order, method="GET", status="404"),
            await sample_value(http, REQUESTS, route=order, method="other", status="405"),
            await sample_value(http, REQUESTS, route="none", method="GET", status="404"),
            await sample_value(http, REQUESTS, route="/v1/orders", method="POST", status="422"),
        ]

    before = await counts()
    await http.get(f"/v1/orders/{order_id}")
    await http.request("PROPFIND", f"/v1/orders/{order_id}")
    await http.get(f"/v2/{order_id}")
    await http.post("/v1/orders", json={"customer_id": order_id, "currency": "none"})
    assert await counts() == [count + 1 for count in before]
    assert order_id not in (await http.admin.get("/metrics")).text


async def test_metrics_respond_without_postgres(temporal: WorkflowEnvironment) -> None:
    async with run_api(temporal.client, Settings(postgres_dsn=UNREACHABLE_DSN)) as http:
        response = await http.get("/v1/stats/orders")
        assert (response.status_code, response.json()["code"]) == (503, "storage-unavailable")
        assert await sample_value(http, "orderly_postgres_up") == 0
        failed = {"route": "/v1/stats/orders", "status": "503"}
        assert await sample_value(http, REQUESTS, **failed) >= 1
        assert await value_by_projection(http, "stopped") == {}


async def test_every_metric_of_an_alert_or_of_the_docs_exists(orderly: Running) -> None:
    """This process is API, worker and projector at once."""
    text = (await orderly.http.admin.get("/metrics")).text
    families = set(re.findall(r"^# TYPE (orderly_\w+) ", text, re.MULTILINE))
    page = set(re.findall(r"`(orderly_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    assert families - page == set(), "docs/metrics.md names each metric"
    assert page - families - OF_WORKFLOWS == set()

    histograms = re.findall(r"^# TYPE (\w+) histogram", text, re.MULTILINE)
    known = families | OF_THE_SDK | {f"{name}_count" for name in histograms}
    unknown = {alert.name: alert.metrics - known for alert in all_alerts()}
    assert {name: metrics for name, metrics in unknown.items() if metrics} == {}


async def test_commands_and_rejections_are_counted(orderly: Running) -> None:
    http = orderly.http

    async def counts() -> list[float]:
        commands, note = "orderly_commands_total", {"type": "add-note"}
        return [
            await sample_value(http, commands, type="several", outcome="accepted"),
            await sample_value(http, commands, **note, outcome="accepted"),
            await sample_value(http, commands, **note, outcome="queued"),
            await sample_value(http, commands, type="release-order", outcome="rejected"),
            await sample_value(http, "orderly_rejections_total", code="not-allowed-now"),
        ]

    before = await counts()
    path = (await http.post("/v1/orders", json=BASKET)).headers["Location"]
    note = f"{path}/commands/add-note"
    assert (await http.post(note, json={"text": "hi"})).status_code == 200
    later = {"Prefer": "respond-async"}
    assert (await http.post(note, json={"text": "ho"}, headers=later)).status_code == 202
    assert (await http.post(f"{path}/commands/release-order", json={})).status_code == 409
    assert await counts() == [count + 1 for count in before]


async def test_workers_without_versions_are_those_of_orders_without_versions(
    orderly: Running,
) -> None:
    async def number(what: str) -> float:
        return await sample_value(orderly.http, f"orderly_version_{what}", version="unversioned")

    await orderly.http.post("/v1/orders", json=BASKET)
    async with asyncio.timeout(60):
        while not (await number("orders") and await number("workers")):
            await asyncio.sleep(0.05)


async def test_steps_and_callbacks_are_counted(shop: Shop, orderly: Running) -> None:
    """Worker and API are in this process, and share its metrics."""

    async def count(name: str, **labels: str) -> float:
        return await sample_value(orderly.http, name, **labels)

    async def counts() -> list[float]:
        steps, callbacks = "orderly_step_duration_seconds_count", "orderly_callbacks_total"
        return [
            await count(steps, service="payments", outcome="done"),
            await count(steps, service="payments", outcome="service-failed"),
            await count(callbacks, service="payments", outcome="refused"),
        ]

    before = await counts()
    order = await shop.place_order(MILK, payment_method="pm_down")
    await order.wait_for(needs_attention=1)
    await (await shop.place_order(MILK)).wait_until_settled()
    assert (await orderly.http.post("/v1/callbacks/payments", json={})).status_code == 401
    assert all(now > then for now, then in zip(await counts(), before, strict=True))
