"""Metrics for Prometheus: the requests of this process, and the state of the service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from time import perf_counter

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import method_of, route_of
from api.dependencies import ServicesDep
from api.monitoring.state_metrics import read_state
from api.problems.handlers import MALFORMED
from api.problems.strict_route import StrictRoute
from privacy.plaintext import UNREADABLE_ADDRESSES

router = APIRouter(tags=["Operations"], responses=MALFORMED, route_class=StrictRoute)

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
    """The metrics that one scrape has read."""

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
    registry.register(_StateCollector(await read_state(services)))
    body = generate_latest(_PROCESS_METRICS) + generate_latest(registry)
    return Response(body, media_type=CONTENT_TYPE_LATEST)
