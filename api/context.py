"""What every request brings along: who and which one it is, its trace, and its conditions."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Annotated

from fastapi import Header, Request
from pydantic import WithJsonSchema
from starlette.types import Scope

import telemetry
from api.problems.problem import malformed_header

WAIT_SECONDS = 10.0
WAIT_SECONDS_MAX = 30.0
KEY_CHARACTERS_MAX = 255
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


@dataclass(frozen=True)
class CommandOptions:
    """How the caller wants a command carried out: its headers, understood."""

    key: str
    """The idempotency key, or one of our own for a caller that does without retries."""
    expected_version: int | None
    wait_seconds: float
    respond_async: bool
    """Whether the answer need not be waited for."""


async def terms(
    idempotency_key: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS_MAX}),
        Header(description="Your name for this request: repeat it and it is carried out once."),
    ] = None,
    if_match: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "pattern": r'^(\*|"[0-9]{1,9}")$'}),
        Header(description='The ETag you decided on, such as `"5"`; stale: 412.'),
    ] = None,
    prefer: Annotated[
        str | None,
        Header(
            description="`wait=N`: the seconds to wait for an answer; `respond-async`: do not wait."
        ),
    ] = None,
) -> CommandOptions:
    """Reads the headers of a command; raises a Problem that names the header to change."""
    return CommandOptions(
        key=_key(idempotency_key),
        expected_version=_version(if_match),
        wait_seconds=wait_seconds(prefer),
        respond_async=re.search(r"(?:^|[,;\s])respond-async(?![\w=-])", prefer or "") is not None,
    )


def _key(header: str | None) -> str:
    if header is None:
        return secrets.token_urlsafe(16)
    key = header[1:-1] if re.fullmatch(r'".*"', header) else header
    if not 0 < len(key) <= KEY_CHARACTERS_MAX:
        detail = f"must have between 1 and {KEY_CHARACTERS_MAX} characters"
        raise malformed_header("Idempotency-Key", detail)
    return key


def _version(if_match: str | None) -> int | None:
    if if_match is None or if_match.strip() == "*":
        return None
    match = re.fullmatch(r'\s*"(\d{1,9})"\s*', if_match)
    if match is None:
        raise malformed_header("If-Match", 'must be one version in quotes, such as "5"')
    return int(match[1])


def wait_seconds(prefer: str | None) -> float:
    """How long the caller would wait for an answer (RFC 7240)."""
    match = re.search(r"(?:^|[,;\s])wait=(\d{1,4})", prefer or "")
    return min(float(match[1]), WAIT_SECONDS_MAX) if match else WAIT_SECONDS


SHORT_HASH = "[A-Za-z0-9_-]{16}"


def short_hash(*parts: str) -> str:
    """96 bits that stand for `parts`, safe in a URL."""
    digest = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()
    return urlsafe_b64encode(digest[:12]).decode()


def payload_of(path: str, body: bytes) -> str:
    """The same for the same request, whatever the order of its keys and its white space."""
    return "\0".join([path, json.dumps(json.loads(body), sort_keys=True) if body else ""])
