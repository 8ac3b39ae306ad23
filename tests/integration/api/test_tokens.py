"""Tokens: who signed one, for whom and when, and where the keys to tell come from."""

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
    """Parts of a token: texts as they are, all else as JSON."""
    words = [part if isinstance(part, str) else json.dumps(part) for part in parts]
    return ".".join(base64.urlsafe_b64encode(w.encode()).decode().rstrip("=") for w in words)


async def told(verifier: Verifier, token: str) -> tuple[str, Set[str]]:
    """Whose a token is, and what it allows."""
    believed = await verifier.verify(token)
    return believed.subject, believed.scopes


# Good ones


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
async def test_a_token_of_the_issuers_is_believed(
    issuer: Issuer, verifier: Verifier, key: Key
) -> None:
    assert await told(verifier, issuer.token(key)) == ADA
    several = issuer.token(key, aud=["other", AUDIENCE], nbf=int(time.time()), jti="1", more={})
    assert await told(verifier, several) == ADA
    assert issuer.asked == 1


async def test_a_little_difference_between_clocks_is_none(
    issuer: Issuer, verifier: Verifier
) -> None:
    now, little = int(time.time()), LEEWAY_SECONDS // 2
    # What is too early only gets better; what is too late has a few seconds to come here.
    assert await told(verifier, issuer.token(nbf=now + little, iat=now + little)) == ADA
    assert await told(verifier, issuer.token(exp=now - 1)) == ADA


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
    assert await told(verifier, issuer.token(without=without, **claims)) == ADA


async def test_a_single_key_needs_no_id(issuer: Issuer, verifier: Verifier) -> None:
    published = RSA.jwk()
    del published["kid"]
    issuer.document = {"keys": [published]}
    assert await told(verifier, issuer.token(RSA)) == ADA
    claims = jwt.decode(issuer.token(RSA), options={"verify_signature": False})
    assert await told(verifier, jwt.encode(claims, RSA.private, "RS256")) == ADA
    with pytest.raises(InvalidToken, match="alg"):
        await verifier.verify(issuer.token(EC))


async def test_a_token_without_a_scope_allows_nothing(issuer: Issuer, verifier: Verifier) -> None:
    assert await told(verifier, issuer.token(without="scope")) == ("ada", set())


async def test_a_shared_secret_signs_and_verifies_for_development(by_secret: Verifier) -> None:
    token = issue_token(SHARED, "ada", "orders:write orders:read", 60)
    assert await told(by_secret, token) == ADA
    others = issue_token(replace(SHARED, secret=SECRET[::-1]), "ada", "orders:read", 60)
    with pytest.raises(InvalidToken, match="signature"):
        await by_secret.verify(others)
    signed_by_a_key = jwt.encode({"sub": "ada"}, RSA.private, "RS256")
    with pytest.raises(InvalidToken, match="alg"):
        await by_secret.verify(signed_by_a_key)


# Bad ones


def with_the_public_key_as_a_secret(issuer: Issuer) -> str:
    """Key confusion: whoever takes the algorithm from the token takes this for a good one."""
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
async def test_a_bad_token_is_told_what_is_wrong_with_it_and_not_quoted(
    issuer: Issuer, verifier: Verifier, kind: str
) -> None:
    make, words = BAD[kind]
    token = make(issuer)
    with pytest.raises(InvalidToken, match=words) as refused:
        await verifier.verify(token)
    said = str(refused.value)
    assert not any(part and part in said for part in token.split("."))
    # It goes into a quoted string of a header.
    assert said.isascii() and not set(said) & set('"\\\r\n')


@given(st.binary().map(lambda header: header.decode("latin-1")))
async def test_whatever_is_sent_instead_of_a_token_is_a_bad_token(
    by_secret: Verifier, text: str
) -> None:
    with pytest.raises(InvalidToken):
        await by_secret.verify(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ"]), JSON))
async def test_whatever_is_in_its_header_a_forged_token_is_a_bad_token(
    by_secret: Verifier, header: dict[str, Any]
) -> None:
    with pytest.raises(InvalidToken):
        await by_secret.verify(encoded(header, {"sub": "ada"}) + ".c2lnbmVk")


@given(st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope"]), JSON)
async def test_whatever_the_issuer_claims_is_a_token_or_a_bad_one(
    by_secret: Verifier, name: str, value: Any
) -> None:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 600, name: value}
    signing_input = encoded({"alg": "HS256"}, claims)
    signature = jwt.get_algorithm_by_name("HS256").sign(signing_input.encode(), SECRET.encode())
    token = f"{signing_input}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
    with suppress(InvalidToken):
        assert isinstance((await by_secret.verify(token)).subject, str)


# The keys


class Clock:
    """Goes on when it is told to."""

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


async def test_a_new_key_is_fetched_when_the_first_token_names_it(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.keys = [EC, STRANGER]
    clock.now += RETRY_SECONDS
    assert await keys.find(STRANGER.key_id)
    assert await keys.find(EC.key_id)
    assert issuer.asked == 2


async def test_a_withdrawn_key_is_believed_no_longer_than_keys_are_kept(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.keys = [EC]
    clock.now += REFRESH_SECONDS - 1
    assert await keys.find(RSA.key_id)
    clock.now += 1
    assert await keys.find(RSA.key_id) is None
    assert await keys.find(EC.key_id)


async def test_a_flood_of_unknown_keys_is_not_a_flood_of_questions(
    issuer: Issuer, keys: KeySet, clock: Clock
) -> None:
    assert await keys.find(RSA.key_id)
    for _ in range(2):
        clock.now += RETRY_SECONDS
        found = await asyncio.gather(*(keys.find(f"unknown-{n}") for n in range(100)))
        assert found == [None] * 100
    assert issuer.asked == 3


async def test_of_many_first_tokens_at_once_one_fetches_the_keys(
    issuer: Issuer, keys: KeySet
) -> None:
    assert all(await asyncio.gather(*(keys.find(RSA.key_id) for _ in range(50))))
    assert issuer.asked == 1


@pytest.mark.parametrize("status", [500, 302, 404])
async def test_known_keys_are_used_while_the_issuer_is_away(
    issuer: Issuer, keys: KeySet, clock: Clock, status: int
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.status = status
    for _ in range(3):
        clock.now += REFRESH_SECONDS
        assert await keys.find(RSA.key_id)
    assert issuer.asked == 4
    # Of any other nobody can say whether it is good.
    clock.now += RETRY_SECONDS
    with pytest.raises(JwksUnavailable):
        await keys.find("unknown")
    issuer.status = 200
    clock.now += RETRY_SECONDS
    assert await keys.find("unknown") is None


async def test_without_any_keys_nobody_can_say_until_the_issuer_is_back(
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


async def test_an_issuer_that_cannot_be_reached_is_away() -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(JwksUnavailable):
            await KeySet("http://127.0.0.1:1/jwks.json", http).find("any")


async def test_keys_for_something_else_are_no_keys(issuer: Issuer, keys: KeySet) -> None:
    short, sealing = rsa_key(1024), rsa_key()
    shared = {"kty": "oct", "k": "c2VjcmV0" * 8, "kid": "shared", "alg": "HS256"}
    issuer.others = [short.jwk(), sealing.jwk(use="enc"), shared, {"kty": "?"}, {**EC.jwk()}]
    issuer.others += [{k: v for k, v in STRANGER.jwk().items() if k != "kid"}]
    assert await keys.find(EC.key_id)
    for other in (short.key_id, sealing.key_id, "shared", STRANGER.key_id):
        assert await keys.find(other) is None


@pytest.mark.parametrize("nothing", [[], {"keys": []}, {"keys": "none"}, {"keys": [7]}, 7, None])
async def test_an_answer_without_keys_takes_none_away(
    issuer: Issuer, keys: KeySet, clock: Clock, nothing: Any
) -> None:
    assert await keys.find(RSA.key_id)
    issuer.document = nothing
    clock.now += REFRESH_SECONDS
    assert await keys.find(RSA.key_id)
    assert issuer.asked == 2
