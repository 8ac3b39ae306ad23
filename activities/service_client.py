"""HTTP calls to external services: one step per call, and what the response means for the step.

A **rejection** with a code that the order knows is a result like any other. A **failure** and an
**unknown outcome** are retried under the same idempotency key. Any **other rejection** and an
**unreadable response** need a person: the step is stuck. No message holds personal data.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio import activity
from temporalio.exceptions import ApplicationError

import telemetry
from activities import step_metrics
from activities.credentials import ANONYMOUS, Credentials
from activities.step_metrics import DECLINED, DONE
from orders.steps import StepRequest
from orders.text import one_line

# Types of ApplicationError. The first two are retried, the last is not.
SERVICE_FAILED = "service-failed"
OUTCOME_UNKNOWN = "outcome-unknown"
STEP_REJECTED = "step-rejected"

# 409 is the response while the first call under the same key is still running.
TEMPORARY = frozenset({408, 409, 425, 429})
RETRY_AFTER_MAX = timedelta(minutes=1)
# Less than the five seconds after which servers such as ours close an idle connection: a request
# on a connection that is just being closed has an unknown outcome.
KEEPALIVE_S = 2.0

# The request cannot have been sent: there was no connection.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

A = TypeVar("A", bound=BaseModel)


class Body(BaseModel):
    """The body of a response; other fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ErrorBody(Body):
    """The body of a response that rejects a step or fails."""

    code: str = ""
    reason: str = ""

    @property
    def reason_text(self) -> str:
        """The service's own words, or else its code, on one short line."""
        return one_line(self.reason) or one_line(self.code)


@dataclass(frozen=True)
class Reply:
    """A response that settles the step: it was done, or rejected with a known code."""

    service: str
    content: bytes
    rejection_code: str | None = None

    def read(self, shape: type[A]) -> A:
        """The body as `shape`; raises a rejection of the step if it does not fit."""
        try:
            return shape.model_validate_json(self.content)
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors()[:5])
            raise step_rejected(
                f"{self.service} gave an answer without a usable {fields}"
            ) from None


@dataclass(frozen=True)
class Service:
    """One external service, as the worker reaches it."""

    http: httpx.AsyncClient
    name: str
    """As in a sentence: "the payment service"."""
    variable: str
    """The setting that holds `url`."""
    url: str | None
    credentials: Credentials = ANONYMOUS

    @property
    def label(self) -> str:
        """As in metrics and settings: "payments"."""
        return self.variable.removeprefix("ORDERLY_").removesuffix("_URL").lower()

    async def call(
        self,
        request: StepRequest,
        method: str,
        path: str,
        body: Mapping[str, Any],
        rejections: Collection[str] = (),
        personal: bool = False,
    ) -> Reply:
        """Sends one step; returns a reply that settles it, and raises everything else.

        `rejections` are the error codes that settle it. `personal` marks a body with personal data:
        the service's own words may quote it, so they are not repeated.
        """
        if self.url is None:
            raise _failed(request, f"{self.variable} is not set")
        url = f"{self.url.rstrip('/')}{path}"
        with telemetry.TRACER.start_as_current_span(
            f"{request.step.type} at {self.name}",
            telemetry.continued(request.traceparent),
            kind=SpanKind.CLIENT,
            attributes={"orderly.order_id": request.order_id, **_http_attributes(method, url)},
        ) as span:
            content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
            headers = {
                "Content-Type": "application/json",
                "Idempotency-Key": request.key,
                "traceparent": telemetry.traceparent(request.traceparent),
                **self.credentials.headers(request.key, content),
            }
            with step_metrics.measured(self.label) as call:
                response = await self._exchange(request, method, url, headers, content)
                span.set_attribute("http.response.status_code", response.status_code)
                reply = self._classify(request, response, rejections, personal)
                call.outcome = DECLINED if reply.rejection_code else DONE
                return reply

    async def _exchange(
        self,
        request: StepRequest,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
    ) -> httpx.Response:
        try:
            # httpx restarts its timeout with each packet; this one is for the whole exchange.
            async with asyncio.timeout(self.http.timeout.read):
                return await self.http.request(method, url, headers=headers, content=content)
        except _NOT_SENT as error:
            _note_error(error)
            message = f"{self.name} cannot be reached: {_message_of(error)}"
            raise _failed(request, message) from error
        except (httpx.TransportError, TimeoutError) as error:
            _note_error(error)
            message = f"{self.name} did not answer, so the outcome is unknown: {_message_of(error)}"
            raise _failed(request, message, OUTCOME_UNKNOWN) from error

    def _classify(
        self,
        request: StepRequest,
        response: httpx.Response,
        rejections: Collection[str],
        personal: bool,
    ) -> Reply:
        if response.is_success:
            return Reply(self.name, response.content)
        status = response.status_code
        error = _error_body(response.content)
        if 400 <= status < 500 and error.code in rejections:
            return Reply(self.name, response.content, error.code)
        trace.get_current_span().set_attribute("error.type", str(status))
        reason = one_line(error.code) if personal else error.reason_text
        message = f"{self.name} answered {status}: {reason or _phrase(status)}"
        if status >= 500 or status in TEMPORARY:
            raise _failed(request, message, retry_after=_retry_after(response.headers))
        raise step_rejected(message)


def _http_attributes(method: str, url: str) -> dict[str, str | int]:
    """Of a call, by OpenTelemetry's semantic conventions; without a password in the URL."""
    parts = httpx.URL(url)
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.full": str(parts.copy_with(userinfo=b"")),
        "server.address": parts.host,
        "server.port": parts.port or {"https": 443}.get(parts.scheme, 80),
    }
    if activity.in_activity() and (repetitions := activity.info().attempt - 1):
        attributes["http.request.resend_count"] = repetitions
    return attributes


def _note_error(error: Exception) -> None:
    trace.get_current_span().set_attribute("error.type", type(error).__qualname__)


def http_client(timeout_seconds: float, tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """One client for all services; a whole exchange takes `timeout_seconds` at most."""
    return httpx.AsyncClient(
        verify=True if tls is None else tls,
        timeout=timeout_seconds,
        limits=httpx.Limits(keepalive_expiry=KEEPALIVE_S),
    )


def _failed(
    request: StepRequest,
    message: str,
    type_: str = SERVICE_FAILED,
    retry_after: timedelta | None = None,
) -> ApplicationError:
    """A failed attempt, with the id of its step: the activity itself has none that is known."""
    return ApplicationError(message, request.step.step_id, type=type_, next_retry_delay=retry_after)


def step_rejected(message: str) -> ApplicationError:
    """A step that no retry would settle: it waits for a person."""
    return ApplicationError(message, type=STEP_REJECTED, non_retryable=True)


def step_body(request: StepRequest) -> dict[str, Any]:
    """The fields of a request's body that say which step of which order it is."""
    return {"order_id": request.order_id, "step_id": request.step.step_id}


def url_path(*parts: str) -> str:
    """A path of these parts, percent-encoded."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _error_body(content: bytes) -> ErrorBody:
    try:
        return ErrorBody.model_validate_json(content)
    except ValidationError:
        return ErrorBody()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "not a registered HTTP status"


def _message_of(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__


def _retry_after(headers: httpx.Headers) -> timedelta | None:
    """The delay that the service asks for, in either form of RFC 9110, up to a minute."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdecimal():
        wait = timedelta(seconds=min(int(value), RETRY_AFTER_MAX.total_seconds()))
    else:
        try:
            wait = parsedate_to_datetime(value).astimezone(UTC) - datetime.now(UTC)
        except (ValueError, OverflowError):
            return None
    return min(wait, RETRY_AFTER_MAX) if wait > timedelta() else None
