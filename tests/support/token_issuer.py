"""An issuer of tokens, which serves its keys over real HTTP."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI, Response
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from api.auth.permissions import OPERATE, READ, WRITE
from api.auth.tokens import SHARED, issue_token
from settings import TokenRules
from tests.support.servers import serving

ISSUER, AUDIENCE = "https://issuer.example", "orders-api"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Key:
    """A key of the issuer's, and the name under which its public half is published."""

    private: PrivateKey
    key_id: str = field(default_factory=lambda: secrets.token_hex(4))

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.private, rsa.RSAPrivateKey) else "ES256"

    def jwk(self, **more: str) -> dict[str, Any]:
        public = self.private.public_key()
        encode: Any = RSAAlgorithm.to_jwk if self.algorithm == "RS256" else ECAlgorithm.to_jwk
        return {**json.loads(encode(public)), "kid": self.key_id, **more}


def rsa_key(bits: int = 2048) -> Key:
    return Key(rsa.generate_private_key(65537, bits))


def ec_key() -> Key:
    return Key(ec.generate_private_key(ec.SECP256R1()))


@dataclass
class Issuer:
    """Publishes its keys and others, or answers `status`; `asked` says how often it was asked."""

    rules: TokenRules
    http: httpx.AsyncClient
    keys: list[Key]
    others: list[dict[str, Any]] = field(default_factory=list)
    document: Any = ...
    """What it answers instead of its keys."""
    status: int = 200
    asked: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an API that accepts these tokens, without a rate limit."""
        return {
            "token_issuer": self.rules.issuer,
            "token_audience": self.rules.audience,
            "token_jwks_url": self.rules.jwks_url,
            "rate_limit_per_second": 0,
        }

    def token(self, key: Key | None = None, without: str = "", **changes: Any) -> str:
        """A token of a customer who may read and write, but for the changes to its claims."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada",
            "scope": "orders:read orders:write",
            "exp": int(time.time()) + 600,
            **changes,
        }
        claims.pop(without, None)
        key = key or self.keys[0]
        return jwt.encode(claims, key.private, key.algorithm, {"kid": key.key_id})

    def headers(self, sub: str, scope: str = "orders:read orders:write") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(sub=sub, scope=scope)}"}


@asynccontextmanager
async def issuing(*keys: Key) -> AsyncIterator[Issuer]:
    """An issuer behind a real socket."""
    app = FastAPI()

    @app.get("/jwks.json")
    async def jwks() -> Response:
        issuer.asked += 1
        document = {"keys": [*issuer.others, *(key.jwk() for key in issuer.keys)]}
        told = document if issuer.document is ... else issuer.document
        body = json.dumps(told) if issuer.status == 200 else "away"
        return Response(body, issuer.status, media_type="application/json")

    async with serving(app) as http:
        rules = TokenRules(ISSUER, AUDIENCE, jwks_url=f"{http.base_url}/jwks.json")
        issuer = Issuer(rules, http, list(keys))
        yield issuer


ALL = f"{READ} {WRITE} {OPERATE}"
SECRET = secrets.token_urlsafe(32)
RULES = TokenRules("orderly", "orderly", secret=SECRET)


def markers(token: str) -> list[str]:
    """The parts of a token that tell it from others: all but its header."""
    return token.split(".")[-2:]


def bad_tokens() -> list[str]:
    good = issue_token(RULES, "ada", READ, 600)
    claims = {"iss": "orderly", "aud": "orderly", "sub": "ada", "exp": 1}
    return [
        issue_token(RULES, "ada", "", 600),  # It allows nothing.
        jwt.encode(claims, SECRET, SHARED),  # It has expired.
        good[:-12] + secrets.token_urlsafe(9),  # Forged.
        secrets.token_urlsafe(64),
        f"x.{secrets.token_urlsafe(32)}.{secrets.token_urlsafe(32)}",
    ]
