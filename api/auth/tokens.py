"""Bearer tokens: whose they are and what they allow, by the keys of their issuer."""

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

from settings import TokenRules

log = logging.getLogger("orderly.api")

LEEWAY_SECONDS = 30  # Clocks differ.
FETCH_SECONDS_MAX = 3
KEEP_SECONDS = 300  # A key that was withdrawn is believed so much longer.
PAUSE_SECONDS = 5  # A flood of unknown keys is not a flood of questions to the issuer.
CHARACTERS_MAX = 8192

# What a key signs with follows from the key, never from the token.
PUBLIC = ("RS256", "ES256")
SHARED = "HS256"

REQUIRED = ["iss", "aud", "sub", "exp"]


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says that can be believed."""

    subject: str
    scopes: frozenset[str]
    good_until: float
    """In seconds since 1970."""


class InvalidToken(Exception):
    """A token is not to be believed; the message goes on a sentence about it, quoting nothing."""


class JwksUnavailable(Exception):
    """Nobody can say whether a token is good: its key is unknown and the issuer does not answer."""


class KeySet:
    """The public keys of an issuer, fetched when one is missing or they are old.

    While the issuer does not answer, those that are known go on being used.
    """

    def __init__(
        self, url: str, http: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: dict[str, PyJWK] = {}
        self._asked_at = -math.inf
        self._is_answered = False
        self._asking = asyncio.Lock()

    async def find(self, key_id: str) -> PyJWK | None:
        """The key with this id, or None if the issuer has none; raises JwksUnavailable."""
        # Who has a key does not wait while somebody else looks for newer ones.
        if self._known(key_id) is None or not self._asking.locked():
            async with self._asking:
                patience = KEEP_SECONDS if self._known(key_id) else PAUSE_SECONDS
                if self._clock() - self._asked_at >= patience:
                    await self._ask()
        key = self._known(key_id)
        if key is None and not self._is_answered:
            raise JwksUnavailable
        return key

    def _known(self, key_id: str) -> PyJWK | None:
        """A key by its id; ids are optional (RFC 7515, 7517) where there is one key only."""
        if len(self._keys) == 1 and (not key_id or "" in self._keys):
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _ask(self) -> None:
        self._asked_at, self._is_answered = self._clock(), False
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                response = await self._http.get(self._url)
            response.raise_for_status()
            self._keys = _usable(response.json())
            self._is_answered = True
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            log.warning("no keys from %s: %s", self._url, str(error) or type(error).__name__)


class SharedSecret:
    """One secret that signs and verifies, for development: who can check can also forge."""

    def __init__(self, secret: str) -> None:
        encoded = urlsafe_b64encode(secret.encode()).decode()
        self._key = PyJWK({"kty": "oct", "k": encoded}, SHARED)

    async def find(self, _: str) -> PyJWK:
        return self._key


class Verifier:
    """Tells good tokens from bad ones."""

    def __init__(self, rules: TokenRules, http: httpx.AsyncClient) -> None:
        self._rules = rules
        self._keys: KeySet | SharedSecret
        if rules.secret is not None:
            self._keys = SharedSecret(rules.secret)
        else:
            self._keys = KeySet(str(rules.jwks_url), http)

    async def verified(self, token: str) -> Token:
        """What the token says; raises InvalidToken or JwksUnavailable."""
        if len(token) > CHARACTERS_MAX:
            raise InvalidToken(f"it is longer than {CHARACTERS_MAX} characters")
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise InvalidToken("its key (kid) is not one that its issuer publishes")
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED},
            )
        except jwt.InvalidTokenError as error:
            raise InvalidToken(_words_for(error)) from None
        return _token(claims)


def issue_token(rules: TokenRules, subject: str, scope: str, seconds: int) -> str:
    """A token that our own verifier believes for so long; `rules` must have a secret."""
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
        raise InvalidToken("its scopes (scope or scp) are neither a text nor a list of words")
    return frozenset(words)


def _usable(document: Any) -> dict[str, PyJWK]:
    """The keys in a JWKS that sign as we want it; raises ValueError if there are none."""
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
        raise ValueError(f"its answer holds no {' or '.join(PUBLIC)} key that can be used")
    return usable


# The first that fits.
_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (jwt.ExpiredSignatureError, "it has expired"),
    (jwt.ImmatureSignatureError, "it is not valid yet"),
    (jwt.InvalidAudienceError, "it is meant for another audience (aud)"),
    (jwt.InvalidIssuerError, "it is from another issuer (iss)"),
    (jwt.InvalidAlgorithmError, "it is signed in another way (alg) than its key is for"),
    (jwt.InvalidSignatureError, "its signature is not one of its key"),
    (jwt.DecodeError, "it is no well-formed JWT"),
)


def _words_for(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it has no {error.claim} claim"
    words = (words for kind, words in _WORDS if isinstance(error, kind))
    return next(words, "one of its claims is not as JWT has it")
