"""Calls of a service as an order makes them, and what is expected of each response."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from activities.credentials import ANONYMOUS, Credentials

CUT_S = 0.05
"""After this time a call is cut whose response is to be lost."""
BUSY_S_MAX = 10.0

Json = Mapping[str, Any]


class Wrong(Exception):
    """What a service does against the contract, as the rest of a sentence."""


class Unreachable(Exception):
    """The service cannot be called at all; the message is a sentence."""


@dataclass(frozen=True)
class Call:
    """One request, which can be repeated under its key."""

    path: str
    body: Json
    method: str = "POST"
    key: str = field(default_factory=lambda: f"check-{secrets.token_hex(8)}")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Caller:
    """Sends calls; a response that is incomplete after `timeout_s` is a fault."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base_url: str,
        timeout_s: float,
        credentials: Credentials = ANONYMOUS,
    ) -> None:
        self._http = http
        self._credentials = credentials
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s

    def anonymous(self) -> Caller:
        """One that sends no credentials."""
        return Caller(self._http, self._base_url, self._timeout_s)

    async def send(self, call: Call) -> httpx.Response:
        """Its response; raises Wrong without a complete one, and Unreachable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._request(call)
        except (httpx.ConnectError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Unreachable(f"{self._base_url} cannot be reached: {error}.") from None
        except (httpx.TransportError, TimeoutError) as error:
            why = str(error) or f"within {self._timeout_s:g} seconds"
            raise Wrong(f"{call} got no complete response ({why})") from None

    async def lose_response(self, call: Call) -> None:
        """Sends a call, and closes the connection before the response is read."""
        with suppress(httpx.TransportError, TimeoutError):
            async with asyncio.timeout(CUT_S):
                await self._request(call, Connection="close")

    async def _request(self, call: Call, **more: str) -> httpx.Response:
        content = json.dumps(call.body).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": call.key,
            "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00",
            **self._credentials.headers(call.key, content),
            **more,
        }
        return await self._http.request(
            call.method, f"{self._base_url}{call.path}", headers=headers, content=content
        )

    async def settle(self, call: Call) -> httpx.Response:
        """Repeats a call, as orders do, while the first one under its key still runs."""
        deadline = asyncio.get_running_loop().time() + BUSY_S_MAX
        while True:
            response = await self.send(call)
            if not _is_busy(response) or asyncio.get_running_loop().time() > deadline:
                return response
            await asyncio.sleep(0.1)

    async def done(self, call: Call) -> Json:
        """The body of a 2xx."""
        return accepted(call, await self.settle(call))

    async def repeats(self, call: Call, first: Json) -> None:
        """The same key must return the first response."""
        again = await self.settle(call)
        if accepted(call, again) != first:
            raise Wrong(f"{call} under the same key answered otherwise the second time")

    async def refuses(self, call: Call, *codes: str, status: int | None = None) -> None:
        """A 4xx with a code, one of `codes` if any are named."""
        response = await self.settle(call)
        code = _code_of(response)
        if response.is_success:
            raise Wrong(f"{call} was accepted ({response.status_code})")
        if response.status_code >= 500:
            raise Wrong(f"{call} answered {response.status_code}, which is retried for ever")
        if status is not None and response.status_code != status:
            raise Wrong(f"{call} answered {response.status_code} instead of {status}")
        if code is None:
            raise Wrong(f'{call} answered {response.status_code} without {{"code", "reason"}}')
        if codes and code not in codes:
            raise Wrong(f"{call} answered the code {code} instead of {' or '.join(codes)}")


def accepted(call: Call, response: httpx.Response) -> Json:
    """The JSON object of a 2xx; raises Wrong for anything else."""
    if not response.is_success:
        raise Wrong(f"{call} answered {response.status_code} ({_code_of(response) or 'no code'})")
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Wrong(f"{call} answered {response.status_code} without a JSON object")
    return body


def text_in(call: Call, body: Json, name: str, type_: Any) -> str:
    """A field that must be a text of this annotated type."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise Wrong(f"{call} answered without the text `{name}`")
    try:
        TypeAdapter(type_).validate_python(value)
    except ValidationError as error:
        raise Wrong(f"{call} answered a `{name}` that {error.errors()[0]['msg']}") from None
    return value


def _is_busy(response: httpx.Response) -> bool:
    """Whether the same call is to be sent again, as the first one may still run."""
    is_answer = _code_of(response) in ("gone", "stopped")
    return response.status_code in (409, 425, 429, 503) and not is_answer


def _code_of(response: httpx.Response) -> str | None:
    try:
        body = response.json()
    except ValueError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("reason"), str):
        return None
    code = body.get("code")
    return code if isinstance(code, str) and code else None
