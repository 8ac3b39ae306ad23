"""How another service is asked to do one step, and how its answers are told apart.

A **refusal** that has a meaning for the order is an answer like any other. A **failure** and an
**unknown outcome** are asked again under the same key; what was **refused without a meaning** or
**cannot be understood** is for a person. No message holds what belongs to a customer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio.exceptions import ApplicationError

import telemetry
from orders.steps import StepRequest

# Types of ApplicationError. The first two are worth another try, the last is not.
FAILED = "outside-failed"
OUTCOME_UNKNOWN = "outcome-unknown"
REFUSED_STEP = "refused-step"

# 409 is what a service answers while the first call under the same key is still under way.
TEMPORARY = frozenset({408, 409, 425, 429})
RETRY_AFTER_MAX = timedelta(minutes=1)
REASON_CHARACTERS_MAX = 200
# Below the five seconds after which servers such as ours hang up: one that hangs up just as we
# write would leave us with an unknown outcome.
KEEPALIVE_S = 2.0

# The request cannot have left: the connection was never there.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

A = TypeVar("A", bound=BaseModel)


class Body(BaseModel):
    """What another service says; whatever else it says is its own affair."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Rejection(Body):
    """What a service says when it does not do what was asked, whatever else it adds."""

    code: str = ""
    reason: str = ""

    @property
    def said(self) -> str:
        """Why, in the service's own words, as far as they fit on a line."""
        return _one_line(self.reason) or _one_line(self.code)


@dataclass(frozen=True)
class Reply:
    """An answer that an order can go on with: it was done, or refused by one of the known codes."""

    service: str
    content: bytes
    refused: str | None = None

    def read(self, shape: type[A]) -> A:
        """The answer, understood; raises what is for a person where it cannot be."""
        try:
            return shape.model_validate_json(self.content)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, e["loc"])) or "body" for e in error.errors()[:5])
            raise rejected_step(
                f"{self.service} gave an answer without a usable {places}"
            ) from None


@dataclass(frozen=True)
class Service:
    """One party on the other side, as the worker reaches it."""

    http: httpx.AsyncClient
    name: str
    """As in a sentence: "the payment service"."""
    variable: str
    """The setting that holds `url`."""
    url: str | None

    async def ask(
        self,
        request: StepRequest,
        method: str,
        path: str,
        body: Mapping[str, Any],
        refusals: Collection[str] = (),
        personal: bool = False,
    ) -> Reply:
        """Its answer to one step, done or refused with a code in `refusals`; raises all else.

        `personal` says that `body` holds what belongs to a customer: the service's own words are
        not repeated then, because they may quote it.
        """
        if self.url is None:
            raise ApplicationError(f"{self.variable} is not set", type=FAILED)
        with telemetry.TRACER.start_as_current_span(
            f"{request.step.type} at {self.name}",
            telemetry.continued(request.traceparent),
            kind=SpanKind.CLIENT,
        ) as span:
            span.set_attribute("orderly.order_id", request.order_id)
            headers = {
                "Idempotency-Key": request.key,
                "traceparent": telemetry.traceparent(request.traceparent),
            }
            url = f"{self.url.rstrip('/')}{path}"
            response = await self._exchange(method, url, headers, body)
            span.set_attribute("http.response.status_code", response.status_code)
            return self._told_apart(response, refusals, personal)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any]
    ) -> httpx.Response:
        try:
            # httpx counts anew with each packet; a service that trickles must not keep us.
            async with asyncio.timeout(self.http.timeout.read):
                return await self.http.request(method, url, headers=headers, json=body)
        except _NOT_SENT as error:
            raise ApplicationError(
                f"{self.name} cannot be reached: {_words(error)}", type=FAILED
            ) from error
        except (httpx.TransportError, TimeoutError) as error:
            raise ApplicationError(
                f"{self.name} was asked and did not answer, so the outcome is unknown: "
                f"{_words(error)}",
                type=OUTCOME_UNKNOWN,
            ) from error

    def _told_apart(
        self, response: httpx.Response, refusals: Collection[str], personal: bool
    ) -> Reply:
        if response.is_success:
            return Reply(self.name, response.content)
        status = response.status_code
        refusal = _refusal(response.content)
        if 400 <= status < 500 and refusal.code in refusals:
            return Reply(self.name, response.content, refusal.code)
        said = refusal.code if personal else refusal.said
        message = f"{self.name} answered {status}: {_one_line(said) or _phrase(status)}"
        if status >= 500 or status in TEMPORARY:
            raise ApplicationError(
                message, type=FAILED, next_retry_delay=_retry_after(response.headers)
            )
        raise rejected_step(message)


def connected(timeout_seconds: float) -> httpx.AsyncClient:
    """One client for all services; a whole exchange takes `timeout_seconds` at most."""
    return httpx.AsyncClient(
        timeout=timeout_seconds, limits=httpx.Limits(keepalive_expiry=KEEPALIVE_S)
    )


def rejected_step(message: str) -> ApplicationError:
    """What asking again will not change: the step waits for a person."""
    return ApplicationError(message, type=REFUSED_STEP, non_retryable=True)


def in_path(*parts: str) -> str:
    """A path of these parts, whatever characters they are made of."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _refusal(content: bytes) -> Rejection:
    try:
        return Rejection.model_validate_json(content)
    except ValidationError:
        return Rejection()


def _one_line(text: str) -> str:
    return " ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", text).split())[:REASON_CHARACTERS_MAX]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "a status that HTTP does not know"


def _words(error: Exception) -> str:
    return _one_line(str(error)) or type(error).__name__


def _retry_after(headers: httpx.Headers) -> timedelta | None:
    """How long the service would be left alone; both forms of RFC 9110, within reason."""
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
