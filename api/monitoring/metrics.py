"""What this process has served and how the read side gets on, in the words of Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate

import asyncpg
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import Scope

from api.context import method_of, route_of
from api.dependencies import PoolDep
from eventlog import log
from eventlog.postgres import UNAVAILABLE
from readside.engine.checkpoints import FRESHNESS_MS
from readside.engine.monitoring import ProjectionMetrics, read_metrics
from readside.registry import PROJECTIONS

router = APIRouter(tags=["Operations"])

READ_SECONDS_MAX = 5

_SERVED = CollectorRegistry()
_DURATIONS = Histogram(
    "orderly_http_request_duration_seconds",
    "From a request's arrival to the head of its answer.",
    ["route", "method", "status"],
    registry=_SERVED,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


def served(scope: Scope, status: int, seconds: float) -> None:
    """Counts an answered request."""
    _durations(route_of(scope), method_of(scope), status).observe(seconds)


@cache  # Finding them takes longer than counting does.
def _durations(route: str, method: str, status: int) -> Histogram:
    return _DURATIONS.labels(route, method, str(status))


class _Read(Collector):
    """What was read from the database for one scrape."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@router.get(
    "/metrics",
    summary="For Prometheus",
    response_class=PlainTextResponse,
    response_description="In Prometheus' text format",
)
async def get_metrics(pool: PoolDep) -> Response:
    """Requests of this process, and the read side's state: the same from every process.

    It answers without Postgres, too; then `orderly_postgres_up` is 0, and the rest is missing.
    """
    registry = CollectorRegistry()
    registry.register(_Read(await _read(pool)))
    body = generate_latest(_SERVED) + generate_latest(registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _read(pool: asyncpg.Pool) -> list[Metric]:
    up = GaugeMetricFamily("orderly_postgres_up", "Whether the log and its projections were read.")
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            held_back = await log.watermark_age_seconds(pool)
            metrics = await read_metrics(pool, [projection.name for projection in PROJECTIONS])
    except (*UNAVAILABLE, asyncpg.UndefinedTableError):
        up.add_metric([], 0)
        return [up]
    up.add_metric([], 1)
    watermark = GaugeMetricFamily(
        "orderly_watermark_age_seconds",
        "Age of the oldest writing transaction: no projection sees what began after it."
        " Alert above 60.",
        held_back,
    )
    return [up, watermark, _freshness(metrics), *_gauges(metrics)]


def _freshness(metrics: Sequence[ProjectionMetrics]) -> Metric:
    family = HistogramMetricFamily(
        "orderly_projection_freshness_seconds",
        "How late events became visible, from the order's decision on.",
        labels=["projection"],
    )
    bounds = [*(str(ms / 1000) for ms in FRESHNESS_MS), "+Inf"]
    for one in metrics:
        counts = one.freshness or [0] * len(bounds)
        family.add_metric(
            [one.projection], list(zip(bounds, accumulate(counts), strict=True)), None
        )
    return family


def _gauges(metrics: Sequence[ProjectionMetrics]) -> list[Metric]:
    lag, parked, stopped = (
        GaugeMetricFamily(f"orderly_projection_{name}", words, labels=["projection"])
        for name, words in {
            "lag_seconds": "How long the oldest event that it has not come to waits. Alert above"
            " 30.",
            "parked_orders": "Orders that it cannot digest; `orderly parked` says why. Alert above"
            " 0.",
            "stopped": "1 if it cannot go on, and a person must see to it. Alert on it.",
        }.items()
    )
    for one in metrics:
        lag.add_metric([one.projection], one.lag_seconds)
        parked.add_metric([one.projection], one.parked_orders)
        stopped.add_metric([one.projection], one.is_stopped)
    return [lag, parked, stopped]
