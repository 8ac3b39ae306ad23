"""Rate limits: a token bucket for each caller, one token per request.

A caller that is not authenticated is identified by its address, so a flood of invalid tokens is
rejected before anything is verified.
"""

from __future__ import annotations

import math
from ipaddress import IPv6Address
from time import monotonic

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits.token_bucket import TokenBuckets
from api.problems.errors import RateLimited
from api.problems.handlers import problem_of, problem_response
from settings import RateLimit

UNLIMITED = frozenset(("/healthz", "/readyz"))
# That of an IPv6 address with an IPv4 address in it.
HOST_CHARACTERS_MAX = 45


class RateLimitMiddleware:
    """Charges each request to its address, or to its caller once that is authenticated."""

    def __init__(self, app: ASGIApp, rate: RateLimit) -> None:
        self._app = app
        self._policy = f'"caller";q={rate.burst};w={math.ceil(rate.burst / rate.per_second)}'
        self.addresses, self.callers = TokenBuckets(rate), TokenBuckets(rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNLIMITED:
            await self._app(scope, receive, send)
            return
        charge = scope.setdefault("state", {})["charge"] = RateLimitCharge(self, _address(scope))

        async def send_with_limit(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers, state = MutableHeaders(scope=message), charge.state
                headers["RateLimit-Policy"] = self._policy
                remaining, seconds = state.remaining, math.ceil(state.next_token_s)
                headers["RateLimit"] = f'"caller";r={remaining};t={seconds}'
            await send(message)

        if charge.state.is_granted:
            await self._app(scope, receive, send_with_limit)
        else:
            problem = problem_of(RateLimited(math.ceil(charge.state.next_token_s)))
            await problem_response(Request(scope), problem)(scope, receive, send_with_limit)


class RateLimitCharge:
    """The charge for one request: first to its address, then to its caller."""

    def __init__(self, limits: RateLimitMiddleware, address: str) -> None:
        self._limits = limits
        self._address = address
        self.state = limits.addresses.take(address, monotonic())

    def move_to(self, caller: str) -> None:
        """Charges the caller instead of the address; raises RateLimited."""
        self._limits.addresses.refund(self._address)
        self.state = self._limits.callers.take(caller, monotonic())
        if not self.state.is_granted:
            raise RateLimited(math.ceil(self.state.next_token_s))


def charge(request: Request, caller: str) -> None:
    """Charges a request to its authenticated caller; raises RateLimited."""
    if (charge := getattr(request.state, "charge", None)) is not None:
        charge.move_to(caller)


def _address(scope: Scope) -> str:
    """Rate-limit key of an unauthenticated client: its IPv4 address, or its IPv6 /64."""
    host: str = (scope.get("client") or ("unknown", 0))[0]
    if ":" not in host:
        return host[:HOST_CHARACTERS_MAX]
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:  # Anything may be in an X-Forwarded-For that only trusted proxies have seen.
        return host[:HOST_CHARACTERS_MAX]
    return str(address.ipv4_mapped or int(address) >> 64)
