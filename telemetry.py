"""OpenTelemetry tracing across the processes, and what is exported, if the environment asks for it.

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
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

FLUSH_SECONDS_MAX = 3.0  # The SDK would try for half a minute, longer than a process may stop.
TRACER = trace.get_tracer("orderly")
_PROPAGATOR = TraceContextTextMapPropagator()
_INSTANCE_ID = str(uuid4())
_GRPC, _HTTP = "grpc", "http/protobuf"


def start_tracing(service: str, environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Exports spans by OTLP if the standard OTEL_* variables ask for it.

    Returns the function that flushes and ends it. Without those variables, nothing is imported.
    Raises SettingsError if a variable cannot be used, also one of metrics.
    """
    check_variables(environment)
    if not _exports_traces(environment):
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
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=resource_of(service))
    provider.add_span_processor(BatchSpanProcessor(_span_exporter(environment)))
    return provider


def resource_of(service: str) -> Resource:
    """What names this process; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    own = {
        "service.namespace": "orderly",
        "service.name": service,
        "service.version": version("orderly"),
        "service.instance.id": _INSTANCE_ID,
    }
    return Resource.create(own).merge(OTELResourceDetector().detect())


def _span_exporter(environment: Mapping[str, str]) -> SpanExporter:
    if _protocol("TRACES", environment) == _GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def metric_exporter(environment: Mapping[str, str] = os.environ) -> MetricExporter:
    """Sends metrics by OTLP to where the standard variables say."""
    if _protocol("METRICS", environment) == _GRPC:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
            OTLPMetricExporter as Grpc,
        )

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter()


def check_variables(environment: Mapping[str, str]) -> None:
    """Raises SettingsError for a variable of an export that is wanted and cannot be used."""
    if _exports_traces(environment):
        _protocol("TRACES", environment)
    if exports_metrics(environment):
        _protocol("METRICS", environment)
        metrics_interval_seconds(environment)


def _protocol(signal: str, environment: Mapping[str, str]) -> str:
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := environment.get(name):
            if protocol in (_GRPC, _HTTP):
                return protocol
            raise _settings_error(f"{name} must be {_HTTP} or {_GRPC}, not {protocol!r}.")
    return _HTTP


def metrics_interval_seconds(environment: Mapping[str, str] = os.environ) -> float:
    """The time between two exports of metrics, by OTEL_METRIC_EXPORT_INTERVAL."""
    name = "OTEL_METRIC_EXPORT_INTERVAL"
    given = environment.get(name) or "60000"
    if not (given.isdecimal() and int(given)):
        raise _settings_error(f"{name} must be a number of milliseconds above 0, not {given!r}.")
    return int(given) / 1000


def _settings_error(message: str) -> Exception:
    from settings import SettingsError

    return SettingsError(message)


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


def exemplar() -> dict[str, str] | None:
    """What names the current span beside a measurement; None unless its trace is recorded."""
    context = trace.get_current_span().get_span_context()
    if not context.trace_flags.sampled:
        return None
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }


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


def _exports_traces(environment: Mapping[str, str]) -> bool:
    """OTEL_TRACES_EXPORTER says it, or else that there is an endpoint."""
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return _is_exported("OTEL_TRACES_EXPORTER", names, environment)


def exports_metrics(environment: Mapping[str, str] = os.environ) -> bool:
    """OTEL_METRICS_EXPORTER says it, or else that there is an endpoint of metrics.

    The endpoint for all is not enough: mostly Prometheus reads the same from /metrics.
    """
    names = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",)
    return _is_exported("OTEL_METRICS_EXPORTER", names, environment)


def _is_exported(exporter: str, endpoints: Iterable[str], environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporters := environment.get(exporter):
        return "otlp" in exporters.split(",")
    return any(environment.get(name) for name in endpoints)
