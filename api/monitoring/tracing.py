"""Tracing: one span per request, with its method, route and status."""

from __future__ import annotations

from opentelemetry.trace import SpanKind, StatusCode
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import telemetry
from api.context import method_of, route_of


class TracingMiddleware:
    """Continues the caller's trace, if the request has a traceparent.

    Attributes are those of OpenTelemetry's semantic conventions. URLs, headers and exception
    messages are left out: any of them may contain personal data.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = method_of(scope)
        with telemetry.TRACER.start_as_current_span(
            method,
            telemetry.continued(Request(scope).headers.get("traceparent")),
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "url.scheme": scope["scheme"],
                "network.protocol.version": scope["http_version"],
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def send_and_annotate(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.update_name(f"{method} {route_of(scope)}")
                    span.set_attribute("http.route", route_of(scope))
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_attribute("error.type", str(message["status"]))
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_and_annotate)
            except Exception as error:  # A bug: Starlette's outermost middleware responds.
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR)
                raise
