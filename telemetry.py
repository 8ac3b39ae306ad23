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
from importlib.metadata import version
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

FLUSH_SECONDS_MAX = 3.0  # The SDK would try for half a minute, longer than a process may stop.
TRACER = trace.get_tracer("orderly")
_PROPAGATOR = TraceContextTextMapPropagator()


def start_tracing(service: str, environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Exports spans by OTLP over HTTP if the standard OTEL_* variables ask for it.

    Returns the function that flushes and ends it. Without those variables, nothing is imported.
    Raises SettingsError for a protocol that is not supported.
    """
    if not _is_wanted(environment):
        return lambda: None
    provider = provider_for(service, environment)
    trace.set_tracer_provider(provider)
    return lambda: flush(provider.shutdown)


def flush(shut_down: Callable[[], None], seconds_max: float = FLUSH_SECONDS_MAX) -> None:
    """Sends what is left; a collector that does not answer is not waited for."""
    flushing = Thread(target=shut_down, daemon=True)
    flushing.start()
    flushing.join(seconds_max)


def provider_for(service: str, environment: Mapping[str, str]) -> TracerProvider:
    """Exports spans of a service; the sampler is that of OTEL_TRACES_SAMPLER.

    If no collector answers, spans are kept up to OTEL_BSP_MAX_QUEUE_SIZE, and then dropped.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _check_protocol(environment)
    own = {
        "service.namespace": "orderly",
        "service.name": service,
        "service.version": version("orderly"),
        "service.instance.id": str(uuid4()),
    }
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
    resource = Resource.create(own).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _check_protocol(environment: Mapping[str, str]) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if (protocol := environment.get(name)) and protocol != "http/protobuf":
            from settings import SettingsError

            raise SettingsError(
                f"{name} must be http/protobuf, not {protocol!r}: name the collector's port for"
                " OTLP over HTTP, usually 4318."
            )
        if protocol:
            return


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
    name: str,
    kind: trace.SpanKind,
    traceparents: Iterable[str | None],
    attributes: Mapping[str, str | int],
) -> AbstractContextManager[Any]:
    """A root span for the work of several requests, with a link to the span of each."""
    if not is_tracing():
        return nullcontext()
    contexts = [_span_context(t) for t in dict.fromkeys(traceparents) if t]
    links = [trace.Link(context) for context in contexts if context.is_valid]
    return TRACER.start_as_current_span(
        name, Context(), kind=kind, links=links, attributes=attributes
    )


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
