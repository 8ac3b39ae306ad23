"""Metrics of the requests that this process has served."""

from __future__ import annotations

from functools import cache
from time import perf_counter

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import telemetry
from api.context import method_of, route_of

_DURATIONS = Histogram(
    "orderly_http_request_duration_seconds",
    "Time from a request's arrival to the headers of its response.",
    ["route", "method", "status"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


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
    duration = _durations(route_of(scope), method_of(scope), status)
    duration.observe(seconds, telemetry.exemplar())


@cache  # Looking the labels up takes longer than counting.
def _durations(route: str, method: str, status: int) -> Histogram:
    return _DURATIONS.labels(route, method, str(status))
