"""Verifies bearer tokens (JWT) with the keys of their issuer."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from jwt import PyJWK, PyJWKSet

from api.problems.errors import JwksUnavailable
from settings import TokenRules

log = logging.getLogger("orderly.api")

LEEWAY_SECONDS = 30  # For differences between clocks.
FETCH_SECONDS_MAX = 3
REFRESH_SECONDS = 300  # A revoked key is accepted for up to this long.
RETRY_SECONDS = 5  # Between fetches, however many tokens name an unknown key.
CHARACTERS_MAX = 8192

# The algorithm follows from the key, never from the token.
PUBLIC = ("RS256", "ES256")
SHARED = "HS256"

REQUIRED = ["iss", "aud", "sub", "exp"]


@dataclass(frozen=True, slots=True)
class Token:
    """The verified claims of a token."""

    subject: str
    scopes: frozenset[str]
    expires_at: float
    """In seconds since 1970."""


class InvalidToken(Exception):
    """A token is invalid; the message completes "Invalid token: …" and quotes no input."""


class KeySet:
    """The public keys of an issuer, fetched when a token names an unknown one, or they are old.

    While the issuer does not respond, the known keys stay in use.
    """

    def __init__(
        self, url: str, http: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._fetched_at = -math.inf
        self._is_available = False
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> PyJWK | None:
        """The key with this id, or None if the issuer has none; raises JwksUnavailable."""
        # A request with a known key does not wait for a fetch under way.
        if self._known(key_id) is None or not self._fetching.locked():
            async with self._fetching:
                interval = REFRESH_SECONDS if self._known(key_id) else RETRY_SECONDS
                if self._clock() - self._fetched_at >= interval:
                    await self._fetch()
        key = self._known(key_id)
        if key is None and not self._is_available:
            raise JwksUnavailable
        return key

    def _known(self, key_id: str) -> PyJWK | None:
        """A key by its id, which may be absent (RFC 7515, 7517) if there is only one key."""
        if len(self._keys) == 1 and (not key_id or "" in self._keys):
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _fetch(self) -> None:
        self._fetched_at, self._is_available = self._clock(), False
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                response = await self._http.get(self._url)
            response.raise_for_status()
            self._keys = _signing_keys(response.json())
            self._is_available = True
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            log.warning(
                "cannot fetch keys from %s: %s", self._url, str(error) or type(error).__name__
            )


class SharedSecret:
    """One secret that signs and verifies, for development: the verifier could forge tokens."""

    def __init__(self, secret: str) -> None:
        encoded = urlsafe_b64encode(secret.encode()).decode()
        self._key = PyJWK({"kty": "oct", "k": encoded}, SHARED)

    async def find(self, _: str) -> PyJWK:
        return self._key


class Verifier:
    """Verifies tokens of one issuer for one audience."""

    def __init__(self, rules: TokenRules, http: httpx.AsyncClient) -> None:
        self._rules = rules
        self._keys: KeySet | SharedSecret
        if rules.secret is not None:
            self._keys = SharedSecret(rules.secret)
        else:
            self._keys = KeySet(str(rules.jwks_url), http)

    async def verify(self, token: str) -> Token:
        """What a token says; raises InvalidToken or JwksUnavailable."""
        return _token(await self.claims(token))

    async def claims(self, token: str) -> dict[str, Any]:
        """All claims of a token; raises InvalidToken or JwksUnavailable."""
        if len(token) > CHARACTERS_MAX:
            raise InvalidToken(f"it is longer than {CHARACTERS_MAX} characters")
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise InvalidToken("its key (kid) is not among the keys of its issuer")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED},
            )
        except jwt.InvalidTokenError as error:
            raise InvalidToken(_message_for(error)) from None
        return claims


def issue_token(rules: TokenRules, subject: str, scope: str, seconds: int) -> str:
    """A token that is valid for `seconds` from now; `rules` must have a secret."""
    assert rules.secret is not None
    now = int(time.time())
    claims = {"iss": rules.issuer, "aud": rules.audience, "sub": subject, "scope": scope}
    return jwt.encode({**claims, "iat": now, "exp": now + seconds}, rules.secret, SHARED)


def _token(claims: dict[str, Any]) -> Token:
    scopes = _scopes(claims.get("scope", claims.get("scp", "")))
    return Token(claims["sub"], scopes, int(claims["exp"]) + LEEWAY_SECONDS)


def _scopes(claim: Any) -> frozenset[str]:
    """The scopes in `scope` (RFC 8693) or `scp`, which some identity providers send as a list."""
    words = claim.split() if isinstance(claim, str) else claim
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidToken("its scopes (scope or scp) are neither a string nor a list of strings")
    return frozenset(words)


def _signing_keys(document: Any) -> dict[str, PyJWK]:
    """The keys in a JWKS that can sign tokens; raises ValueError if there are none."""
    try:
        keys = PyJWKSet.from_dict(document).keys
    except (jwt.PyJWTError, AttributeError):
        keys = []
    usable = {
        key.key_id or "": key
        for key in keys
        if isinstance(key.key_id, str | None)
        and key.algorithm_name in PUBLIC
        and key.public_key_use in (None, "sig")
        and not key.Algorithm.check_key_length(key.key)
    }
    if not usable:
        raise ValueError(f"the response contains no usable {' or '.join(PUBLIC)} key")
    return usable


# By exception type; the first match wins.
_MESSAGES: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidAudienceError, "it is for another audience (aud)"),
    (jwt.InvalidIssuerError, "it is from another issuer (iss)"),
    (jwt.InvalidAlgorithmError, "its algorithm (alg) is not that of its key"),
    (jwt.InvalidSignatureError, "its signature does not match its key"),
    (jwt.DecodeError, "it is not a well-formed JWT"),
)


def _message_for(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it has no {error.claim} claim"
    messages = (message for kind, message in _MESSAGES if isinstance(error, kind))
    return next(messages, "one of its claims is malformed")
