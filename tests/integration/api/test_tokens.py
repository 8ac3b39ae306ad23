"""Tokens: verification of signature and claims, and fetching the issuer's keys."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Set
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from api.auth.tokens import (
    LEEWAY_SECONDS,
    REFRESH_SECONDS,
    RETRY_SECONDS,
    InvalidToken,
    KeySet,
    Verifier,
    issue_token,
)
from api.problems.errors import JwksUnavailable
from settings import TokenRules
from tests.support.token_issuer import AUDIENCE, ISSUER, Issuer, Key, ec_key, issuing, rsa_key

SECRET = "a secret of thirty-two bytes or more"
SHARED = TokenRules(ISSUER, AUDIENCE, secret=SECRET)
RSA, EC, STRANGER = rsa_key(), ec_key(), rsa_key()
ADA = ("ada", {"orders:read", "orders:write"})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing(RSA, EC) as issuer:
        yield issuer


@pytest.fixture
async def verifier(issuer: Issuer) -> Verifier:
    return Verifier(issuer.rules, issuer.http)


@pytest.fixture(scope="module")
async def by_secret() -> AsyncIterator[Verifier]:
    async with httpx.AsyncClient() as http:
        yield Verifier(SHARED, http)


def encoded(*parts: object) -> str:
    """The parts of a token: strings as they are, anything else as JSON."""
    words = [part if isinstance(part, str) else json.dumps(part) for part in parts]
    return ".".join(base64.urlsafe_b64encode(w.encode()).decode().rstrip("=") for w in words)


async def claims_of(verifier: Verifier, token: str) -> tuple[str, Set[str]]:
    """The subject and the scopes of a token."""
    verified = await verifier.verify(token)
    return verified.subject, verified.scopes


# Valid tokens


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
async def test_token_of_the_issuer_is_valid(issuer: Issuer, verifier: Verifier, key: Key) -> None:
    assert await claims_of(verifier, issuer.token(key)) == ADA
    several = issuer.token(key, aud=["other", AUDIENCE], nbf=int(time.time()), jti="1", more={})
    assert await claims_of(verifier, several) == ADA
    assert issuer.asked == 1


async def test_small_differences_between_clocks_are_tolerated(
    issuer: Issuer, verifier: Verifier
) -> None:
    now, little = int(time.time()), LEEWAY_SECONDS // 2
    # An early token becomes valid; a late one may have expired on the way.
    assert await claims_of(verifier, issuer.token(nbf=now + little, iat=now + little)) == ADA
    assert await claims_of(verifier, issuer.token(exp=now - 1)) == ADA


@pytest.mark.parametrize(
    ("without", "claims"),
    [
        ("", {"scope": ["orders:read", "orders:write"]}),
        ("scope", {"scp": "orders:read orders:write"}),
        ("scope", {"scp": ["orders:read", "orders:write"]}),
    ],
    ids=["list of scopes", "scp", "list of scp"],
)
async def test_scopes_are_read_as_identity_providers_send_them(
    issuer: Issuer, verifier: Verifier, without: str, claims: dict[str, Any]
) -> None:
    assert await claims_of(verifier, issuer.token(without=without, **claims)) == ADA


async def test_single_key_needs_no_id(issuer: Issuer, verifier: Verifier) -> None:
    published = RSA.jwk()
    del published["kid"]
    issuer.document = {"keys": [published]}
    assert await claims_of(verifier, issuer.token(RSA)) == ADA
    claims = jwt.decode(issuer.token(RSA), options={"verify_signature": False})
    assert await claims_of(verifier, jwt.encode(claims, RSA.private, "RS256")) == ADA
    with pytest.raises(InvalidToken, match="alg"):
        await verifier.verify(issuer.token(EC))


async def test_token_without_a_scope_allows_nothing(issuer: Issuer, verifier: Verifier) -> None:
    assert await claims_of(verifier, issuer.token(without="scope")) == ("ada", set())


async def test_shared_secret_signs_and_verifies_for_development(by_secret: Verifier) -> None:
    token = issue_token(SHARED, "ada", "orders:write orders:read", 60)
    assert await claims_of(by_secret, token) == ADA
    others = issue_token(replace(SHARED, secret=SECRET[::-1]), "ada", "orders:read", 60)
    with pytest.raises(InvalidToken, match="signature"):
        await by_secret.verify(others)
    signed_by_a_key = jwt.encode({"sub": "ada"}, RSA.private, "RS256")
    with pytest.raises(InvalidToken, match="alg"):
        await by_secret.verify(signed_by_a_key)


# Invalid tokens


def with_the_public_key_as_a_secret(issuer: Issuer) -> str:
    """Key confusion: valid for a verifier that takes the algorithm from the token."""
    public = RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    signing_input = encoded({"alg": "HS256", "kid": RSA.key_id}, claims)
    signature = jwt.get_algorithm_by_name("HS256").sign(signing_input.encode(), public)
    return f"{signing_input}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def with_other_claims(issuer: Issuer) -> str:
    header, _, signature = issuer.token().split(".")
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    return f"{header}.{encoded({**claims, 'sub': 'bob'})}.{signature}"


def unsigned(issuer: Issuer, algorithm: str) -> str:
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    return encoded({"alg": algorithm, "kid": RSA.key_id}, claims) + "."


BAD: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "expired": (lambda i: i.token(exp=int(time.time()) - LEEWAY_SECONDS - 1), "expired"),
    "not yet valid": (lambda i: i.token(nbf=int(time.time()) + 600), "not valid yet"),
    "issued in the future": (lambda i: i.token(iat=int(time.time()) + 600), "not valid yet"),
    "another audience": (lambda i: i.token(aud="another"), "audience"),
    "another issuer": (lambda i: i.token(iss="https://another.example"), "issuer"),
    "no expiry": (lambda i: i.token(without="exp"), "no exp claim"),
    "no audience": (lambda i: i.token(without="aud"), "no aud claim"),
    "no issuer": (lambda i: i.token(without="iss"), "no iss claim"),
    "no subject": (lambda i: i.token(without="sub"), "no sub claim"),
    "subject is a number": (lambda i: i.token(sub=7), "claims"),
    "scope is a list of numbers": (lambda i: i.token(scope=[1]), "scope"),
    "scope is an object": (lambda i: i.token(scope={"orders:read": True}), "scope"),
    "expiry is a word": (lambda i: i.token(exp="tomorrow"), "well-formed"),
    "expiry is endless": (lambda i: i.token(exp=float("inf")), "well-formed"),
    "none": (lambda i: unsigned(i, "none"), "alg"),
    "None": (lambda i: unsigned(i, "None"), "alg"),
    "no signature": (lambda i: unsigned(i, "RS256"), "signature"),
    "key confusion": (with_the_public_key_as_a_secret, "alg"),
    "another kind of key": (
        lambda i: i.token(Key(EC.private, RSA.key_id)),
        "alg",
    ),
    "another's key under our name": (
        lambda i: i.token(Key(STRANGER.private, RSA.key_id)),
        "signature",
    ),
    "other claims": (with_other_claims, "signature"),
    "unknown key": (lambda i: i.token(STRANGER), "kid"),
    "no key": (lambda i: jwt.encode({"sub": "ada"}, RSA.private, "RS256"), "kid"),
    "key is a number": (lambda i: encoded({"alg": "RS256", "kid": 7}, {}) + ".", "claims"),
    "empty": (lambda i: "", "well-formed"),
    "a word": (lambda i: "hunter2", "well-formed"),
    "cut short": (lambda i: i.token().rpartition(".")[0], "well-formed"),
    "too long": (lambda i: i.token(more="x" * 8192), "longer"),
    "deep": (lambda i: encoded("[" * 4000, {}) + ".", "well-formed"),
}


@pytest.mark.parametrize("kind", BAD)
async def test_invalid_token_gets_a_reason_that_quotes_none_of_it(
    issuer: Issuer, verifier: Verifier, kind: str
) -> None:
    make, words = BAD[kind]
    token = make(issuer)
    with pytest.raises(InvalidToken, match=words) as rejected:
        await verifier.verify(token)
    reason = str(rejected.value)
    assert not any(part and part in reason for part in token.split("."))
    # It is put into a quoted string of a header.
    assert reason.isascii() and not set(reason) & set('"\\\r\n')


@given(st.binary().map(lambda header: header.decode("latin-1")))
async def test_arbitrary_text_is_an_invalid_token(by_secret: Verifier, text: str) -> None:
    with pytest.raises(InvalidToken):
        await by_secret.verify(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), JSON))
async def test_forged_token_is_invalid_with_any_header(
    by_secret: Verifier, header: dict[str, Any]
) -> None:
    with pytest.raises(InvalidToken):
        await by_secret.verify(encoded(header, {"sub": "ada"}) + ".c2lnbmVk")


@given(st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope"]), JSON)
async def test_any_claims_of_the_issuer_are_valid_or_rejected(
    by_secret: Verifier, name: str, value: Any
) -> None:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 600, name: value}
    signing_input = encoded({"alg": "HS256"}, claims)
    signature = jwt.get_algorithm_by_name("HS256").sign(signing_input.encode(), SECRET.encode())
    token = f"{signing_input}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    with suppress(InvalidToken):
        assert isinstance((await by_secret.verify(token)).subject, str)


# Signing keys


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> KeySet:
    return KeySet(str(issuer.rules.jwks_url), issuer.http, clock)


async def test_new_key_is_fetched_when_the_first_token_names_it(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.keys = [EC, STRANGER]
    clock.now += RETRY_SECONDS
    assert await keys.find(STRANGER.key_id)
    assert await keys.find(EC.key_id)
    assert issuer.asked == 2


async def test_revoked_key_is_accepted_only_until_the_next_refresh(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.keys = [EC]
    clock.now += REFRESH_SECONDS - 1
    assert await keys.find(RSA.key_id)
    clock.now += 1
    assert await keys.find(RSA.key_id) is None
    assert await keys.find(EC.key_id)


async def test_many_unknown_keys_cause_few_fetches(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find(RSA.key_id)
    for _ in range(2):
        clock.now += RETRY_SECONDS
        found = await asyncio.gather(*(keys.find(f"unknown-{n}") for n in range(100)))
        assert found == [None] * 100
    assert issuer.asked == 3


async def test_concurrent_first_tokens_fetch_the_keys_once(issuer: Issuer, keys: KeySet) -> None:
    assert all(await asyncio.gather(*(keys.find(RSA.key_id) for _ in range(50))))
    assert issuer.asked == 1


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_known_keys_stay_in_use_while_the_issuer_is_unavailable(
    issuer: Issuer, keys: KeySet, clock: Clock, status: int
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.status = status
    for _ in range(3):
        clock.now += REFRESH_SECONDS
        assert await keys.find(RSA.key_id)
    assert issuer.asked == 4
    # Tokens with any other key cannot be verified.
    clock.now += RETRY_SECONDS
    with pytest.raises(JwksUnavailable):
        await keys.find("unknown")
    issuer.status = 200
    clock.now += RETRY_SECONDS
    assert await keys.find("unknown") is None


async def test_without_keys_no_token_can_be_verified_until_the_issuer_responds(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    issuer.status = 503
    for _ in range(10):
        with pytest.raises(JwksUnavailable):
            await keys.find(RSA.key_id)
    assert issuer.asked == 1
    issuer.status = 200
    clock.now += RETRY_SECONDS
    assert await keys.find(RSA.key_id)


async def test_unreachable_issuer_is_unavailable() -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(JwksUnavailable):
            await KeySet("http://127.0.0.1:1/jwks.json", http).find("any")


async def test_keys_for_other_purposes_are_ignored(issuer: Issuer, keys: KeySet) -> None:
    short, sealing = rsa_key(1024), rsa_key()
    shared = {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "shared", "alg": "HS256"}
    issuer.others = [short.jwk(), sealing.jwk(use="enc"), shared, {"kty": "?"}, {**EC.jwk()}]
    issuer.others += [{k: v for k, v in STRANGER.jwk().items() if k != "kid"}]
    assert await keys.find(EC.key_id)
    for other in (short.key_id, sealing.key_id, "shared", STRANGER.key_id):
        assert await keys.find(other) is None


@pytest.mark.parametrize("nothing", [[], {"keys": []}, {"keys": "none"}, {"keys": [7]}, 7, None])
async def test_response_without_keys_keeps_the_known_ones(
    issuer: Issuer, keys: KeySet, clock: Clock, nothing: Any
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.document = nothing
    clock.now += REFRESH_SECONDS
    assert await keys.find(RSA.key_id)
    assert issuer.asked == 2
