"""HTTP client of orderly's API: idempotency keys, retries, problem documents, waiting for versions.

ApiError
├── ApiUnavailable   no response, 429 or 5xx after all retries, or no JSON object
└── ApiRejection     another 4xx: a problem document with its field errors
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import httpx

ORDERS = "/v1/orders"
TIMEOUT_S = 35.0  # The API answers within 10 seconds, or as many as `Prefer: wait` says, up to 30.
RETRY_S = 60.0
PAUSE_S = 0.5
PAUSE_S_MAX = 10.0
PAGE_SIZE = 100
LONG_POLL_S = 5
RETRYABLE = (429, 503)

Json = Mapping[str, Any]


class ApiError(Exception):
    """The API did not do what it was asked to; the message quotes its response."""


class ApiUnavailable(ApiError):
    """No usable response within the retry time."""


class FieldError(NamedTuple):
    """One entry of a problem's `errors`; `location` is a JSON pointer, a header or empty."""

    location: str
    code: str
    detail: str


class ApiRejection(ApiError):
    """The request was rejected; nothing was changed."""

    def __init__(self, status: int, problem: Json, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = str(problem.get("code"))
        self.detail = str(problem.get("detail"))
        self.errors = [
            FieldError(e.get("pointer") or e.get("header") or "", e["code"], e["detail"])
            for e in problem.get("errors", [])
        ]


class ConditionTimeout(Exception):
    """An order did not meet a condition in time; `order` is its newest state."""

    def __init__(self, order: Json, timeout_s: float) -> None:
        super().__init__(f"after {timeout_s:g} s: {order}")
        self.order = order


class ApiClient:
    """Sends requests, and repeats those that failed for a while, under the same idempotency key.

    `retry_s` is how long a request is repeated (0: never). `wait_s` is sent as `Prefer: wait`.
    """

    def __init__(
        self, http: httpx.AsyncClient, *, retry_s: float = RETRY_S, wait_s: int | None = None
    ) -> None:
        self._http = http
        self._retry_s = retry_s
        self._prefer = {} if wait_s is None else {"Prefer": f"wait={wait_s}"}
        self.posts = 0
        """POST requests with a final response, be it a rejection."""
        self.retries = 0

    async def open_order(self, body: Json, *, key: str | None = None) -> Json:
        """Opens an order; returns the command result."""
        return document(await self.post(ORDERS, body, key=key))

    async def command(
        self, order_id: str, command: str, fields: Json, *, key: str | None = None
    ) -> Json:
        """Sends one command; returns its result."""
        return document(await self.send_command(order_id, command, fields, key=key))

    async def send_command(
        self,
        order_id: str,
        command: str,
        fields: Json,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Sends one command; returns the response, also an error."""
        path = f"{ORDERS}/{order_id}/commands/{command}"
        return await self.post(path, fields, key=key, headers=headers)

    async def post(
        self,
        path: str,
        body: Json,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Posts under an idempotency key, by default a new one."""
        keyed = {"Idempotency-Key": key or secrets.token_hex(16), **(headers or {})}
        response = await self._request("POST", path, keyed, json=body)
        self.posts += response.status_code not in RETRYABLE
        return response

    async def order(self, order_id: str, min_version: int = 0) -> Json:
        """The order as the read model has it, at `min_version` or later."""
        return await self.get(f"{ORDERS}/{order_id}", min_version=min_version)

    async def newer_order(self, order_id: str, version: int) -> Json | None:
        """The order after `version`, by long polling; None if there is nothing new yet."""
        params, headers = {"min_version": version + 1}, {"Prefer": f"wait={LONG_POLL_S}"}
        try:
            response = await self._http.get(f"{ORDERS}/{order_id}", params=params, headers=headers)
        except httpx.TransportError:
            response = None
        if response is None or response.status_code in RETRYABLE:
            await asyncio.sleep(PAUSE_S)
            return None
        return document(response)

    async def wait_until(
        self,
        order_id: str,
        condition: Callable[[Json], bool],
        *,
        min_version: int = 0,
        timeout_s: float = RETRY_S,
    ) -> Json:
        """The order once it meets the condition; raises ConditionTimeout."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        order = await self.order(order_id, min_version)
        while not condition(order):
            if clock() > deadline:
                raise ConditionTimeout(order, timeout_s)
            order = await self.newer_order(order_id, order["version"]) or order
        return order

    async def history(self, order_id: str, after: int = 0, min_version: int = 0) -> list[Json]:
        """The events after a version, oldest first, with `min_version`: one page of them."""
        path = f"{ORDERS}/{order_id}/history"
        page = await self.get(path, cursor=after, min_version=min_version)
        items: list[Json] = page["items"]
        return items

    async def orders(self) -> AsyncIterator[Json]:
        """Every order in the read model, oldest first."""
        params: dict[str, str | int] = {"sort": "opened_at", "limit": PAGE_SIZE}
        while True:
            page = await self.get(ORDERS, **params)
            for order in page["items"]:
                yield order
            if page["next"] is None:
                return
            params["cursor"] = page["next"]

    async def get(self, path: str, **params: str | int) -> Json:
        """The document at a path."""
        return document(await self._request("GET", path, {}, params=params))

    async def _request(
        self, method: str, path: str, headers: Mapping[str, str], **content: Any
    ) -> httpx.Response:
        """The first response that need not be repeated, or the last one when time is up."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._retry_s
        while True:
            response, pause_s = None, PAUSE_S
            try:
                response = await self._http.request(
                    method, path, headers={**self._prefer, **headers}, **content
                )
            except httpx.TransportError as error:
                failure = f"no response ({str(error) or type(error).__name__})"
            else:
                if response.status_code not in RETRYABLE:
                    return response
                pause_s = _retry_after_s(response)
            if clock() + pause_s > deadline:
                if response is not None:
                    return response
                raise ApiUnavailable(f"{method} {path}: {failure}")
            self.retries += 1
            await asyncio.sleep(pause_s)


def document(response: httpx.Response) -> Json:
    """The JSON object in a response; raises ApiUnavailable or ApiRejection."""
    where = f"{response.request.method} {response.url.path}: {response.status_code}"
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiUnavailable(f"{where}, and not a JSON object")
    if response.is_success:
        return body
    parts = (body.get(part) for part in ("code", "detail", "request_id"))
    message = " · ".join([where, *(str(part) for part in parts if part)])
    if response.is_client_error and response.status_code not in RETRYABLE:
        raise ApiRejection(response.status_code, body, message)
    raise ApiUnavailable(message)


def _retry_after_s(response: httpx.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), PAUSE_S_MAX) if seconds.isdecimal() else PAUSE_S
