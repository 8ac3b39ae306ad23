"""Each caller has its own bucket of requests, and strangers share that of their address."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.auth.permissions import OPERATE, READ
from api.limits.rate_limit import TokenBuckets
from settings import RateLimit, Settings
from tests.support.api_requests import BASKET, problem
from tests.support.servers import Running, run_api
from tests.support.token_issuer import Issuer, ec_key, issuing

RATES = st.builds(RateLimit, st.integers(1, 1_000), st.integers(1, 50))
STEPS = st.lists(st.floats(0, 2), min_size=1, max_size=100)
SLOW = RateLimit(per_second=0.01, burst=3)  # In a test, what is gone from it does not come back.


# The bucket


@given(RATES, STEPS)
def test_in_no_span_of_time_is_more_granted_than_burst_and_rate_allow(
    rate: RateLimit, steps: list[float]
) -> None:
    buckets, now, granted = TokenBuckets(rate), 0.0, list[float]()
    for step in steps:
        now += step / rate.per_second
        if buckets.take("ada", now).is_granted:
            granted.append(now)
    for first, begin in enumerate(granted):
        for last, end in enumerate(granted[first:], 1):
            assert last <= rate.burst + (end - begin) * rate.per_second + 0.001


@given(RATES, STEPS)
def test_who_comes_again_when_told_to_is_served(rate: RateLimit, steps: list[float]) -> None:
    buckets, now = TokenBuckets(rate), 1e6
    for step in steps:
        now += step / rate.per_second
        level = buckets.take("ada", now)
        assert 0 <= level.left < rate.burst
        assert 0 < level.next_s <= 1.001 / rate.per_second
        if not level.is_granted:
            assert level.left == 0
            now += level.next_s
            assert buckets.take("ada", now).is_granted


def test_a_token_that_was_given_back_is_there_again_and_no_more() -> None:
    buckets = TokenBuckets(SLOW)
    for _ in range(100):
        assert buckets.take("ada", 1.0).left == 2
        buckets.give_back("ada")
    buckets.give_back("nobody")
    assert [buckets.take("ada", 1.0).is_granted for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.sampled_from("abcdef"), max_size=200))
def test_forgetting_a_caller_only_ever_gives_it_a_full_bucket(callers: list[str]) -> None:
    few, many = TokenBuckets(SLOW, callers_max=2), TokenBuckets(SLOW)
    for caller in callers:
        level = few.take(caller, 1.0)
        assert level.left >= many.take(caller, 1.0).left
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


def left(answer: httpx.Response) -> int:
    """What the answer says is left, with the rest of both headers as they have to be."""
    assert answer.headers["RateLimit-Policy"] == '"caller";q=3;w=300'
    match = re.fullmatch(r'"caller";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
    assert match and 0 < int(match[2]) <= 100
    return int(match[1])


def refused(answer: httpx.Response) -> None:
    assert left(answer) == 0
    assert "retry in" in problem(answer, 429, "rate-limited")["detail"]
    assert 0 < int(answer.headers["Retry-After"]) <= 100
    assert answer.headers["X-Request-Id"]


async def test_each_caller_has_a_bucket_of_its_own(orderly: Running, issuer: Issuer) -> None:
    async with limited(orderly, issuer) as http:
        for name in ("ada", "bob"):
            own = issuer.headers(name, READ)
            # Whatever the answer: here there is no such order, and the scope does not suffice.
            answers = [
                await http.get("/v1/orders", headers=own),
                await http.get("/v1/orders/none", headers=own),
                await http.post("/v1/orders", headers=own, json=BASKET),
            ]
            assert [answer.status_code for answer in answers] == [200, 404, 403]
            assert [left(answer) for answer in answers] == [2, 1, 0]
            refused(await http.get("/v1/orders", headers=own))
            refused(await http.post("/v1/orders", headers=own, content=b"{"))
        # An operator of the same name is somebody else.
        operator = issuer.headers("ada", f"{READ} {OPERATE}")
        assert left(await http.get("/v1/orders", headers=operator)) == 2


async def test_bad_tokens_are_limited_by_address_and_good_ones_do_not_pay_for_it(
    orderly: Running, issuer: Issuer
) -> None:
    stranger = {"Authorization": "Bearer " + issuer.token(ec_key())}
    async with limited(orderly, issuer) as http:
        for name in "abcde":
            assert left(await http.get("/v1/orders", headers=issuer.headers(name, READ))) == 2
        for remaining in (2, 1, 0):
            answer = await http.get("/v1/orders", headers=stranger)
            problem(answer, 401, "unauthenticated")
            assert left(answer) == remaining
        refused(await http.get("/v1/orders", headers=stranger))
        refused(await http.get("/v1/orders"))
        # From here on nothing is verified, so it is of no use to be somebody.
        refused(await http.get("/v1/orders", headers=issuer.headers("a", READ)))


async def test_without_tokens_a_caller_is_an_address_and_health_is_not_limited(
    orderly: Running,
) -> None:
    async with limited(orderly) as http:
        for remaining, path in [(2, "/v1/orders"), (1, "/nothing"), (0, "/openapi.json")]:
            assert left(await http.get(path)) == remaining
        key = {"Idempotency-Key": "too often"}
        refused(await http.post("/v1/orders", json=BASKET, headers=key))
        for path in ("/healthz", "/readyz", "/metrics") * 3:
            answer = await http.get(path)
            assert answer.status_code == 200
            assert "RateLimit" not in answer.headers
    # What was refused has not happened.
    opened = await orderly.http.post("/v1/orders", json=BASKET, headers=key)
    assert "Idempotent-Replayed" not in opened.headers


@pytest.mark.parametrize("trusted_proxies", [None, "10.0.0.0/8,127.0.0.1"])
async def test_behind_a_balancer_the_address_is_what_the_balancer_says_if_it_is_believed(
    orderly: Running, trusted_proxies: str | None
) -> None:
    async with limited(orderly, trusted_proxies=trusted_proxies) as http:

        async def asks(address: str) -> int:
            return left(await http.get("/v1/orders", headers={"X-Forwarded-For": address}))

        assert await asks("203.0.113.1") == 2
        assert await asks("203.0.113.2") == (2 if trusted_proxies else 1)
        # What stands before the balancer's own entry was written by anybody.
        assert await asks("203.0.113.9, 203.0.113.2") == (1 if trusted_proxies else 0)
        if trusted_proxies:
            assert await asks("2001:db8::1") == 2
            assert await asks("2001:db8::2") == 1  # One network, one caller.
            assert await asks("2001:db8:0:1::2") == 2


async def test_without_a_limit_nothing_is_said_of_one(orderly: Running) -> None:
    assert "RateLimit" not in (await orderly.http.get("/v1/orders")).headers
