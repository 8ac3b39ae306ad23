"""Traces and metrics by OTLP: the standard variables, and a collector that does not answer."""

from __future__ import annotations

import asyncio
import gc
import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from threading import Event

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint, Sum
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

import telemetry
from admin.otlp import exporting
from admin.otlp_data import data_of
from settings import SettingsError
from telemetry import flush, provider_for, start_tracing
from tests.support.trace_collector import Collector, run_collector

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def provider(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TracerProvider]:
    """A provider under these variables, whose collector does not answer."""
    quick = {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
    for name, value in (quick | getattr(request, "param", {})).items():
        monkeypatch.setenv(name, value)
    provider = provider_for("orderly-api", {})
    yield provider
    provider.shutdown()


def test_resource_names_the_process(provider: TracerProvider) -> None:
    names = provider.resource.attributes
    assert (names["service.namespace"], names["service.name"]) == ("orderly", "orderly-api")
    assert names["service.version"] == version("orderly")
    assert len(str(names["service.instance.id"])) == 36
    assert names["telemetry.sdk.language"] == "python"


@pytest.mark.parametrize(
    "provider",
    [
        {
            "OTEL_SERVICE_NAME": "orders-eu",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.version=7",
        }
    ],
    indirect=True,
    ids=["given"],
)
def test_resource_of_the_environment_wins(provider: TracerProvider) -> None:
    names = provider.resource.attributes
    assert names["deployment.environment.name"] == "test"
    assert (names["service.name"], names["service.version"]) == ("orders-eu", "7")


@pytest.mark.parametrize(
    ("provider", "is_recording"),
    [
        ({}, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, False),
    ],
    indirect=["provider"],
    ids=["default", "off", "ratio"],
)
def test_sampler_is_that_of_the_environment(provider: TracerProvider, is_recording: bool) -> None:
    with provider.get_tracer("t").start_as_current_span("one") as span:
        assert span.is_recording() is is_recording


@pytest.mark.parametrize(
    "provider",
    [{"OTEL_BSP_MAX_QUEUE_SIZE": "50", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50"}],
    indirect=True,
    ids=["small queue"],
)
def test_spans_do_not_gather_without_a_collector(provider: TracerProvider) -> None:
    tracer = provider.get_tracer("t")
    for number in range(2_000):
        tracer.start_span(f"gathered {number}").end()
    gc.collect()
    kept = [
        each
        for each in gc.get_objects()
        if isinstance(each, ReadableSpan) and each.name.startswith("gathered ")
    ]
    assert 0 < len(kept) < 200


def test_end_of_a_process_does_not_wait_for_the_collector() -> None:
    answered = Event()

    def shut_down() -> None:
        answered.wait()

    flush(shut_down, 0.01)
    assert not answered.is_set()
    answered.set()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc, not 'http/json'",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "thrift"},
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL must be http/protobuf or grpc, not 'thrift'",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "1m"},
            "OTEL_METRIC_EXPORT_INTERVAL must be a number of milliseconds above 0, not '1m'",
        ),
    ],
)
def test_variable_that_cannot_be_used_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        start_tracing("orderly-api", environment)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with run_collector() as running:
        yield running


@pytest.fixture(params=["grpc", "http/protobuf"])
def protocol(
    request: pytest.FixtureRequest, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> str:
    """One that the environment names for all signals, with the collector's address for it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
    address = collector.grpc_url if request.param == "grpc" else collector.url
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    return str(request.param)


def test_spans_reach_a_collector_by_each_protocol(protocol: str, collector: Collector) -> None:
    provider = provider_for("orderly-api", os.environ)
    provider.get_tracer("t").start_span(protocol).end()
    provider.shutdown()
    assert [s.service for s in collector.seen if s.span.name == protocol] == ["orderly-api"]


async def test_metrics_reach_a_collector_by_each_protocol(
    protocol: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last values are sent at the end."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")

    async def read() -> list[Metric]:
        return [GaugeMetricFamily("orderly_read", "Read.", 7)]

    async def read_sdk() -> bytes:
        return b"# TYPE temporal_request_total counter\ntemporal_request_total 3\n"

    async with exporting(f"by {protocol}", read, read_sdk):
        pass
    found = collector.metrics[f"by {protocol}"]
    assert found["orderly_read"].gauge.data_points[0].as_double == 7
    assert found["temporal_request"].sum.data_points[0].as_double == 3
    assert found["process_resident_memory_bytes"].unit == "By"


async def test_collector_that_is_away_does_not_delay_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOWHERE)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
    monkeypatch.setattr(telemetry, "FLUSH_SECONDS_MAX", 0.01)
    tried = asyncio.Event()

    async def read() -> list[Metric]:
        tried.set()
        return []

    async with exporting("orderly-api", read, None):
        await tried.wait()


def test_distributions_keep_their_buckets_and_exemplars() -> None:
    registry = CollectorRegistry()
    waits = Histogram("waits_seconds", "Waits.", ["of"], buckets=(1, 2), registry=registry)
    Counter("calls", "Calls.", registry=registry).inc(4)
    for seconds in (0.5, 1.5, 1.5, 9):
        waits.labels("a").observe(seconds, {"trace_id": "f" * 32, "span_id": "e" * 16})
    read = HistogramMetricFamily("ages_seconds", "Ages.")
    read.add_metric([], [("5.0", 2), ("+Inf", 3)], None)
    data = data_of(Resource({}), registry.collect(), [read])

    metrics = {m.name: m for m in data.resource_metrics[0].scope_metrics[0].metrics}
    point, age = (metrics[name].data.data_points[0] for name in ("waits_seconds", "ages_seconds"))
    assert isinstance(point, HistogramDataPoint) and isinstance(age, HistogramDataPoint)
    assert metrics["waits_seconds"].unit == "s" and point.attributes == {"of": "a"}
    assert (point.count, point.sum, list(point.bucket_counts)) == (4, 12.5, [1, 2, 1])
    assert list(point.explicit_bounds) == [1, 2] and point.start_time_unix_nano > 0
    assert [(e.value, f"{e.trace_id:x}") for e in point.exemplars] == [
        (0.5, "f" * 32),
        (1.5, "f" * 32),
        (9, "f" * 32),
    ]
    assert (age.count, list(age.bucket_counts), age.start_time_unix_nano) == (3, [2, 1], 0)
    calls = metrics["calls"].data
    assert isinstance(calls, Sum) and calls.is_monotonic and calls.data_points[0].value == 4
