"""One request is one trace, from the API through Temporal to the read model, across processes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import Request, Response
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from temporalio.common import RawValue
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

import telemetry
from activities.service_client import http_client
from api.gateway.gateway import Gateway
from dev.simulators.app import SimulatorOptions
from dev.simulators.app import create_app as create_simulators
from dev.stack import StackOptions
from privacy.keys import PostgresKeys
from settings import Settings
from tests.support.api_requests import BASKET, is_transient
from tests.support.command_builders import TRACEPARENT, bagels, message, new_order_id, placing
from tests.support.servers import reaching, run_replayed_stack, run_worker, serving
from tests.support.trace_collector import Collector, Seen, until
from worker import _traceparent_of, activities_for, unsealing

pytestmark = pytest.mark.xdist_group("trace")  # They share a stack.

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
async def http(
    collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """The API of a stack of real processes that send their spans to the collector."""
    folder = tmp_path_factory.mktemp("traced")
    options = StackOptions(folder / "data", api_port=0, temporal_port=0, ui_port=0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.grpc_url)
        patched.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        patched.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patched.setenv("OTEL_METRICS_EXPORTER", "otlp")
        patched.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1000")
        async with (
            run_replayed_stack(options) as stack,
            httpx.AsyncClient(base_url=stack.api_url, timeout=60) as http,
        ):
            yield http


async def test_command_is_one_trace_to_the_commit_of_its_view(
    collector: Collector, http: httpx.AsyncClient
) -> None:
    first, _ = await served(http, "/v1/orders", BASKET)
    path = first.headers["Location"]
    second, trace = await served(http, f"{path}/commands/add-note", {"text": "hi"})
    assert second.status_code == 200
    names = ("POST /v1/orders/{order_id}/commands/add-note", "execute", "OrderWorkflow.execute")
    await until(lambda: {s.span.name for s in in_trace(collector.seen, trace)} >= {*names})
    await until(lambda: linked_to_trace(collector.seen, trace, "publish events"))
    await until(lambda: linked_to_trace(collector.seen, trace, "project order_view"))

    ours = {s.span.name: s for s in in_trace(collector.seen, trace)}
    assert set(ours) == {*names}
    request, sent, executed = (ours[name] for name in names)
    assert request.span.parent_span_id.hex() == CALLER
    assert sent.span.parent_span_id == request.span.span_id
    assert executed.span.parent_span_id == sent.span.span_id
    services = (request.service, sent.service, executed.service)
    assert services == ("orderly-api", "orderly-api", "orderly-worker")

    # The first attempt, should there be more.
    published, *_ = linked_to_trace(collector.seen, trace, "publish events")
    projected, *_ = linked_to_trace(collector.seen, trace, "project order_view")
    assert (published.service, projected.service) == ("orderly-worker", "orderly-projector")
    answered = {a.key: a.value for a in request.span.attributes}
    assert answered["http.route"].string_value == "/v1/orders/{order_id}/commands/add-note"
    assert answered["http.response.status_code"].int_value == 200
    assert (answered["url.scheme"].string_value, "url.path" in answered) == ("http", False)
    operations = [
        a.value.string_value
        for each in (published, projected)
        for a in each.span.attributes
        if a.key == "messaging.operation.type"
    ]
    assert operations == ["send", "process"]
    for span in (published.span, projected.span):
        assert span.trace_id.hex() != trace, "it may serve other requests, too"
        assert sent.span.span_id in {link.span_id for link in span.links}

    def appended() -> list[Seen]:
        attempts = linked_to_trace(collector.seen, trace, "publish events")
        parents = {attempt.span.span_id for attempt in attempts}
        within = [s for s in collector.seen if s.span.parent_span_id in parents]
        return [s for s in within if s.span.name == "INSERT order_events"]

    await until(appended)
    described = attributes(appended()[0])
    assert described["db.system.name"].string_value == "postgresql"
    assert described["db.namespace"].string_value == "postgres"
    assert "INSERT INTO order_events" in described["db.query.text"].string_value
    assert executed.span.start_time_unix_nano <= published.span.start_time_unix_nano
    assert published.span.start_time_unix_nano <= projected.span.end_time_unix_nano


async def test_service_calls_for_a_placed_order_are_in_the_trace_of_the_request(
    collector: Collector, http: httpx.AsyncClient
) -> None:
    placed, trace = await served(http, "/v1/orders", {**BASKET, "place": True})
    assert placed.status_code == 201
    await until(lambda: calls(collector.seen, trace, "book"))
    await until(lambda: "POST /v1/orders" in {s.span.name for s in in_trace(collector.seen, trace)})

    (request,) = (
        s.span for s in in_trace(collector.seen, trace) if s.span.name == "POST /v1/orders"
    )
    assert request.parent_span_id.hex() == CALLER
    reserved, authorised, booked = (  # The first attempt of each.
        calls(collector.seen, trace, kind)[0] for kind in ("reserve", "authorise", "book")
    )
    assert reserved.end_time_unix_nano <= authorised.start_time_unix_nano
    assert authorised.end_time_unix_nano <= booked.start_time_unix_nano


async def test_every_process_exports_its_metrics(
    collector: Collector, http: httpx.AsyncClient
) -> None:
    placed, _ = await served(http, "/v1/orders", {**BASKET, "place": True})
    assert placed.status_code == 201

    def exported(service: str) -> set[str]:
        return set(collector.metrics.get(service, ()))

    of_each = {
        "orderly-api": {"orderly_ready", "orderly_commands", "temporal_request"},
        "orderly-worker": {"orderly_step_duration_seconds", "temporal_request"},
        "orderly-projector": {"orderly_projected_events"},
        "orderly-deliverer": {"orderly_build_info"},
    }
    for service, names in of_each.items():
        await until(lambda: exported(service) >= names)  # noqa: B023


async def served(
    http: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> tuple[httpx.Response, str]:
    """The response to a request, and its trace; a repetition after a 503 is in a new one."""
    async with asyncio.timeout(60):
        while True:
            trace = secrets.token_hex(16)
            headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
            response = await http.post(path, json=body, headers=headers)
            if not is_transient(response):
                return response, trace
            await asyncio.sleep(0.2)


def calls(seen: list[Seen], trace: str, kind: str) -> list[Span]:
    """The worker's calls of a kind that are in a trace."""
    spans = [s for s in in_trace(seen, trace) if s.span.name.startswith(f"{kind} at the ")]
    assert all(s.service == "orderly-worker" for s in spans)
    assert all(s.span.kind == Span.SPAN_KIND_CLIENT for s in spans)
    return [s.span for s in spans]


async def test_services_receive_the_traceparent(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    services = create_simulators(SimulatorOptions(tmp_path / "simulators.db"))
    heard: dict[str, str] = {}

    @services.middleware("http")
    async def listen(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        heard[request.headers["idempotency-key"]] = request.headers["traceparent"]
        return await call_next(request)

    order_id, queue = new_order_id(), f"traced-{new_order_id()}"
    async with serving(services) as simulators, http_client(5) as outside:
        settings = reaching(simulators, Settings(postgres_dsn="postgresql://unused"))
        activities = activities_for(settings, pool, outside, unsealing(PostgresKeys(pool)))
        async with run_worker(temporal.client, queue, pool, activities):
            await Gateway(temporal.client, pool, queue).execute(placing(order_id), 30)
            await until(lambda: len(heard) == 3)

    kinds = [key.removeprefix(f"{order_id}:").partition("-")[0] for key in heard]
    assert kinds == ["reserve", "authorise", "book"]
    assert set(heard.values()) == {TRACEPARENT}


def in_trace(seen: list[Seen], trace: str) -> list[Seen]:
    """The spans of a trace; those of statements are children of one of them."""
    return [
        s for s in seen if s.span.trace_id.hex() == trace and "db.query.text" not in attributes(s)
    ]


def attributes(seen: Seen) -> dict[str, AnyValue]:
    return {a.key: a.value for a in seen.span.attributes}


def linked_to_trace(seen: list[Seen], trace: str, name: str) -> list[Seen]:
    return [
        s
        for s in seen
        if s.span.name == name and trace in {link.trace_id.hex() for link in s.span.links}
    ]


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, False),
        ({"OTEL_TRACES_EXPORTER": "console,otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_spans_are_exported_only_if_configured(environment: dict[str, str], wanted: bool) -> None:
    assert telemetry._exports_traces(environment) is wanted


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, True),
        ({"OTEL_METRICS_EXPORTER": "prometheus,otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_METRICS_EXPORTER": "otlp"}, False),
    ],
)
def test_metrics_are_exported_only_if_configured(environment: dict[str, str], wanted: bool) -> None:
    assert telemetry.exports_metrics(environment) is wanted


def test_traceparent_is_read_from_the_payload_of_an_update_and_of_a_signal() -> None:
    sent = message(new_order_id(), bagels())
    for payload in (sent.batch, sent.queued):
        raw = RawValue(pydantic_data_converter.payload_converter.to_payload(payload))
        assert _traceparent_of([raw]) == TRACEPARENT
    others: list[object] = [{}, [], None, "text", {"batch": 1}, {"traceparent": 1}]
    for other in others:
        raw = RawValue(pydantic_data_converter.payload_converter.to_payload(other))
        assert _traceparent_of([raw]) is None
    assert _traceparent_of([]) is None


def test_trace_continues_without_tracing_in_this_process() -> None:
    incoming = f"00-{TRACE}-{CALLER}-01"
    assert telemetry.traceparent(incoming) == incoming
    for invalid in (None, "", "nonsense", f"00-{'0' * 32}-{CALLER}-01"):
        assert telemetry.trace_id(telemetry.traceparent(invalid))
