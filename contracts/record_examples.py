"""Exchanges with the real API, recorded for its document: `python -m tests.examples`.

What changes from run to run, instants, cursors and the API's own address, is put the same each
time; all else is as it was answered.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from api.auth.permissions import OPERATE, READ, WRITE
from api.openapi import EXAMPLES
from settings import Settings
from tests.support.servers import TEMPORAL, new_database, postgres_server, run_api, run_orderly
from tests.support.shop import PREFER_WAIT, TIMEOUT_S
from tests.support.token_issuer import Issuer, ec_key, issuing
from workflows.order import CUSTOMER, STATUS

Json = dict[str, Any]

SERVER = "https://orders.example.com"
NOW, LATER = "2026-03-02T09:30:00Z", "2026-03-09T09:30:00Z"
NEXT = "b3BhcXVl"
TRACED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
ALL = f"{READ} {WRITE} {OPERATE}"

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
    """Sends requests with a token, and keeps what came of those that are worth showing."""

    http: httpx.AsyncClient
    issuer: Issuer
    operations: dict[str, Json] = field(default_factory=dict)
    problems: dict[str, Json] = field(default_factory=dict)

    async def sends(self, method: str, path: str, *, scope: str = ALL, **more: Any) -> Any:
        """The answer to an operator, or to customer 900 where the scope is not an operator's."""
        sub = "olga" if OPERATE in scope else "900"
        token = self.issuer.headers(sub, scope) if scope else {}
        sent = {"X-Request-Id": "checkout-7", **TRACED, **PREFER_WAIT, **token}
        headers = {**sent, **more.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **more)

    async def shows(
        self, operation: str, name: str, summary: str, *request: str, **more: Any
    ) -> Any:
        """Keeps the exchange as an example of an operation; returns the body."""
        answer = await self.sends(*request, **more)
        assert answer.is_success, answer.text
        body = answer.json()
        self.operations.setdefault(operation, {})[name] = {
            "summary": summary,
            "request": more.get("json"),
            "status": answer.status_code,
            "response": steady(body),
        }
        return body

    async def fails(self, status: int, name: str, summary: str, *request: str, **more: Any) -> None:
        """Keeps the problem as an example of its status."""
        answer = await self.sends(*request, **more)
        assert answer.status_code == status, answer.text
        shown = {"summary": summary, "value": steady(answer.json())}
        self.problems.setdefault(str(status), {})[name] = shown


def steady(value: Any) -> Any:
    """The same from run to run."""
    if isinstance(value, dict):
        return {
            key: NEXT if key == "next" and isinstance(inner, str) else steady(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [steady(inner) for inner in value]
    return _steady_text(value) if isinstance(value, str) else value


def _steady_text(text: str) -> str:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return NOW[:10]
    if re.match(r"\d{4}-\d\d-\d\dT", text):
        is_later = datetime.fromisoformat(text) > datetime.now(UTC) + timedelta(hours=1)
        return LATER if is_later else NOW
    return re.sub(r"http://127\.0\.0\.1:\d+", SERVER, text)


async def exchanges(client: Client, dsn: str) -> Json:
    """The examples, from the whole of orderly with an empty database."""
    await _away_from_midnight()
    async with run_orderly(client, dsn) as running, issuing(ec_key()) as issuer:
        settings = Settings(postgres_dsn=dsn, task_queue=running.task_queue, **issuer.settings)
        async with run_api(client, settings) as http:
            recorder = Recorder(http, issuer)
            await _draft(recorder)
            await _basket(recorder)
            await _mistakes(recorder)
    return {"operations": recorder.operations, "problems": recorder.problems}


async def _away_from_midnight() -> None:
    """What happens on two days makes other statistics than what happens on one."""
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    if midnight - now < timedelta(minutes=2):
        await asyncio.sleep((midnight - now).total_seconds())


async def _draft(recorder: Recorder) -> None:
    """A draft that is changed, placed, and called off."""
    shows, key = recorder.shows, {"Idempotency-Key": "draft-1"}
    asked = ("POST", "/v1/orders")
    opened = await shows("open_order", "draft", "A draft", *asked, json=DRAFT, headers=key)
    commands = f"/v1/orders/{opened['order_id']}/commands"

    both = [
        {"type": "change-item-quantity", "line_id": "bagels", "quantity": 3},
        {"type": "apply-discount", "discount_id": "welcome", "amount": 25},
    ]
    asked = ("POST", commands)
    body = {"commands": both}
    await shows("send_commands", "two", "Two, or none of them", *asked, json=body)
    note = {"note_id": "bell", "text": "The bell is broken, knock."}
    asked = ("POST", f"{commands}/add-note")
    await shows("add_note", "note", "A note", *asked, json=note)
    stale = {"If-Match": '"2"'}
    asked = ("POST", f"{commands}/place-order")
    await recorder.fails(412, "stale", "Others were quicker", *asked, json={}, headers=stale)
    asked = ("POST", f"{commands}/cancel-order")
    why = {"reason": "bought elsewhere"}
    ended = await shows("cancel_order", "cancelled", "With a reason", *asked, json=why)
    seen = {"consistency_token": ended["consistency_token"]}
    assert (await recorder.sends("GET", "/v1/stats/orders", params=seen)).is_success


async def _basket(recorder: Recorder) -> None:
    """A basket that is placed with one request, and read in all the ways there are."""
    shows, key = recorder.shows, {"Idempotency-Key": "31198570044"}
    asked = ("POST", "/v1/orders")
    summary = "A whole basket, placed at once"
    placed = await shows("open_order", "basket", summary, *asked, json=BASKET, headers=key)
    order_id, path = placed["order_id"], f"/v1/orders/{placed['order_id']}"
    recent = {"min_version": await _settled(recorder, path)}

    await shows(
        "get_order", "confirmed", "Paid for, and about to leave", "GET", path, params=recent
    )
    some = {**recent, "limit": 3}
    await shows(
        "get_history", "first", "The first three events", "GET", f"{path}/history", params=some
    )
    asked = ("GET", f"{path}/commands")
    await shows(
        "get_allowed_commands", "customer", "For a customer", *asked, scope=f"{READ} {WRITE}"
    )
    filters = {"customer_id": "900", "status": "confirmed"}
    await shows("list_orders", "confirmed", "Of a customer", "GET", "/v1/orders", params=filters)
    of_it = {"order_id": order_id, "limit": 2}
    await shows("list_events", "page", "A page of one order's", "GET", "/v1/events", params=of_it)
    token = {"consistency_token": f"{order_id}@{recent['min_version']}"}
    await shows("get_order_stats", "today", "One day", "GET", "/v1/stats/orders", params=token)

    another = {**TUNA, "line_id": "more"}
    asked = ("POST", f"{path}/commands/add-item-to-order")
    await recorder.fails(409, "placed", "It is no draft any more", *asked, json=another)
    customers = {"scope": f"{READ} {WRITE}", "json": {"amount": 100}}
    asked = ("POST", f"{path}/commands/refund-payment")
    await recorder.fails(403, "customer", "A command for operators", *asked, **customers)


async def _mistakes(recorder: Recorder) -> None:
    fails = recorder.fails
    wrong = {**DRAFT, "currency": "usd", "lines": [{**BAGELS, "quantity": "two"}]}
    await fails(422, "basket", "Two mistakes in a basket", "POST", "/v1/orders", json=wrong)
    await fails(404, "order", "No such order", "GET", "/v1/orders/ord_none")
    cursor = {"cursor": "x"}
    await fails(400, "cursor", "A made-up cursor", "GET", "/v1/orders", params=cursor)
    await fails(401, "token", "No token", "GET", "/v1/orders", scope="")


async def _settled(recorder: Recorder, path: str) -> int:
    """The version of an order once nobody owes it anything."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            with suppress(KeyError):  # It may not be there yet.
                order = (await recorder.sends("GET", path)).json()
                if order["status"] == "confirmed" and not order["pending"]:
                    return int(order["version"])
            await asyncio.sleep(0.05)


def text(examples: Json) -> str:
    """The examples as their file has them."""
    return json.dumps(examples, indent=2, ensure_ascii=False) + "\n"


async def record() -> None:
    """Writes the file anew, from servers of its own."""
    with postgres_server() as server:
        async with await WorkflowEnvironment.start_local(
            dev_server_existing_path=str(TEMPORAL),
            data_converter=pydantic_data_converter,
            search_attributes=[CUSTOMER, STATUS],
        ) as environment:
            recorded = await exchanges(environment.client, await new_database(server))
    EXAMPLES.write_text(text(recorded))


if __name__ == "__main__":
    asyncio.run(record())
