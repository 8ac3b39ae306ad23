"""The exchange of a code for tokens: what is sent, and which answers are not taken."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from api.auth.identity_provider import REFRESH_SECONDS, IdentityProvider, SignIn
from api.problems.errors import IdentityProviderUnavailable
from api.problems.problem import Problem
from settings import SignInRules

ISSUER = "https://login.example/tenant"
CODE = SignIn("the-code", "v" * 43, "the-nonce", "https://shop.example/console/signed-in")
PRIVATE = ec.generate_private_key(ec.SECP256R1())


def id_token(**changes: Any) -> str:
    claims = {"iss": ISSUER, "aud": "console", "sub": "olga", "exp": time.time() + 60}
    return jwt.encode({**claims, "nonce": CODE.nonce, **changes}, PRIVATE, "ES256", {"kid": "1"})


@dataclass
class FakeProvider:
    """Answers as a provider does, but for what a test changes."""

    metadata: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    is_up: bool = True
    asked: list[httpx.Request] = field(default_factory=list)
    now: float = 0

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if not self.is_up:
            raise httpx.ConnectError("refused")
        if request.url.path == "/tenant/.well-known/openid-configuration":
            urls = {"token_endpoint": "token", "jwks_uri": "keys", "authorization_endpoint": "go"}
            paths = {name: f"https://login.example/{path}" for name, path in urls.items()}
            return httpx.Response(200, json={"issuer": ISSUER, **paths, **self.metadata})
        if request.url.path == "/keys":
            jwk = json.loads(ECAlgorithm.to_jwk(PRIVATE.public_key()))
            return httpx.Response(200, json={"keys": [{**jwk, "kid": "1"}]})
        tokens = {"access_token": id_token(aud="api"), "id_token": id_token(), **self.answer}
        return httpx.Response(self.status, json={k: v for k, v in tokens.items() if v is not None})

    @property
    def form(self) -> dict[str, str]:
        return dict(httpx.QueryParams(self.asked[-1].content.decode()))


Connect = Callable[..., IdentityProvider]


@pytest.fixture
def fake() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def connect(fake: FakeProvider) -> AsyncIterator[Connect]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(fake.handle)) as http:

        def connected(secret: str | None = None) -> IdentityProvider:
            rules = SignInRules(ISSUER, "console", secret, "openid", "api")
            return IdentityProvider(rules, http, lambda: fake.now)

        yield connected


async def test_code_is_exchanged_with_its_proof(fake: FakeProvider, connect: Connect) -> None:
    fake.answer = {"access_token": "x." * 2, "refresh_token": "again"}
    fake.answer["access_token"] = access = id_token(aud="api")
    signed_in = await connect().sign_in(CODE)
    assert (signed_in.token, signed_in.refresh_token) == (access, "again")
    request = next(one for one in fake.asked if one.method == "POST")
    assert "authorization" not in request.headers
    assert dict(httpx.QueryParams(request.content.decode())) == {
        "grant_type": "authorization_code",
        "code": CODE.code,
        "code_verifier": CODE.code_verifier,
        "redirect_uri": CODE.redirect_uri,
        "client_id": "console",
    }


async def test_secret_is_sent_as_the_provider_wants_it(
    fake: FakeProvider, connect: Connect
) -> None:
    await connect("a:b %").renew("again")
    credentials = httpx.BasicAuth("console", "a%3Ab%20%25")
    expected = next(credentials.auth_flow(httpx.Request("POST", ISSUER)))
    assert fake.asked[-1].headers["authorization"] == expected.headers["authorization"]
    fake.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    await connect("a:b %").renew("again")
    assert "authorization" not in fake.asked[-1].headers
    assert fake.form["client_secret"] == "a:b %"
    assert (fake.form["grant_type"], fake.form["refresh_token"]) == ("refresh_token", "again")


async def test_id_token_is_for_the_api_where_access_tokens_are_no_jwts(
    fake: FakeProvider, connect: Connect
) -> None:
    fake.answer = {"access_token": "opaque"}
    assert (await connect().sign_in(CODE)).token.count(".") == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonce": "another"}, "for another sign-in"),
        ({"aud": "other"}, "another audience"),
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"exp": 1}, "expired"),
    ],
    ids=["nonce", "aud", "iss", "exp"],
)
async def test_another_id_token_is_rejected(
    fake: FakeProvider, connect: Connect, changes: dict[str, Any], reason: str
) -> None:
    fake.answer = {"id_token": id_token(**changes)}
    with pytest.raises(Problem, match=reason) as error:
        await connect().sign_in(CODE)
    assert error.value.type.code == "sign-in-rejected"


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "has no ID token"), ("not.a.token", "invalid")]
)
async def test_what_is_no_id_token_is_rejected(
    fake: FakeProvider, connect: Connect, text: str | None, reason: str
) -> None:
    fake.answer = {"id_token": text}
    with pytest.raises(Problem, match=reason) as error:
        await connect().sign_in(CODE)
    assert error.value.type.code == "sign-in-rejected"


async def test_rejection_says_the_providers_reason(fake: FakeProvider, connect: Connect) -> None:
    fake.status, fake.answer = 400, {"error": "invalid_grant", "error_description": "<b>"}
    with pytest.raises(Problem, match="it answered invalid_grant"):
        await connect().renew("again")
    fake.answer = {"error": "\u202e"}
    with pytest.raises(Problem, match="it answered 400"):
        await connect().renew("again")


async def test_outage_is_no_rejection(fake: FakeProvider, connect: Connect) -> None:
    provider = connect()
    await provider.metadata()
    fake.is_up = False
    with pytest.raises(IdentityProviderUnavailable):
        await provider.renew("again")
    fake.now = REFRESH_SECONDS + 1
    assert (await provider.metadata()).issuer == ISSUER  # As it was known.
    with pytest.raises(IdentityProviderUnavailable):
        await connect().metadata()
    fake.is_up, fake.status = True, 500
    with pytest.raises(IdentityProviderUnavailable):
        await provider.renew("again")


async def test_provider_that_names_another_issuer_is_not_used(
    fake: FakeProvider, connect: Connect
) -> None:
    fake.metadata = {"issuer": "https://login.example"}
    with pytest.raises(IdentityProviderUnavailable):
        await connect().metadata()
