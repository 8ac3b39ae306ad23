"""What every request brings along: who and which one it is, its trace, and its conditions."""

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

WAIT_SECONDS = 10.0
WAIT_SECONDS_MAX = 30.0
VERSION_MAX = 2**31 - 1
METHODS = frozenset("GET HEAD OPTIONS POST PUT PATCH DELETE".split())


@dataclass(frozen=True)
class RequestContext:
    """One HTTP request, as far as it matters to an order."""

    attempt_id: str
    """Ours, new for each request: tells a first answer from a repeated one."""
    request_id: str
    """The caller's X-Request-Id, or else `attempt_id`."""
    given_traceparent: str | None = None
    actor: str = "anonymous"
    """Who sends it, as its token says; also, what it names is told from what others name."""
    customer_id: str | None = None
    """Whose orders alone there are for the caller; None: everybody's."""
    good_until: float = inf
    """When its token ends, in seconds since 1970: nothing is sent to it any more."""

    @cached_property
    def traceparent(self) -> str:
        """The trace to hand on, a valid one; made when first needed, as by most reads never."""
        return telemetry.traceparent(self.given_traceparent)

    @property
    def trace_id(self) -> str:
        return self.traceparent.split("-")[1]


def context_of(request: Request) -> RequestContext:
    """The context of a request; made once, by whoever asks first."""
    if not hasattr(request.state, "context"):
        request.state.context = new_context(request.headers)
    context: RequestContext = request.state.context
    return context


def new_context(headers: Mapping[str, str]) -> RequestContext:
    """The context of a request that brings these headers along."""
    attempt_id = secrets.token_urlsafe(9)
    return RequestContext(
        attempt_id=attempt_id,
        request_id=given_request_id(headers) or attempt_id,
        given_traceparent=headers.get("traceparent"),
    )


def given_request_id(headers: Mapping[str, str]) -> str | None:
    """The caller's own id for this request, if it can be trusted to go into a log line."""
    given = headers.get("x-request-id", "")
    return given if re.fullmatch(r"[\x21-\x7e]{1,64}", given) else None


def route_of(scope: Scope) -> str:
    """The route of a request, not its path, which callers can think up; known once it is found."""
    return getattr(scope.get("route"), "path", "none")


def method_of(scope: Scope) -> str:
    """The method of a request, if it is one that HTTP has."""
    method: str = scope["method"]
    return method if method in METHODS else "other"


def wait_seconds(prefer: str | None) -> float:
    """How long the caller would wait for an answer (RFC 7240)."""
    match = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", prefer or "")
    return min(float(match[1]), WAIT_SECONDS_MAX) if match else WAIT_SECONDS


SHORT_HASH = "[a-z2-7]{20}"


def short_hash(*parts: str) -> str:
    """96 bits that stand for `parts`, as lower-case letters and digits (base32)."""
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
    return b32encode(digest[:12]).decode().rstrip("=").lower()


def canonical_payload(path: str, body: bytes) -> str:
    """The same text for the same request, independent of the order of keys and of white space."""
    return "\0".join([path, json.dumps(json.loads(body), sort_keys=True) if body else ""])
