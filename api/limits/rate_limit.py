"""So many requests a second from each caller: a bucket of tokens for each, one token a request.

Whoever is not known yet, or never gets known, is its address: a flood of bad tokens is stopped
before anything is verified.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import IPv6Address
from time import monotonic
from typing import NamedTuple

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems.errors import RateLimited
from api.problems.handlers import problem_of, problem_response
from settings import RateLimit

CALLERS_MAX = 50_000
ROUNDING = 1e-6  # Of a token: who comes again when told to finds one.
UNLIMITED = frozenset(("/healthz", "/readyz", "/metrics"))


class BucketState(NamedTuple):
    """How a bucket stands."""

    is_granted: bool
    left: int
    """Tokens that are in it."""
    next_s: float
    """Until one more is."""


class TokenBuckets:
    """A bucket for each caller. Time, in seconds, is passed in, and never goes back.

    The callers that were longest away are forgotten: should they come back, they find a full one.
    """

    def __init__(self, rate: RateLimit, callers_max: int = CALLERS_MAX) -> None:
        self._rate = rate
        self._callers_max = callers_max
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, caller: str, now: float) -> BucketState:
        """Takes a token, if there is one."""
        full_at = max(self._full_at.get(caller, now), now)
        tokens = self._rate.burst - (full_at - now) * self._rate.per_second
        is_granted = tokens + ROUNDING >= 1
        if is_granted:
            tokens, full_at = tokens - 1, full_at + 1 / self._rate.per_second
        self._keep(caller, full_at)
        left = math.floor(tokens + ROUNDING)
        return BucketState(is_granted, left, (left + 1 - tokens) / self._rate.per_second)

    def give_back(self, caller: str) -> None:
        """Puts a token back that was taken."""
        if caller in self._full_at:
            self._full_at[caller] -= 1 / self._rate.per_second

    def _keep(self, caller: str, full_at: float) -> None:
        self._full_at[caller] = full_at  # A bucket is no more than when it will be full.
        self._full_at.move_to_end(caller)
        if len(self._full_at) > self._callers_max:
            self._full_at.popitem(last=False)


class RateLimitMiddleware:
    """Charges each request to its address, or to its caller once that is known."""

    def __init__(self, app: ASGIApp, rate: RateLimit) -> None:
        self._app = app
        self._policy = f'"caller";q={rate.burst};w={math.ceil(rate.burst / rate.per_second)}'
        self.addresses, self.callers = TokenBuckets(rate), TokenBuckets(rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        charge = scope.setdefault("state", {})["charge"] = RateLimitCharge(self, _address(scope))

        async def send_told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers, level = MutableHeaders(scope=message), charge.level
                headers["RateLimit-Policy"] = self._policy
                headers["RateLimit"] = f'"caller";r={level.left};t={math.ceil(level.next_s)}'
            await send(message)

        if charge.level.is_granted:
            await self._app(scope, receive, send_told)
        else:
            problem = problem_of(RateLimited(math.ceil(charge.level.next_s)))
            await problem_response(Request(scope), problem)(scope, receive, send_told)


class RateLimitCharge:
    """Who pays for a request, and how that bucket stands."""

    def __init__(self, limits: RateLimitMiddleware, address: str) -> None:
        self._limits = limits
        self._address = address
        self.level = limits.addresses.take(address, monotonic())

    def pass_to(self, caller: str) -> None:
        """Lets a caller pay that is known by now; raises RateLimited if it cannot."""
        self._limits.addresses.give_back(self._address)
        self.level = self._limits.callers.take(caller, monotonic())
        if not self.level.is_granted:
            raise RateLimited(math.ceil(self.level.next_s))


def charge(request: Request, caller: str) -> None:
    """Charges a request to who is known to have sent it; raises RateLimited if that is too many."""
    if (charge := getattr(request.state, "charge", None)) is not None:
        charge.pass_to(caller)


def _address(scope: Scope) -> str:
    """Who cannot be told apart otherwise; of IPv6 everybody has a whole network of addresses."""
    host: str = (scope.get("client") or ("unknown", 0))[0]
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or int(address) >> 64)
