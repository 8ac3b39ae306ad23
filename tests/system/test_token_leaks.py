"""No token, valid or invalid, appears in a log line, a span or a response."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
from temporalio.testing import WorkflowEnvironment

from api.auth.permissions import OPERATE, READ, WRITE
from api.auth.tokens import issue_token
from dev.stack.ports import free_ports
from tests.support.api_requests import BASKET, PatientClient
from tests.support.paths import ROOT
from tests.support.processes import environment, wait_until_alive
from tests.support.servers import Running
from tests.support.token_issuer import RULES, SECRET, bad_tokens, markers
from tests.support.trace_collector import Collector


async def test_token_is_in_no_log_span_or_response(
    temporal: WorkflowEnvironment, orderly: Running, collector: Collector, tmp_path: Path
) -> None:
    (port,) = map(str, free_ports({"api": 0}))
    url, log = f"http://127.0.0.1:{port}", tmp_path / "api.log"
    variables = environment(
        ORDERLY_POSTGRES_DSN=orderly.dsn,
        ORDERLY_TASK_QUEUE=orderly.task_queue,
        ORDERLY_API_PORT=port,
        ORDERLY_TOKEN_SECRET=SECRET,
        TEMPORAL_ADDRESS=str(temporal.client.service_client.config.target_host),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    good, bad = issue_token(RULES, "olga", f"{READ} {WRITE} {OPERATE}", 600), bad_tokens()
    with log.open("wb") as errors:
        api = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "api"), cwd=ROOT, env=variables, stderr=errors
        )
    try:
        async with PatientClient(base_url=url, timeout=60) as http:
            await wait_until_alive(http)
            responses = [await sent_everywhere(http, good, 200, 201, 404, 415, 422)]
            responses += [await sent_everywhere(http, token, 401, 403) for token in bad]
    finally:
        api.terminate()
        assert await api.wait() == 0  # It exports its last spans first.
    places = [str([seen.span for seen in collector.seen]), log.read_text(), *responses]
    assert "POST /v1/orders" in places[0], "the search needs spans"
    for marker in (part for token in (good, *bad) for part in markers(token)):
        assert [place for place in places if marker in place] == []


async def sent_everywhere(http: httpx.AsyncClient, token: str, *expected: int) -> str:
    """The responses of routes of all kinds to requests with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    responses = [
        await http.post("/v1/orders", json=BASKET, headers=headers),
        await http.post("/v1/orders", content="{", headers=headers),
        await http.post("/v1/orders/ord_x/commands/place-order", headers=headers),
        await http.get("/v1/orders", headers=headers),
        await http.get("/v1/orders/ord_x", headers=headers),
        await http.delete("/v1/customers/nobody/personal-data", headers=headers),
    ]
    assert {response.status_code for response in responses} <= set(expected), responses
    return str([(response.headers, response.text) for response in responses])
