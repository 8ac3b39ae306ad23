"""The state of the service as metrics, read at each scrape from Postgres and Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import accumulate

import asyncpg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from admin.readiness import OK
from api.dependencies import Services
from api.monitoring.business_metrics import read_business
from api.monitoring.readiness import UNKNOWN, ServiceState, read_state
from api.monitoring.relay_metrics import read_relays
from api.monitoring.webhook_metrics import read_webhooks
from background import within
from eventlog import log
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE
from readside.engine.checkpoints import FRESHNESS_MS
from readside.engine.monitoring import ProjectionMetrics, read_metrics
from readside.order_view import orphans
from readside.order_view.orphans import OrphanMetrics
from readside.registry import PROJECTIONS
from workflows.unpublished import Unpublished
from workflows.versions import VersionWatch

QUERY_SECONDS_MAX = 5


async def read_state_metrics(services: Services) -> list[Metric]:
    """What /readyz says, as numbers, and what only the database says; the same in each process.

    Without Postgres, `orderly_postgres_up` is 0 and the read side's metrics are missing; without
    Temporal, `orderly_temporal_up` is 0, and those of unpublished orders are.
    """
    state, database = await asyncio.gather(read_state(services), _database_metrics(services.pool))
    return [*_state_metrics(services, state), *database]


def _state_metrics(services: Services, state: ServiceState) -> list[Metric]:
    present = services.workers.present()
    workers = GaugeMetricFamily(
        "orderly_workers",
        "Workers that were heard of in the last ten seconds. Alert at 0.",
    )
    if present is not None:
        workers.add_metric([], present)
    dropped = CounterMetricFamily(
        "orderly_dropped_intents_total",
        "Rejections that this process could not keep in the intent journal.",
        services.gateway.journal.dropped,
    )
    watched = _versions(services.versions)
    return [*_readiness(state), workers, dropped, *watched, *_unpublished(state.unpublished)]


def _versions(watch: VersionWatch) -> list[Metric]:
    orders = GaugeMetricFamily(
        "orderly_version_orders", "Running orders, by version of the workers.", labels=["version"]
    )
    workers = GaugeMetricFamily(
        "orderly_version_workers",
        "Workers that were heard of, by version. Alert at 0 where orderly_version_orders is above.",
        labels=["version"],
    )
    for version in watch.versions or ():
        orders.add_metric([version.name], version.orders)
        if version.workers is not None:
            workers.add_metric([version.name], version.workers)
    failing = GaugeMetricFamily(
        "orderly_failing_orders",
        "Orders whose workflow tasks fail; `orderly stuck` says why. Alert above 0.",
    )
    if watch.failing_orders is not None:
        failing.add_metric([], watch.failing_orders)
    return [orders, workers, failing]


def _readiness(state: ServiceState) -> list[Metric]:
    readiness = state.readiness()
    ready = GaugeMetricFamily(
        "orderly_ready",
        "Whether this process can serve commands, and whether it can serve reads. Alert at 0.",
        labels=["what"],
    )
    for what in readiness.serves:
        ready.add_metric([what], readiness.is_ready(what))
    ok = GaugeMetricFamily(
        "orderly_dependency_ok",
        "Whether a server, a projection or an external service is ok; `orderly status` says what is"
        " wrong, and what to do. Alert at 0.",
        labels=["dependency"],
    )
    for name, words in state.by_dependency.items():
        if words != UNKNOWN:
            ok.add_metric([name], words == OK)
    waiting = GaugeMetricFamily(
        "orderly_waiting_orders",
        "Orders that wait for an external service, because a step is stuck or late. Alert above 0.",
        labels=["service", "reason"],
    )
    for service, orders in (state.waiting_orders or {}).items():
        waiting.add_metric([service, "stuck"], orders.stuck)
        waiting.add_metric([service, "late"], orders.late)
    return [ready, ok, waiting]


async def _database_metrics(pool: asyncpg.Pool) -> list[Metric]:
    up = GaugeMetricFamily("orderly_postgres_up", "Whether the log and its projections were read.")
    try:
        families = await within(QUERY_SECONDS_MAX, _read_database(pool))
    except (*UNAVAILABLE, *OTHER_TABLES):
        up.add_metric([], 0)
        return [up]
    up.add_metric([], 1)
    return [up, *families]


async def _read_database(pool: asyncpg.Pool) -> list[Metric]:
    watermark = GaugeMetricFamily(
        "orderly_watermark_age_seconds",
        "Age of the oldest writing transaction: no projection sees events that began after it."
        " Alert above 60.",
        await log.watermark_age_seconds(pool),
    )
    metrics = await read_metrics(pool, [projection.name for projection in PROJECTIONS])
    orphaned = _orphans(await orphans.read_metrics(pool))
    outbound = [*await read_webhooks(pool), *await read_relays(pool)]
    business = await read_business(pool)
    return [watermark, _freshness(metrics), *_gauges(metrics), *orphaned, *outbound, *business]


def _unpublished(found: Unpublished | None) -> list[Metric]:
    up = GaugeMetricFamily(
        "orderly_temporal_up", "Whether Temporal could be queried.", found is not None
    )
    if found is None:
        return [up]
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
