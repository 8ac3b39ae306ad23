"""The context of a request: its ids, its trace, and its caller."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf

from fastapi import Request
from starlette.types import Scope

import telemetry

ANONYMOUS = "anonymous"
WAIT_SECONDS = 10.0
WAIT_SECONDS_MAX = 30.0
VERSION_MAX = 2**31 - 1
METHODS = frozenset("GET HEAD OPTIONS POST PUT PATCH DELETE".split())


@dataclass(frozen=True)
class RequestContext:
    """What orders, logs and checks need to know of one HTTP request."""

    attempt_id: str
    """Generated for each request: tells a first response from a replayed one."""
    request_id: str
    """The caller's X-Request-Id, or `attempt_id` without one."""
    client_traceparent: str | None = None
    actor: str = ANONYMOUS
    """The caller by its token; it also separates the idempotency keys of callers."""
    customer_id: str | None = None
    """The only customer whose orders the caller can access; None: all customers."""
    expires_at: float = inf
    """When the token expires, in seconds since 1970; event streams end then."""

    @property
    def is_customer(self) -> bool:
        """Whether the caller is a customer, with access to its own orders only."""
        return self.customer_id is not None

    @property
    def caller(self) -> str:
        """The kind of the caller."""
        if self.is_customer:
            return "customer"
        return ANONYMOUS if self.actor == ANONYMOUS else "operator"

    @cached_property
    def traceparent(self) -> str:
        """A valid traceparent to pass on; created on first use, as most reads need none."""
        return telemetry.traceparent(self.client_traceparent)

    @property
    def trace_id(self) -> str:
        return self.traceparent.split("-")[1]


def context_of(request: Request) -> RequestContext:
    """The context of a request, created on first use."""
    if not hasattr(request.state, "context"):
        request.state.context = new_context(request.headers)
    context: RequestContext = request.state.context
    return context


def new_context(headers: Mapping[str, str]) -> RequestContext:
    """The context of a request with these headers."""
    attempt_id = secrets.token_urlsafe(9)
    return RequestContext(
        attempt_id=attempt_id,
        request_id=client_request_id(headers) or attempt_id,
        client_traceparent=headers.get("traceparent"),
    )


def client_request_id(headers: Mapping[str, str]) -> str | None:
    """The caller's X-Request-Id, if it is safe in a log line."""
    request_id = headers.get("x-request-id", "")
    return request_id if re.fullmatch(r"[\x21-\x7e]{1,64}", request_id) else None


def route_of(scope: Scope) -> str:
    """The path template of the matched route, or "none": callers cannot invent values of it."""
    return getattr(scope.get("route"), "path", "none")


def method_of(scope: Scope) -> str:
    """The method of a request, or "other": callers cannot invent values of it."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


def wait_seconds(prefer: str | None) -> float:
    """The seconds that the caller is willing to wait, from `Prefer: wait=N` (RFC 7240)."""
    match = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", prefer or "")
    return min(float(match[1]), WAIT_SECONDS_MAX) if match else WAIT_SECONDS


SHORT_HASH = "[a-z2-7]{20}"


def short_hash(*parts: str) -> str:
    """A 96-bit hash of `parts`, as lower-case letters and digits (base32)."""
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
    return b32encode(digest[:12]).decode().rstrip("=").lower()


def order_id_of(actor: str, key: str) -> str:
    """The id of the order that a request opens: the same for each repetition."""
    return f"ord_{short_hash(actor, key)}"


def command_id_of(actor: str, key: str) -> str:
    """The id of a caller's command by its idempotency key: a repeated one is executed once."""
    return short_hash(actor, key)


def canonical_payload(path: str, body: bytes) -> str:
    """The same text for the same request, independent of the order of keys and of white space."""
    return "\0".join([path, json.dumps(json.loads(body), sort_keys=True) if body else ""])
