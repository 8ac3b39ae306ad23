"""OpenTelemetry tracing across the processes, if the environment asks for it.

Every command batch carries a `traceparent`, which goes into the metadata of its events. Work for
one request is a span of that request's trace; work for several (publishing, projecting) is a root
span that links to each of them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACER = trace.get_tracer("orderly")
_PROPAGATOR = TraceContextTextMapPropagator()


def start_tracing(service: str, environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Exports spans by OTLP over HTTP if the standard OTEL_* variables ask for it.

    Returns the function that flushes and ends it. Without those variables, nothing is imported.
    """
    if not _is_wanted(environment):
        return lambda: None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = environment.get("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def is_tracing() -> bool:
    """Whether spans are exported."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def traceparent(incoming: str | None = None) -> str:
    """The traceparent to pass on: of the current span, else the caller's, else a new one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    if "traceparent" in carrier:
        return carrier["traceparent"]
    if incoming and trace_id(incoming):
        return incoming
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_id(traceparent: str) -> str | None:
    """The trace id of a `traceparent`, in hexadecimal; None if it is invalid."""
    context = _span_context(traceparent)
    return trace.format_trace_id(context.trace_id) if context.is_valid else None


def continued(traceparent: str | None) -> Context:
    """The context in which a new span is a child of the span of `traceparent`."""
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {})


def span_for_many(
    name: str, kind: trace.SpanKind, traceparents: Iterable[str | None]
) -> AbstractContextManager[Any]:
    """A root span for the work of several requests, with a link to the span of each."""
    if not is_tracing():
        return nullcontext()
    contexts = [_span_context(t) for t in dict.fromkeys(traceparents) if t]
    links = [trace.Link(context) for context in contexts if context.is_valid]
    return TRACER.start_as_current_span(name, Context(), kind=kind, links=links)


def _span_context(traceparent: str) -> trace.SpanContext:
    return trace.get_current_span(continued(traceparent)).get_span_context()


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    if exporter:
        return exporter == "otlp"
    return any(
        environment.get(name)
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    )
