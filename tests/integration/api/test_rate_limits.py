"""Each caller has its own token bucket; unauthenticated ones share that of their address."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.auth.permissions import OPERATE, READ
from api.limits.token_bucket import TokenBuckets
from settings import RateLimit, Settings
from tests.support.api_requests import BASKET, problem
from tests.support.servers import Running, run_api
from tests.support.token_issuer import Issuer, ec_key, issuing

RATES = st.builds(RateLimit, st.integers(1, 1_000), st.integers(1, 50))
STEPS = st.lists(st.floats(0, 2), min_size=1, max_size=100)
SLOW = RateLimit(per_second=0.01, burst=3)  # No token is added during a test.


# The bucket


@given(RATES, STEPS)
def test_grants_never_exceed_burst_and_rate(rate: RateLimit, steps: list[float]) -> None:
    buckets, now, granted = TokenBuckets(rate), 0.0, list[float]()
    for step in steps:
        now += step / rate.per_second
        if buckets.take("ada", now).is_granted:
            granted.append(now)
    for first, begin in enumerate(granted):
        for last, end in enumerate(granted[first:], 1):
            assert last <= rate.burst + (end - begin) * rate.per_second + 0.001


@given(RATES, STEPS)
def test_request_after_next_token_s_is_granted(rate: RateLimit, steps: list[float]) -> None:
    buckets, now = TokenBuckets(rate), 1e6
    for step in steps:
        now += step / rate.per_second
        state = buckets.take("ada", now)
        assert 0 <= state.remaining < rate.burst
        assert 0 < state.next_token_s <= 1.001 / rate.per_second
        if not state.is_granted:
            assert state.remaining == 0
            now += state.next_token_s
            assert buckets.take("ada", now).is_granted


def test_refunded_token_can_be_taken_again() -> None:
    buckets = TokenBuckets(SLOW)
    for _ in range(100):
        assert buckets.take("ada", 1.0).remaining == 2
        buckets.refund("ada")
    buckets.refund("unknown")
    assert [buckets.take("ada", 1.0).is_granted for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.sampled_from("abcdef"), max_size=200))
def test_forgotten_caller_gets_a_full_bucket(callers: list[str]) -> None:
    few, many = TokenBuckets(SLOW, callers_max=2), TokenBuckets(SLOW)
    for caller in callers:
        state = few.take(caller, 1.0)
        assert state.remaining >= many.take(caller, 1.0).remaining
        assert len(few) <= 2
    assert len(many) == len(set(callers))


# The API


@asynccontextmanager
async def limited(
    orderly: Running, issuer: Issuer | None = None, trusted_proxies: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        postgres_dsn=orderly.dsn,
        task_queue=orderly.task_queue,
        **(issuer.settings if issuer else {}),
        trusted_proxies=trusted_proxies,
    ).model_copy(update={"rate_limit_per_second": SLOW.per_second, "rate_limit_burst": SLOW.burst})
    async with run_api(orderly.client, settings) as http:
        yield http


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing(ec_key()) as issuer:
        yield issuer


def remaining(response: httpx.Response) -> int:
    """The remaining requests by the response's headers, which are checked."""
    assert response.headers["RateLimit-Policy"] == '"caller";q=3;w=300'
    match = re.fullmatch(r'"caller";r=(\d+);t=(\d+)', response.headers["RateLimit"])
    assert match and 0 < int(match[2]) <= 100
    return int(match[1])


def assert_rejected(response: httpx.Response) -> None:
    assert remaining(response) == 0
    assert "retry in" in problem(response, 429, "rate-limited")["detail"]
    assert 0 < int(response.headers["Retry-After"]) <= 100
    assert response.headers["X-Request-Id"]


async def test_each_caller_has_its_own_bucket(orderly: Running, issuer: Issuer) -> None:
    async with limited(orderly, issuer) as http:
        for name in ("ada", "bob"):
            own = issuer.headers(name, READ)
            # Every response is charged: an unknown order, and an insufficient scope.
            responses = [
                await http.get("/v1/orders", headers=own),
                await http.get("/v1/orders/none", headers=own),
                await http.post("/v1/orders", headers=own, json=BASKET),
            ]
            assert [response.status_code for response in responses] == [200, 404, 403]
            assert [remaining(response) for response in responses] == [2, 1, 0]
            assert_rejected(await http.get("/v1/orders", headers=own))
            assert_rejected(await http.post("/v1/orders", headers=own, content=b"{"))
        # An operator of the same name is another caller.
        operator = issuer.headers("ada", f"{READ} {OPERATE}")
        assert remaining(await http.get("/v1/orders", headers=operator)) == 2


async def test_invalid_tokens_are_charged_to_their_address_only(
    orderly: Running, issuer: Issuer
) -> None:
    invalid = {"Authorization": "Bearer " + issuer.token(ec_key())}
    async with limited(orderly, issuer) as http:
        for name in "abcde":
            assert remaining(await http.get("/v1/orders", headers=issuer.headers(name, READ))) == 2
        for expected in (2, 1, 0):
            response = await http.get("/v1/orders", headers=invalid)
            problem(response, 401, "unauthenticated")
            assert remaining(response) == expected
        assert_rejected(await http.get("/v1/orders", headers=invalid))
        assert_rejected(await http.get("/v1/orders"))
        # No token is verified from here on, so a valid one is rejected, too.
        assert_rejected(await http.get("/v1/orders", headers=issuer.headers("a", READ)))


async def test_unauthenticated_caller_is_its_address_and_health_is_unlimited(
    orderly: Running,
) -> None:
    async with limited(orderly) as http:
        for expected, path in [(2, "/v1/orders"), (1, "/nothing"), (0, "/openapi.json")]:
            assert remaining(await http.get(path)) == expected
        key = {"Idempotency-Key": "rate-limited"}
        assert_rejected(await http.post("/v1/orders", json=BASKET, headers=key))
        for path in ("/healthz", "/readyz") * 3:
            response = await http.get(path)
            assert response.status_code != 429
            assert "RateLimit" not in response.headers
    # The rejected command was not executed.
    opened = await orderly.http.post("/v1/orders", json=BASKET, headers=key)
    assert "Idempotent-Replayed" not in opened.headers


@pytest.mark.parametrize("trusted_proxies", [None, "10.0.0.0/8,127.0.0.1"])
async def test_forwarded_address_counts_only_from_a_trusted_proxy(
    orderly: Running, trusted_proxies: str | None
) -> None:
    async with limited(orderly, trusted_proxies=trusted_proxies) as http:

        async def read_from(address: str) -> int:
            return remaining(await http.get("/v1/orders", headers={"X-Forwarded-For": address}))

        assert await read_from("203.0.113.1") == 2
        assert await read_from("203.0.113.2") == (2 if trusted_proxies else 1)
        # Entries before the proxy's own are not trusted.
        assert await read_from("203.0.113.9, 203.0.113.2") == (1 if trusted_proxies else 0)
        if trusted_proxies:
            assert await read_from("2001:db8::1") == 2
            assert await read_from("2001:db8::2") == 1  # One network, one caller.
            assert await read_from("2001:db8:0:1::2") == 2


async def test_without_a_rate_limit_no_headers_are_sent(orderly: Running) -> None:
    assert "RateLimit" not in (await orderly.http.get("/v1/orders")).headers


@pytest.mark.parametrize("address", ["a:b:c", "fe80::1%", ":" * 100], ids=["words", "zone", "long"])
async def test_forwarded_address_that_is_malformed_is_a_caller_of_its_own(
    orderly: Running, address: str
) -> None:
    """A trusted network forwards what a client within it sent."""
    async with limited(orderly, trusted_proxies="127.0.0.0/8") as http:
        headers = {"X-Forwarded-For": address}
        for expected in (2, 1, 0):
            assert remaining(await http.get("/v1/orders", headers=headers)) == expected
        assert_rejected(await http.get("/v1/orders", headers=headers))
