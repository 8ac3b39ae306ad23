"""Traffic on a service during a release, and what it may never see."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import httpx

Json = dict[str, Any]

SHOPPERS = 4
PAUSE_SECONDS = 0.15
ANSWER_SECONDS_MAX = 60.0
RETRY_SECONDS = 0.3
ORDERS = "/v1/orders"
ASYNC = {"Prefer": "respond-async"}
UNREADABLE = ("event-unreadable", "not-known-yet")
"""What an older version cannot read waits for a newer one, however long that takes."""


class Traffic:
    """Customers that open orders and send commands of both kinds, and repeat what a 503 rejects."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.complaints: list[str] = []
        self.versions: dict[str, int] = {}
        """By order, the highest version that a command result has named."""
        self.queued: list[str] = []
        """Where the states of asynchronous commands are."""
        self.responses: Counter[str] = Counter()
        """The number of responses by status, with the code of problems."""
        self._http = http
        self._dice = Random(15)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Sends inside the `async with`; each request that has begun is repeated to its end."""
        stopped = asyncio.Event()
        shoppers = [asyncio.create_task(self._shop(stopped)) for _ in range(SHOPPERS)]
        try:
            yield
        finally:
            stopped.set()
            await asyncio.gather(*shoppers)

    async def _shop(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            if len(self.versions) < SHOPPERS or self._dice.random() < 0.2:
                await self._open()
            else:
                await self._change(self._dice.choice([*self.versions]))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _open(self) -> None:
        quantity = self._dice.randint(1, 3)
        line = {"sku": "MILK", "title": "Milk", "quantity": quantity, "unit_price": 333}
        order = {"customer_id": "9", "currency": "USD", "lines": [line], "place": True}
        await self._post(ORDERS, order)

    async def _change(self, order_id: str) -> None:
        note = {"text": "Please ring twice."}
        choice = self._dice.random()
        if choice < 0.5:
            await self._post(f"{ORDERS}/{order_id}/commands/add-note", note)
        elif choice < 0.8:
            await self._post(f"{ORDERS}/{order_id}/commands/add-note", note, ASYNC)
        else:
            await self._read(f"{ORDERS}/{order_id}")

    async def _post(self, path: str, body: Json, headers: Mapping[str, str] | None = None) -> None:
        """Sends one command under one key until it is answered."""
        keyed = {"Idempotency-Key": secrets.token_hex(16), **(headers or {})}
        answer = await self._answer("POST", path, json=body, headers=keyed)
        if answer is None:
            return
        if answer.status_code == 202:
            self.queued.append(answer.json()["href"])
        elif answer.is_success:
            result = answer.json()
            known = self.versions.get(result["order_id"], 0)
            self.versions[result["order_id"]] = max(known, result["version"])
        else:
            self.complaints.append(f"{path} was answered {answer.status_code}: {answer.text}")

    async def _read(self, path: str) -> None:
        answer = await self._answer("GET", path)
        if answer is not None and answer.status_code not in (200, 404):
            self.complaints.append(f"{path} was answered {answer.status_code}: {answer.text}")

    async def _answer(self, method: str, path: str, **content: Any) -> httpx.Response | None:
        """The first answer that is no retryable 503; None if there is none in time."""
        clock = asyncio.get_running_loop().time
        until, code = clock() + ANSWER_SECONDS_MAX, "no response"
        while clock() < until:
            try:
                answer = await self._http.request(method, path, **content)
            except httpx.TransportError:
                code = "no response"
            else:
                code = _code(answer)
                self.responses[f"{answer.status_code} {code}".strip()] += 1
                if answer.status_code != 503:
                    return answer
                if "retry-after" not in answer.headers:
                    self.complaints.append(f"{path} was answered 503 without Retry-After: {code}")
                if code in UNREADABLE:
                    return None
            await asyncio.sleep(RETRY_SECONDS)
        self.complaints.append(
            f"{method} {path} had no answer for {ANSWER_SECONDS_MAX:g} s: {code}"
        )
        return None

    async def unsettled(self) -> list[str]:
        """The asynchronous commands that are still pending; complains of those that are lost."""
        pending: list[str] = []
        for href in self.queued:
            answer = await self._answer("GET", href)
            if answer is None:
                continue
            state = answer.json().get("state")
            if state == "pending":
                pending.append(href)
            elif state != "done":
                self.complaints.append(
                    f"an asynchronous command is {state or 'lost'}: {answer.text}"
                )
        return pending


def _code(answer: httpx.Response) -> str:
    """The code of a problem; empty for other answers."""
    if not answer.is_error:
        return ""
    try:
        return str(answer.json().get("code"))
    except ValueError:
        return "no problem document"
