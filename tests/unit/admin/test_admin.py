"""The admin address: liveness, readiness with reasons, and metrics, the same in every process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from activities import step_metrics
from admin import readiness
from admin.metrics import describe_build
from admin.readiness import OK, Pulse, Readiness, reasons_of
from admin.server import AddressInUse, Process, create_app, listen

STATES = {"temporal": "ok", "workers": "none", "postgres": "read-only"}


async def read() -> Readiness:
    reasons = {"commands": ["workers: none"], "reads": []}
    return Readiness(reasons, STATES, others=["postgres: read-only"])


async def ready() -> Readiness:
    return Readiness({"commands": [], "reads": []}, {"temporal": "ok"})


async def get(
    path: str,
    read_readiness: Callable[[], Any] = read,
    pulses: Mapping[str, Pulse] | None = None,
    accept: str = "*/*",
    **more: Any,
) -> httpx.Response:
    process = Process("api", ("commands", "reads"), read_readiness, pulses=pulses or {}, **more)
    transport = httpx.ASGITransport(create_app(process))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as http:
        return await http.get(path, headers={"Accept": accept})


async def test_readiness_has_reasons_for_each_thing_that_is_served() -> None:
    response = await get("/readyz")
    assert response.status_code == 503
    assert response.json() == {
        "ready": False,
        "reasons": ["workers: none", "postgres: read-only"],
        "commands": {"ready": False, "reasons": ["workers: none"]},
        "reads": {"ready": True, "reasons": []},
        **STATES,
    }


@pytest.mark.parametrize(("what", "status"), [("commands", 503), ("reads", 200), ("lunch", 422)])
async def test_readiness_of_one_thing_can_be_asked_for(what: str, status: int) -> None:
    response = await get(f"/readyz?for={what}")
    assert response.status_code == status
    if status == 422:
        assert response.json() == {"detail": "for: this process serves commands, reads"}
    else:
        assert response.json()["ready"] is (status == 200)


async def test_process_that_shuts_down_is_alive_and_serves_nothing_more() -> None:
    def unreadable() -> Any:
        raise AssertionError("its connections are closed")

    response = await get("/readyz", unreadable, is_stopping=lambda: True)
    assert (response.status_code, response.json()["reads"]["ready"]) == (503, False)
    assert response.json()["reasons"] == ["the process is shutting down"]
    assert (await get("/healthz", unreadable, is_stopping=lambda: True)).status_code == 200
    assert (await get("/readyz", ready)).json()["ready"] is True


async def test_loop_that_hangs_asks_for_a_restart_and_one_that_fails_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(readiness, "monotonic", lambda: now)
    pulse = Pulse()
    assert pulse.state == "has not begun"
    pulse.beat()
    assert pulse.state == OK
    now += Pulse.SILENT_SECONDS_MAX + 1
    assert pulse.state == "no progress for 16 seconds"
    assert (await get("/healthz", pulses={"order_view": pulse})).status_code == 200
    now += Pulse.HANGING_SECONDS
    hanging = await get("/healthz", pulses={"order_view": pulse})
    assert (hanging.status_code, hanging.json()["loops"]) == (503, ["order_view"])
    pulse.fail("Postgres is unavailable")
    assert (await get("/healthz", pulses={"order_view": pulse})).status_code == 200
    assert reasons_of({"order_view": pulse.state}) == ["order_view: Postgres is unavailable"]


async def test_metrics_are_counted_read_and_the_sdks() -> None:
    async def read_metrics() -> list[Metric]:
        return [GaugeMetricFamily("orderly_read", "Read at each scrape.", 7)]

    async def read_sdk_metrics() -> bytes:
        return b"temporal_request_total 3\n"

    describe_build("api", "v7")
    response = await get("/metrics", read_metrics=read_metrics, read_sdk_metrics=read_sdk_metrics)
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    assert {"orderly_read 7.0", "temporal_request_total 3"} <= set(lines)
    (build,) = [line for line in lines if line.startswith("orderly_build_info{")]
    assert 'build_id="v7"' in build and 'process="api"' in build
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)
    assert not any("_created" in line for line in lines)


async def test_scraper_that_accepts_openmetrics_gets_exemplars() -> None:
    async def read_metrics() -> list[Metric]:
        return [CounterMetricFamily("orderly_seen_total", "Seen.", 7)]

    async def read_sdk_metrics() -> bytes:
        return b"# TYPE temporal_request_total counter\ntemporal_request_total 3\n"

    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    context = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with use_span(NonRecordingSpan(context)), step_metrics.measured("exemplary") as call:
        call.outcome = "done"
    with step_metrics.measured("untraced"):
        pass
    response = await get(
        "/metrics", accept=accept, read_metrics=read_metrics, read_sdk_metrics=read_sdk_metrics
    )
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0")
    samples = [
        sample
        for family in parse(response.text)  # type: ignore[no-untyped-call]  # It is strict.
        for sample in family.samples
    ]
    values = {sample.name: sample.value for sample in samples}
    assert (values["orderly_seen_total"], values["temporal_request_total"]) == (7, 3)
    exemplars = {s.labels["service"]: s.exemplar.labels for s in samples if s.exemplar}
    assert exemplars["exemplary"] == {"trace_id": f"{7:032x}", "span_id": f"{8:016x}"}
    assert "untraced" not in exemplars


async def test_only_the_three_paths_are_served() -> None:
    assert (await get("/")).status_code == 404
    assert (await get("/docs")).status_code == 404


def test_address_in_use_names_its_settings() -> None:
    with listen("127.0.0.1", 0, "ADMIN") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"admin address .* port {port} .*ORDERLY_ADMIN_"):
            listen("127.0.0.1", port, "ADMIN")
