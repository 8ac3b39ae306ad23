"""Metrics for Prometheus: the requests of this process, and the state of the read side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from time import perf_counter

import asyncpg
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.service import RPCError

from api.context import method_of, route_of
from api.dependencies import Services, ServicesDep
from api.personal_data import UNREADABLE_ADDRESSES
from api.problems.handlers import MALFORMED
from api.problems.strict_route import StrictRoute
from eventlog import log
from eventlog.postgres import UNAVAILABLE
from readside.engine.checkpoints import FRESHNESS_MS
from readside.engine.monitoring import ProjectionMetrics, read_metrics
from readside.order_view import orphans
from readside.order_view.orphans import OrphanMetrics
from readside.registry import PROJECTIONS
from workflows.unpublished import find_unpublished

router = APIRouter(tags=["Operations"], responses=MALFORMED, route_class=StrictRoute)

QUERY_SECONDS_MAX = 5

_PROCESS_METRICS = CollectorRegistry()
_DURATIONS = Histogram(
    "orderly_http_request_duration_seconds",
    "Time from a request's arrival to the headers of its response.",
    ["route", "method", "status"],
    registry=_PROCESS_METRICS,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_PROCESS_METRICS.register(UNREADABLE_ADDRESSES)


class MetricsMiddleware:
    """Counts responses, and measures the time to their headers: a stream may last for hours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at, has_started = perf_counter(), False

        async def record_and_send(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                record_request(scope, message["status"], perf_counter() - started_at)
                has_started = True
            await send(message)

        try:
            await self._app(scope, receive, record_and_send)
        except Exception:
            if not has_started:  # A bug: Starlette's outermost middleware responds with a 500.
                record_request(scope, 500, perf_counter() - started_at)
            raise


def record_request(scope: Scope, status: int, seconds: float) -> None:
    """Counts a response."""
    _durations(route_of(scope), method_of(scope), status).observe(seconds)


@cache  # Looking the labels up takes longer than counting.
def _durations(route: str, method: str, status: int) -> Histogram:
    return _DURATIONS.labels(route, method, str(status))


class _StateCollector(Collector):
    """The metrics that one scrape has read from the database and from Temporal."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@router.get(
    "/metrics",
    summary="Get metrics",
    response_class=PlainTextResponse,
    response_description="Metrics in the Prometheus text format",
)
async def get_metrics(services: ServicesDep) -> Response:
    """Requests of this process, and the state of the service, which is the same in every process.

    Without Postgres, `orderly_postgres_up` is 0 and the read side's metrics are missing; without
    Temporal, `orderly_temporal_up` is 0, and those of unpublished orders are.
    """
    registry = CollectorRegistry()
    read = await asyncio.gather(_database_metrics(services.pool), _temporal_metrics(services))
    registry.register(_StateCollector([family for families in read for family in families]))
    body = generate_latest(_PROCESS_METRICS) + generate_latest(registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _database_metrics(pool: asyncpg.Pool) -> list[Metric]:
    up = GaugeMetricFamily("orderly_postgres_up", "Whether the log and its projections were read.")
    try:
        async with asyncio.timeout(QUERY_SECONDS_MAX):
            watermark_age = await log.watermark_age_seconds(pool)
            metrics = await read_metrics(pool, [projection.name for projection in PROJECTIONS])
            orphaned = await orphans.read_metrics(pool)
    except (*UNAVAILABLE, asyncpg.UndefinedTableError):
        up.add_metric([], 0)
        return [up]
    up.add_metric([], 1)
    watermark = GaugeMetricFamily(
        "orderly_watermark_age_seconds",
        "Age of the oldest writing transaction: no projection sees events that began after it."
        " Alert above 60.",
        watermark_age,
    )
    return [up, watermark, _freshness(metrics), *_gauges(metrics), *_orphans(orphaned)]


async def _temporal_metrics(services: Services) -> list[Metric]:
    up = GaugeMetricFamily("orderly_temporal_up", "Whether Temporal could be queried.")
    try:
        async with asyncio.timeout(QUERY_SECONDS_MAX):
            found = await find_unpublished(services.client, services.gateway.task_queue)
    except (RPCError, TimeoutError):
        up.add_metric([], 0)
        return [up]
    up.add_metric([], 1)
    orders = GaugeMetricFamily(
        "orderly_unpublished_orders",
        "Orders that have acknowledged what the log does not have, for some ten seconds."
        " Alert above 0.",
        found.orders,
    )
    age = GaugeMetricFamily(
        "orderly_unpublished_age_seconds",
        "For how long the oldest of them has failed to publish.",
        found.age_seconds,
    )
    return [up, orders, age]


def _freshness(metrics: Sequence[ProjectionMetrics]) -> Metric:
    family = HistogramMetricFamily(
        "orderly_projection_freshness_seconds",
        "Time from an order's decision until the projection shows its events.",
        labels=["projection"],
    )
    bounds = [*(str(ms / 1000) for ms in FRESHNESS_MS), "+Inf"]
    for projection in metrics:
        counts = projection.freshness or [0] * len(bounds)
        buckets = list(zip(bounds, accumulate(counts), strict=True))
        family.add_metric([projection.projection], buckets, None)
    return family


def _gauges(metrics: Sequence[ProjectionMetrics]) -> list[Metric]:
    lag, parked, stopped = (
        GaugeMetricFamily(f"orderly_projection_{name}", help_text, labels=["projection"])
        for name, help_text in {
            "lag_seconds": "Age of the oldest event that is not projected yet, also of one that an"
            " older transaction holds back. Alert above 30.",
            "parked_orders": "Orders that the projection failed on; `orderly projections parked`"
            " lists them. Alert above 0.",
            "stopped": "1 if the projection has stopped until a person restarts it. Alert on it.",
        }.items()
    )
    for projection in metrics:
        lag.add_metric([projection.projection], projection.lag_seconds)
        parked.add_metric([projection.projection], projection.parked_orders)
        stopped.add_metric([projection.projection], projection.is_stopped)
    return [lag, parked, stopped]


def _orphans(metrics: OrphanMetrics) -> list[Metric]:
    orders = GaugeMetricFamily(
        "orderly_orphaned_orders",
        "Orders that have not ended and have no running workflow: `orderly resume` continues them."
        " Alert above 0.",
        metrics.orders,
    )
    age = GaugeMetricFamily(
        "orderly_orphan_check_age_seconds",
        "Time since the workers last completed a search for orphaned orders. Alert above 3600.",
    )
    if metrics.age_seconds is not None:
        age.add_metric([], metrics.age_seconds)
    return [orders, age]
