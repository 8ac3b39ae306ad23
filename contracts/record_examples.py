"""Records requests and responses of the running API as examples for its OpenAPI document.

Run by `make openapi`, against a stack of its own. Values that differ from run to run, such as times
and cursors, are replaced by fixed ones; everything else is recorded as it was sent.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from api.auth.permissions import OPERATE, READ, WRITE
from api.auth.tokens import issue_token
from api.openapi import EXAMPLES
from contracts.documents import text
from dev.stack import Stack, StackOptions, run_stack
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import orderly_process
from settings import TokenRules

Json = dict[str, Any]

TIMEOUT_S = 60
ENDPOINT_KEY = base64.b64encode(secrets.token_bytes(32)).decode()
TOKEN_SECONDS = 600

SERVER = "https://orders.example.com"
NOW, LATER = "2026-03-02T09:30:00Z", "2026-03-09T09:30:00Z"
NEXT = "b3BhcXVl"
RECEIVER_URL = "http://127.0.0.1:9/webhooks"
RANDOM = {
    "http://127.0.0.1:9/": "https://shop.example.com/",
    r"http://127\.0\.0\.1:\d+": SERVER,
    "^whsec_.*": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "we_[0-9a-f]{16}": "we_5f1d7a3c9be02468",
    "wr_[0-9a-f]{16}": "wr_0b9d2f4a6c8e1357",
    "test-[0-9a-f]{16}": "test-8d3c1b5a7f9e2046",
    r"\d{1,2} [A-Z][a-z]+ \d{4}, \d\d:\d\d UTC": "9 March 2026, 09:30 UTC",
}
_DATE = re.compile(r"\d{4}-\d\d-\d\dT")
MEASURED = {"latency_ms": 12, "lag_seconds": 0.0, "position": 42}
LINKS = {
    "trace_url": "https://traces.example.com/trace/{trace_id}",
    "temporal_ui_url": "https://temporal.example.com",
}
"""Settings of the API, by which its links are the same in each run."""
HEADERS = {
    "X-Request-Id": "checkout-7",
    "Prefer": "wait=30",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}
CUSTOMER = f"{READ} {WRITE}"
OPERATOR = f"{CUSTOMER} {OPERATE}"

BAGELS = {"sku": "1095275", "title": "ROLLS: BAGELS", "quantity": 2, "unit_price": 50}
TUNA = {"sku": "1053875", "title": "TUNA", "quantity": 1, "unit_price": 100, "discount": 20}
BASKET = {
    "customer_id": "900",
    "currency": "USD",
    "external_reference": "31198570044",
    "lines": [{**BAGELS, "line_id": "bagels"}, {**TUNA, "line_id": "tuna"}],
    "shipping_charge": 499,
    "shipping_address": {
        "name": "Ada Lovelace",
        "line1": "12 St James's Square",
        "postal_code": "SW1Y 4JH",
        "city": "London",
        "country": "GB",
    },
    "place": True,
    "payment_method": "pm_card",
}
DRAFT = {"customer_id": "900", "currency": "USD", "lines": [{**BAGELS, "line_id": "bagels"}]}


@dataclass
class Recorder:
    """Sends requests with a token, and records the exchanges that are examples."""

    http: httpx.AsyncClient
    rules: TokenRules
    operations: dict[str, Json] = field(default_factory=dict)
    problems: dict[str, Json] = field(default_factory=dict)

    async def send(self, method: str, path: str, *, scope: str = OPERATOR, **more: Any) -> Any:
        """The response to an operator, or to customer 900 if the scope is not an operator's."""
        headers = {**HEADERS, **more.pop("headers", {})}
        if scope:
            subject = "olga" if OPERATE in scope else "900"
            token = issue_token(self.rules, subject, scope, TOKEN_SECONDS)
            headers["Authorization"] = f"Bearer {token}"
        return await self.http.request(method, path, headers=headers, **more)

    async def record(
        self, operation: str, name: str, summary: str, method: str, path: str, **more: Any
    ) -> Any:
        """Records an exchange as an example of an operation; returns the response's body."""
        response = await self.send(method, path, **more)
        assert response.is_success, response.text
        body = response.json()
        self.operations.setdefault(operation, {})[name] = {
            "summary": summary,
            "request": normalize(more.get("json")),
            "status": response.status_code,
            "response": normalize(body),
        }
        return body

    async def record_problem(
        self, status: int, name: str, summary: str, method: str, path: str, **more: Any
    ) -> None:
        """Records a problem document as an example of its status."""
        response = await self.send(method, path, **more)
        assert response.status_code == status, response.text
        example = {"summary": summary, "value": normalize(response.json())}
        self.problems.setdefault(str(status), {})[name] = example


def normalize(value: Any) -> Any:
    """The value with what differs from run to run replaced."""
    if isinstance(value, dict):
        return {
            key: MEASURED[key] if key in MEASURED else _normalize_field(key, inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [normalize(inner) for inner in value]
    return _normalize_text(value) if isinstance(value, str) else value


def _normalize_field(key: str, value: Any) -> Any:
    if key == "json_schema":
        return _without_references(value, value.get("$defs", {}))
    is_cursor = key in ("next", "until") and isinstance(value, str) and not _DATE.match(value)
    return NEXT if is_cursor else normalize(value)


def _without_references(schema: Any, definitions: Json) -> Any:
    """A JSON schema with its definitions in place: generators would follow its references."""
    if isinstance(schema, list):
        return [_without_references(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **schema}
    left_out = ("$ref", "$defs", "discriminator")
    return {
        key: _without_references(one, definitions)
        for key, one in schema.items()
        if key not in left_out
    }


def _normalize_text(text: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return NOW[:10]
    if _DATE.match(text):
        is_later = datetime.fromisoformat(text) > datetime.now(UTC) + timedelta(hours=1)
        return LATER if is_later else NOW
    for pattern, fixed in RANDOM.items():
        text = re.sub(pattern, fixed, text)
    return text


async def record_examples(http: httpx.AsyncClient, rules: TokenRules) -> Json:
    """All examples, from an API with an empty database that accepts tokens by these rules."""
    await _avoid_midnight()
    recorder = Recorder(http, rules)
    await _record_draft(recorder)
    await _record_basket(recorder)
    await _record_webhooks(recorder)
    await _record_problems(recorder)
    erase = ("DELETE", "/v1/customers/900/personal-data")
    await recorder.record("erase_personal_data", "erased", "Erased", *erase)
    return {"operations": recorder.operations, "problems": recorder.problems}


async def _avoid_midnight() -> None:
    """Waits until a new day has begun, if it begins soon: statistics are by day."""
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    if midnight - now < timedelta(minutes=2):
        await asyncio.sleep((midnight - now).total_seconds())


async def _record_draft(recorder: Recorder) -> None:
    """A draft that is changed and cancelled."""
    record, key = recorder.record, {"Idempotency-Key": "draft-1"}
    opened = await record(
        "open_order", "draft", "A draft", "POST", "/v1/orders", json=DRAFT, headers=key
    )
    await record(
        *("preview_opening", "draft", "A draft", "POST", "/v1/orders/preview"),
        json=DRAFT,
        headers=key,
    )
    commands = f"/v1/orders/{opened['order_id']}/commands"
    batch = {
        "commands": [
            {"type": "change-item-quantity", "line_id": "bagels", "quantity": 3},
            {"type": "apply-discount", "discount_id": "welcome", "amount": 25},
        ]
    }
    await record("preview_commands", "two", "A preview", "POST", f"{commands}/preview", json=batch)
    await record("send_commands", "two", "Two commands, or neither", "POST", commands, json=batch)
    note = {"note_id": "bell", "text": "The bell is broken, knock."}
    await record("add_note", "note", "A note", "POST", f"{commands}/add-note", json=note)
    place, stale = f"{commands}/place-order", {"If-Match": '"2"'}
    summary = "The order has changed"
    await recorder.record_problem(412, "stale", summary, "POST", place, json={}, headers=stale)
    cancel, reason = f"{commands}/cancel-order", {"reason": "bought elsewhere"}
    cancelled = await record(
        "cancel_order", "cancelled", "With a reason", "POST", cancel, json=reason
    )
    token = {"consistency_token": cancelled["consistency_token"]}
    assert (await recorder.send("GET", "/v1/stats/orders", params=token)).is_success


async def _record_basket(recorder: Recorder) -> None:
    """A basket that is placed in one request, and then read."""
    record, key = recorder.record, {"Idempotency-Key": "31198570044"}
    summary = "A basket, placed at once"
    placed = await record(
        "open_order", "basket", summary, "POST", "/v1/orders", json=BASKET, headers=key
    )
    order_id, path = placed["order_id"], f"/v1/orders/{placed['order_id']}"
    recent = {"min_version": await _settled_version(recorder, path)}

    summary = "Authorised and ready to ship"
    await record("get_order", "confirmed", summary, "GET", path, params=recent)
    three, history = {**recent, "limit": 3}, f"{path}/history"
    await record("get_history", "first", "The first three events", "GET", history, params=three)
    waiting, money = ("GET", f"{path}/waiting"), ("GET", f"{path}/transactions")
    await record("get_waiting", "booked", "Waits for the carrier", *waiting, params=recent)
    await record("list_transactions", "authorised", "Authorised", *money, params=recent)
    allowed = ("GET", f"{path}/commands")
    await record("get_allowed_commands", "customer", "For a customer", *allowed, scope=CUSTOMER)
    filters = {"customer_id": "900", "status": "confirmed"}
    summary = "Confirmed orders of a customer"
    await record("list_orders", "confirmed", summary, "GET", "/v1/orders", params=filters)
    of_order = {"order_id": order_id, "limit": 2}
    await record("list_events", "page", "Of one order", "GET", "/v1/events", params=of_order)
    digest = ("GET", "/v1/events/digest")
    await record(
        "get_event_digest", "order", "Of one order", *digest, params={"order_id": order_id}
    )
    token = {"consistency_token": f"{order_id}@{recent['min_version']}"}
    await record("get_order_stats", "today", "One day", "GET", "/v1/stats/orders", params=token)

    for name, what in (
        ("removed_items", "removed-items"),
        ("abandoned_drafts", "abandoned-drafts"),
        ("lead_times", "lead-times"),
    ):
        stats = ("GET", f"/v1/stats/{what}")
        await record(f"get_{name}", "today", "One day", *stats, params=token)

    item, refund = f"{path}/commands/add-item-to-order", f"{path}/commands/refund-payment"
    line = {**TUNA, "line_id": "more"}
    problem = recorder.record_problem
    await problem(409, "placed", "The order is not a draft", "POST", item, json=line)
    summary, amount = "A command for operators", {"amount": 100}
    await problem(403, "customer", summary, "POST", refund, json=amount, scope=CUSTOMER)
    await _record_inbox(recorder, path)


async def _record_inbox(recorder: Recorder, path: str) -> None:
    """An order that is held, and what operators see of the service."""
    record, reason = recorder.record, {"reason": "the address differs from the card's"}
    hold = ("POST", f"{path}/commands/hold-order")
    held = await record("hold_order", "fraud", "With a reason", *hold, json=reason)
    token = {"consistency_token": held["consistency_token"]}
    await record("get_inbox", "held", "A held order", "GET", "/v1/inbox", params=token)
    await record("get_projections", "all", "All read models", "GET", "/v1/projections")
    await record("get_links", "both", "Both are set", "GET", "/v1/links")
    headers = {"Prefer": "respond-async", "Idempotency-Key": "release-1"}
    release = ("POST", f"{path}/commands/release-order")
    queued = await record("release_order", "queued", "Queued", *release, json={}, headers=headers)
    status = ("GET", queued["href"])
    async with asyncio.timeout(TIMEOUT_S):
        while (await recorder.send(*status)).json()["state"] == "pending":
            await asyncio.sleep(0.05)
    await record("get_async_command", "done", "It was executed", *status)
    schema, one = "/v1/schemas", "orderly.order.item-removed.v1"
    await record("list_event_schemas", "all", "All", "GET", schema)
    await record("get_event_schema", "removed", "Of one type", "GET", f"{schema}/{one}")
    await record("get_problem_type", "one", "A rejection", "GET", "/v1/problems/no-lines")
    await record("list_problem_types", "all", "All", "GET", "/v1/problems")


async def _record_webhooks(recorder: Recorder) -> None:
    """An endpoint that is registered, tested, changed and replayed."""
    record, path = recorder.record, "/v1/webhook-endpoints"
    new = {
        "url": RECEIVER_URL,
        "event_types": ["order-cancelled", "order-placed"],
        "customer_id": "901",
        "from": "now",
    }
    summary = "Two types of events of a customer"
    created = await record("register_webhook_endpoint", "two", summary, "POST", path, json=new)
    own = f"{path}/{created['endpoint_id']}"
    await record("send_test_webhook", "refused", "Nothing listens there", "POST", f"{own}/test")
    changes = {"description": "the warehouse", "customer_id": None}
    summary = "Of all customers from now on"
    await record("change_webhook_endpoint", "all", summary, "PATCH", own, json=changes)
    rotate = f"{own}/rotate-secret"
    await record("rotate_webhook_secret", "rotated", "Both sign for a day", "POST", rotate)
    await record("pause_webhook_endpoint", "paused", "Paused", "POST", f"{own}/pause")
    await record("resume_webhook_endpoint", "resumed", "Resumed", "POST", f"{own}/resume")
    period = {"since": NOW, "until": LATER}
    await record("replay_webhooks", "week", "A week", "POST", f"{own}/replay", json=period)
    summary = "Its test failed"
    deliveries = f"{own}/deliveries"
    await record("list_webhook_deliveries", "failed", summary, "GET", deliveries)
    await record("get_webhook_endpoint", "active", "Active", "GET", own)
    await record("list_webhook_endpoints", "one", "One endpoint", "GET", path)
    await recorder.record_problem(
        422,
        "private",
        "A URL with a private address",
        "POST",
        path,
        json={"url": "https://10.0.0.1/webhooks"},
    )
    await recorder.send("DELETE", own)


async def _record_problems(recorder: Recorder) -> None:
    problem, orders = recorder.record_problem, "/v1/orders"
    invalid = {**DRAFT, "currency": "usd", "lines": [{**BAGELS, "quantity": "two"}]}
    await problem(422, "basket", "Two mistakes in a basket", "POST", orders, json=invalid)
    await problem(404, "order", "An unknown order", "GET", f"{orders}/ord_none")
    await problem(400, "cursor", "An invalid cursor", "GET", orders, params={"cursor": "x"})
    await problem(401, "token", "No token", "GET", orders, scope="")
    text = {"content": b"hello", "headers": {"Content-Type": "text/plain"}}
    await problem(415, "text", "A body that is not JSON", "POST", orders, **text)


async def _settled_version(recorder: Recorder, path: str) -> int:
    """The version of an order once it is confirmed and no step is pending."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(KeyError):  # Not in the read model yet.
                order = (await recorder.send("GET", path)).json()
                if order["status"] == "confirmed" and not order["pending"]:
                    return int(order["version"])
            await asyncio.sleep(0.05)


async def main() -> None:
    """Records all examples from a new stack, and writes their file."""
    rules = TokenRules("orderly", "orderly", secret=secrets.token_urlsafe(32))
    with tempfile.TemporaryDirectory(prefix="orderly-") as folder:
        options = StackOptions(Path(folder), api_port=0, temporal_port=0, ui_port=0)
        async with run_stack(options) as stack, _api_with_tokens(stack, rules) as http:
            examples = await record_examples(http, rules)
    EXAMPLES.write_text(text(examples))


@asynccontextmanager
async def _api_with_tokens(stack: Stack, rules: TokenRules) -> AsyncIterator[httpx.AsyncClient]:
    """Another API process of the stack, which requires tokens; the stack's own requires none."""
    [port] = free_ports({"api": 0})
    url = f"http://{LOOPBACK}:{port}"
    program = orderly_process(
        replace(stack, api_url=url),
        stack.logs,
        "api-with-tokens",
        "api",
        ORDERLY_AUTH="",
        ORDERLY_TOKEN_SECRET=str(rules.secret),
        ORDERLY_RATE_LIMIT_PER_SECOND="0",
        ORDERLY_ENDPOINT_KEY=ENDPOINT_KEY,
        ORDERLY_ENDPOINT_NETWORKS="127.0.0.0/8",
        ORDERLY_TRACE_URL=LINKS["trace_url"],
        ORDERLY_TEMPORAL_UI_URL=LINKS["temporal_ui_url"],
    )
    process = await asyncio.create_subprocess_exec(*program.command, env=program.environment)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
            async with asyncio.timeout(TIMEOUT_S):
                while not await _is_ready(http):
                    await asyncio.sleep(0.1)
            yield http
    finally:
        process.terminate()
        await process.wait()


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).is_success
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    asyncio.run(main())
