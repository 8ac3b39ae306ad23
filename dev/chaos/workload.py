"""The load: shoppers that live whole orders, and followers of the feed, all recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from random import Random
from typing import Any, NamedTuple

import httpx

from dev.api_client import (
    ORDERS,
    PAUSE_S,
    RETRY_S,
    ApiClient,
    ApiRejection,
    ApiUnavailable,
    Json,
    document,
)
from dev.chaos.history import Attempt, History, trace_id
from dev.demo.order_session import OrderSession, OrderStalled
from dev.simulator_client import SimulatorClient, SimulatorError

RESPONSE_S_MAX = 15.0
HANG_UP_S = (0.005, 0.25)
AT_ONCE = 10
EVENTS = "/v1/events"
MANNERS = {"plain": 10, "hang-up": 4, "at-once": 2, "queued": 4, "if-match": 2}
"""How a command is sent, with weights."""
PAYMENT_METHODS = (
    *("pm_card", "pm_flapping", "pm_busy", "pm_slow", "pm_callback_first"),
    "pm_timeout_after_charging",
)
ADDRESS = {
    "name": "Ada Lovelace", "line1": "12 St James's Square", "city": "London",
    "postal_code": "SW1Y 4JH", "country": "GB",
}  # fmt: skip


class RecordingTransport(httpx.AsyncBaseTransport):
    """Passes requests to the APIs in turn, and records each with its response.

    A command is sent with its trace.
    """

    def __init__(
        self, inner: httpx.AsyncBaseTransport, history: History, api_urls: Sequence[str]
    ) -> None:
        self._inner = inner
        self._history = history
        self._apis = cycle([httpx.URL(url) for url in api_urls])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        key, api = request.headers.get("Idempotency-Key", ""), next(self._apis)
        request.url = request.url.copy_with(host=api.host, port=api.port)
        if key:
            request.headers["traceparent"] = f"00-{trace_id(key)}-{trace_id(key)[:16]}-01"
        response, content, began_s = None, b"", time.monotonic()
        try:
            response = await self._inner.handle_async_request(request)
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                content = await response.aread()
        except BaseException:
            response = None  # Also if the response broke off, or the client hung up.
            raise
        finally:
            self._history.attempts.append(_attempt(request, began_s, response, content))
        return response


def _attempt(
    request: httpx.Request, began_s: float, response: httpx.Response | None, content: bytes
) -> Attempt:
    required = request.headers.get("If-Match")
    return Attempt(
        request.method,
        request.url.path,
        response.status_code if response else None,
        _json_object(content),
        request.headers.get("Idempotency-Key", ""),
        dict(request.url.params),
        _json_object(request.content),
        int(required.strip('"')) if required else None,
        began_s,
        time.monotonic(),
    )


def _json_object(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        document = json.loads(content)
        return document if isinstance(document, dict) else {}
    return {}


class PatientSimulators(SimulatorClient):
    """Repeats a request until the simulators respond; what was done by then is no error."""

    async def _request(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        while True:
            try:
                return await super()._request(method, path, body)
            except SimulatorError as error:
                if error.status == 409:
                    return httpx.Response(204)
                if error.status is not None and error.status < 500:  # 500: its disk is full.
                    raise
            await asyncio.sleep(PAUSE_S)


class ShoppingSession(OrderSession):
    """An order whose commands are sent in the manner that the dice choose."""

    def __init__(
        self, api: ApiClient, simulators: SimulatorClient, opened: Json, dice: Random
    ) -> None:
        super().__init__(api, simulators, opened["order_id"])
        self._version = opened["version"]
        self._dice = dice

    async def act(self, name: str, fields: dict[str, Any]) -> None:
        """Sends a command, or calls the method of this name."""
        if "-" not in name:
            await getattr(self, name)(**fields)
            return
        try:
            await self.send(name, **fields)
        except ApiRejection as rejection:
            if rejection.status != 412:
                raise
            await self.send(name, **fields)  # The order changed since If-Match: decide again.

    async def send(self, command: str, **fields: Any) -> None:
        self._commands += 1
        key = f"{self.order_id}-{self._commands}"
        manner = self._dice.choices(list(MANNERS), list(MANNERS.values()))[0]
        headers: dict[str, str] = {}

        async def post() -> Json:
            response = await self._api.send_command(
                self.order_id, command, fields, key=key, headers=headers
            )
            return document(response)

        if manner == "hang-up":
            await hang_up(post, self._dice)
        elif manner == "queued":
            headers["Prefer"] = "respond-async"
        elif manner == "if-match":
            headers["If-Match"] = f'"{(await self.order())["version"]}"'
        if manner == "at-once":
            result = (await asyncio.gather(*(post() for _ in range(AT_ONCE))))[0]
        else:
            result = await post()
        while result.get("state") == "pending":
            result = await self._api.get(result["href"])
        result = result.get("result") or result
        self._version = max(self._version, result.get("version", 0))

    async def note_once(self) -> None:
        """Adds a note, hangs up and never learns of the outcome."""
        path, fields = f"{ORDERS}/{self.order_id}/commands/add-note", {"text": "Ring twice."}
        key = f"{self.order_id}-note"
        await hang_up(lambda: self._api.post(path, fields, key=key), self._dice)


async def hang_up(post: Callable[[], Awaitable[object]], dice: Random) -> None:
    """Sends a request, and closes the connection soon after it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(dice.uniform(*HANG_UP_S)):
            await post()


Act = tuple[str, dict[str, Any]]
"""A command, or a method of ShoppingSession, and its arguments."""

SHIP: Act = ("ship", {})
DELIVER: Act = ("deliver", {})
READY: Act = ("wait_until_ready", {})
MORE = {"type": "change-line", "line_id": "milk", "quantity": 5}
LESS = {"type": "remove-line", "line_id": "bread"}
BREAD = [{"line_id": "bread", "quantity": 2}]
STORIES: dict[str, list[Act]] = {
    "delivered": [SHIP, DELIVER],
    "returned": [
        *(SHIP, DELIVER),
        ("return_pieces", {"line_id": "milk", "quantity": 1, "reason": "too many"}),
    ],
    "refunded": [
        *(SHIP, DELIVER),
        ("refund-payment", {"amount": 50, "reason": "bruised"}),
        ("wait_until_settled", {}),
    ],
    "cancelled at once": [("cancel-order", {"reason": "changed my mind"})],
    "cancelled": [READY, ("cancel-order", {"reason": "changed my mind"})],
    "amended": [READY, ("amend-order", {"changes": [MORE, LESS]}), SHIP, DELIVER],
    "annotated": [("add-note", {"text": f"Ring {n} times."}) for n in range(12)],
    "held": [("hold-order", {}), ("note_once", {}), ("release-order", {}), SHIP, DELIVER],
    "without a line": [READY, ("cancel-lines", {"lines": BREAD}), SHIP, DELIVER],
    "declined": [
        ("wait_for_decision", {"decision": "payment"}),
        ("retry-payment", {"method": "pm_card"}),
        *(SHIP, DELIVER),
    ],
    "short": [
        ("wait_for_decision", {"decision": "shortfall"}),
        ("accept-shortfall", {}),
        *(SHIP, DELIVER),
    ],
}


class Plan(NamedTuple):
    """One order: how it is opened, and what happens to it then."""

    key: str
    body: dict[str, Any]
    hangs_up: bool
    """Whether the first request to open it is broken off."""
    acts: list[Act]


def plan(run: str, seed: int, shopper: int, number: int) -> tuple[Plan, Random]:
    """A shopper's order of this number, and the dice that choose how its commands are sent."""
    dice = Random(f"{seed} {shopper} {number}")
    name, key = dice.choice(list(STORIES)), f"{run}-{shopper}-{number}"
    method = "pm_declined" if name == "declined" else dice.choice(PAYMENT_METHODS)
    sku = f"SHORT-1-{key}" if name == "short" else "BREAD"
    lines = [
        {"line_id": "milk", "sku": "MILK", "title": "Milk", "quantity": 4, "unit_price": 179},
        {"line_id": "bread", "sku": sku, "title": "Bread", "quantity": 2, "unit_price": 499},
    ]
    body: dict[str, Any] = {"customer_id": f"{run}-{shopper}", "currency": "USD"}
    body["shipping_address"] = dice.choice((ADDRESS, None))
    acts = STORIES[name]
    if dice.random() < 0.3:  # A draft that is filled, and placed by a command of its own.
        added = [("add-item-to-order", line) for line in lines]
        acts = [*added, ("place-order", {"payment_method": method}), *acts]
    else:
        body |= {"lines": lines, "payment_method": method, "place": True}
    return Plan(key, body, dice.random() < 0.3, acts), dice


class Load:
    """Shoppers and followers of one run; `stop_shopping` lets open orders come to their end."""

    def __init__(
        self, history: History, api_urls: Sequence[str], simulators_url: str, run: str
    ) -> None:
        self.history = history
        self._run = run
        self._urls = api_urls, simulators_url
        self._is_open = True

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Load]:
        """Connects to the API and the simulators inside the `async with`."""
        inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=200))
        api_urls, simulators_url = self._urls
        transport = RecordingTransport(inner, self.history, api_urls)
        async with (
            httpx.AsyncClient(
                base_url=api_urls[0], timeout=RESPONSE_S_MAX, transport=transport
            ) as api,
            httpx.AsyncClient(base_url=simulators_url, timeout=5, trust_env=False) as simulators,
        ):
            self.http, self.api = api, ApiClient(api, retry_s=2 * RETRY_S)
            self._simulators_http, self.simulators = simulators, PatientSimulators(simulators)
            yield self

    async def is_served(self, number: int) -> bool:
        """Whether a new order is opened and read, and the simulators respond, in one try each."""
        body = {"customer_id": "probe", "currency": "USD"}
        headers = {"Idempotency-Key": f"{self._run}-probe-{number}"}
        opened = await self.http.post(ORDERS, json=body, headers=headers)
        if opened.status_code != 201:
            return False
        path, query = f"{ORDERS}/{opened.json()['order_id']}", {"min_version": 1}
        read = await self.http.get(path, params=query)
        alive = await self._simulators_http.get("/healthz")
        return read.is_success and alive.is_success

    async def send_again(self, attempt: Attempt) -> None:
        """Sends an acknowledged command under its key once more, until it is answered."""
        headers = {} if attempt.if_match is None else {"If-Match": f'"{attempt.if_match}"'}
        await self.api.post(attempt.path, attempt.body, key=attempt.key, headers=headers)

    def stop_shopping(self) -> None:
        self._is_open = False

    async def shop(self, seed: int, shopper: int) -> None:
        """Lives one order after the other."""
        number = 0
        while self._is_open:
            number += 1
            await self._live(*plan(self._run, seed, shopper, number))

    async def _live(self, plan: Plan, dice: Random) -> None:
        # A rejection is recorded, and an order that stalled is judged at the end.
        with suppress(ApiRejection, OrderStalled):
            try:
                if plan.hangs_up:
                    await hang_up(lambda: self.api.open_order(plan.body, key=plan.key), dice)
                opened = await self.api.open_order(plan.body, key=plan.key)
                session = ShoppingSession(self.api, self.simulators, opened, dice)
                for name, fields in plan.acts:
                    await session.act(name, fields)
            except ApiUnavailable as error:
                self.history.stuck.append(f"{plan.key}: {error}")

    async def follow_pages(self, name: str) -> None:
        """Follows the feed by pages, for ever."""
        seen = self.history.followers.setdefault(name, [])
        query: dict[str, str] = {}
        while True:
            page = await self.api.get(EVENTS, **query)
            seen += page["items"]
            query = {"cursor": page["next"]}
            if not page["items"]:
                await asyncio.sleep(PAUSE_S / 2)

    async def follow_stream(self, name: str) -> None:
        """Follows the feed as a stream, for ever; reconnects where it was cut off."""
        seen = self.history.followers.setdefault(name, [])
        headers = {"Accept": "text/event-stream"}
        while True:
            with suppress(httpx.TransportError):
                async with self.http.stream("GET", EVENTS, headers=headers) as response:
                    if response.status_code == 200:
                        await _read_stream(response, headers, seen)
            await asyncio.sleep(PAUSE_S / 2)


async def _read_stream(
    response: httpx.Response, headers: dict[str, str], seen: list[dict[str, Any]]
) -> None:
    """Reads messages; an event counts once its message is complete."""
    message: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            message[name] = value
            continue
        if "data" in message:
            seen.append(json.loads(message["data"]))
        if "id" in message:
            headers["Last-Event-ID"] = message["id"]
        message = {}
