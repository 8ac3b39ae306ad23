"""Traces: the standard variables of OpenTelemetry, and a collector that does not answer."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib.metadata import version
from threading import Event

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from settings import SettingsError
from telemetry import flush, provider_for, start_tracing

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


def test_unsupported_protocol_is_named() -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"):
        start_tracing("orderly-api", environment)
