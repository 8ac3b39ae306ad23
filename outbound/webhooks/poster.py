"""Posts webhooks to one endpoint, and reads only the beginning of each answer.

It connects to addresses that were checked after the name was resolved, follows no redirect, uses no
proxy, and ends each attempt in time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpcore
import httpx

from outbound.webhooks.addresses import AllowedNetworks, resolve

CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 1.0
"""For the body of an answer, once its status is known."""
# A connection is used again only if its answer was shorter.
ANSWER_BYTES_MAX = 16 * 1024
ANSWER_BYTES_KEPT = 256
RETRY_AFTER_MAX = timedelta(days=1)
# Below the 5 seconds after which many servers close an idle connection: a request that is sent at
# that moment would fail.
IDLE_SECONDS_MAX = 4.0
GONE = 410
_UNREACHABLE_STATUSES = (429, 502, 503, 504)
_NO_CONNECTION = (OSError, httpcore.ConnectError, httpcore.ConnectTimeout, ssl.SSLError)
_NO_ANSWER = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class Verdict(Enum):
    """What an attempt says about the event and the endpoint."""

    DELIVERED = auto()
    REJECTED = auto()
    """It failed, perhaps because of the event."""
    UNREACHABLE = auto()
    """It failed, and any event would have."""
    GONE = auto()
    """The endpoint wants no further events."""


class Answer(NamedTuple):
    """The outcome of one attempt."""

    status: int | None
    """None without an answer."""
    error: str | None
    """What went wrong; None if it was delivered."""
    body: str
    """The first bytes of the answer."""
    latency_ms: int
    verdict: Verdict
    retry_after: timedelta | None = None


class Poster:
    """Connections to one URL."""

    def __init__(
        self,
        url: str,
        networks: AllowedNetworks,
        concurrent_max: int,
        seconds_max: float,
        now: Callable[[], datetime],
    ) -> None:
        self._url = url
        self._now = now
        self._seconds_max = seconds_max
        is_encrypted = urlsplit(url).scheme == "https"
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls() if is_encrypted else None,
            max_connections=concurrent_max,
            keepalive_expiry=IDLE_SECONDS_MAX,
            network_backend=_CheckedNetwork(networks, is_encrypted=is_encrypted),
        )

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """One attempt; it never raises but if it is cancelled."""
        began = perf_counter()
        status, text, retry_after = None, "", None
        error, verdict = None, Verdict.REJECTED
        try:
            async with (
                asyncio.timeout(self._seconds_max),
                self._pool.stream(
                    "POST",
                    self._url,
                    headers=list(headers.items()),
                    content=body,
                    extensions={"timeout": {"connect": CONNECT_SECONDS_MAX}},
                ) as response,
            ):
                status = response.status
                retry_after = _retry_after(response.headers, self._now())
                text = await _first_bytes(response)
        except TimeoutError:
            error = f"no answer within {self._seconds_max:g} seconds"
        except _NO_CONNECTION as failure:
            error, verdict = f"cannot connect: {_words(failure)}", Verdict.UNREACHABLE
        except _NO_ANSWER as failure:
            error = f"no answer: {_words(failure)}"
        if status is not None:  # What came after it is of no interest.
            error, verdict = _judge(status)
        latency_ms = round((perf_counter() - began) * 1000)
        return Answer(status, error, text, latency_ms, verdict, retry_after)

    async def close(self) -> None:
        await self._pool.aclose()


def _judge(status: int) -> tuple[str | None, Verdict]:
    """What went wrong by an answer's status, if anything, and what that says."""
    if 200 <= status < 300:
        return None, Verdict.DELIVERED
    if status == GONE:
        return "answered 410: it wants no further events", Verdict.GONE
    if 300 <= status < 400:
        return f"answered {status}: redirects are not followed", Verdict.REJECTED
    verdict = Verdict.UNREACHABLE if status in _UNREACHABLE_STATUSES else Verdict.REJECTED
    return f"answered {status}", verdict


async def _first_bytes(response: httpcore.Response) -> str:
    content = b""
    with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            async for part in response.aiter_stream():
                content += part[:ANSWER_BYTES_MAX]
                if len(content) >= ANSWER_BYTES_MAX:
                    break
    kept = content[:ANSWER_BYTES_KEPT].decode(errors="replace")
    return "".join(character if character.isprintable() else " " for character in kept)


def _retry_after(headers: Iterable[tuple[bytes, bytes]], now: datetime) -> timedelta | None:
    """The pause that an answer asks for, at most a day; None without one."""
    for name, value in headers:
        if name.lower() != b"retry-after":
            continue
        text = value.decode("latin-1").strip()
        with suppress(ValueError, OverflowError):
            if text.isdigit():
                return min(timedelta(seconds=int(text[:9])), RETRY_AFTER_MAX)
            at = parsedate_to_datetime(text)
            return min(max(at.astimezone(UTC) - now, timedelta(0)), RETRY_AFTER_MAX)
    return None


def _words(failure: Exception) -> str:
    return str(failure) or type(failure).__name__


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name itself, and connects to one of its addresses that are allowed.

    TLS still checks the certificate against the name.
    """

    def __init__(self, networks: AllowedNetworks, *, is_encrypted: bool) -> None:
        self._networks = networks
        self._is_encrypted = is_encrypted
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # As httpcore calls it.
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await resolve(host, port)
        addresses = self._networks.check(host, found, is_encrypted=self._is_encrypted)
        for address in addresses[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return await self._inner.connect_tcp(str(address), port, timeout)
        return await self._inner.connect_tcp(str(addresses[-1]), port, timeout)

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise NotImplementedError("webhooks go to TCP ports only")
