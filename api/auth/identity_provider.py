"""Signs people in at the issuer of tokens: OpenID Connect, by the code flow with PKCE.

The browser's page makes the request and keeps the tokens. Here the code is exchanged, as that may
take the client's secret, and the ID token verified. Nothing of it is stored.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import jwt
from pydantic import BaseModel, ValidationError

from api.auth.tokens import InvalidToken, Verifier
from api.problems.catalog import SIGN_IN_REJECTED
from api.problems.errors import IdentityProviderUnavailable
from api.problems.problem import Problem
from settings import SignInRules, TokenRules

log = logging.getLogger("orderly.api")

DISCOVERY = "/.well-known/openid-configuration"
RESPONSE_SECONDS_MAX = 5
REFRESH_SECONDS = 300
RETRY_SECONDS = 5  # Between fetches, however many people want to sign in.


class Metadata(BaseModel):
    """What a provider publishes about itself (OpenID Connect Discovery)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]


@dataclass(frozen=True)
class SignIn:
    """A code, and the secrets of the request that it answers."""

    code: str
    code_verifier: str
    nonce: str
    redirect_uri: str


@dataclass(frozen=True)
class SignedIn:
    """A token for the API, and what renews it, if the provider gives that."""

    token: str
    refresh_token: str | None


class _TokenResponse(BaseModel):
    """By RFC 6749 and OpenID Connect."""

    access_token: str
    id_token: str | None = None
    refresh_token: str | None = None


class IdentityProvider:
    """The issuer of tokens, for people who sign in to the console."""

    def __init__(
        self,
        rules: SignInRules,
        http: httpx.AsyncClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._http = http
        self._clock = clock
        self._metadata: Metadata | None = None
        self._verifier: Verifier | None = None
        self._fetched_at = -math.inf
        self._fetching = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """What it publishes; while it does not respond, what it last did.

        Raises IdentityProviderUnavailable.
        """
        async with self._fetching:
            interval = REFRESH_SECONDS if self._metadata else RETRY_SECONDS
            if self._clock() - self._fetched_at >= interval:
                self._fetched_at = self._clock()
                await self._fetch()
        if self._metadata is None:
            raise IdentityProviderUnavailable
        return self._metadata

    async def sign_in(self, given: SignIn) -> SignedIn:
        """Exchanges a code for tokens.

        Raises a Problem if the provider rejects it, or its ID token is not one to this sign-in;
        IdentityProviderUnavailable; JwksUnavailable.
        """
        response = await self._request_tokens(
            grant_type="authorization_code",
            code=given.code,
            code_verifier=given.code_verifier,
            redirect_uri=given.redirect_uri,
        )
        if response.id_token is None:
            raise _rejected("its answer has no ID token")
        await self._check_id_token(response.id_token, given.nonce)
        return _signed_in(response)

    async def renew(self, refresh_token: str) -> SignedIn:
        """Exchanges a refresh token for a new token; raises as `sign_in` does."""
        return _signed_in(
            await self._request_tokens(grant_type="refresh_token", refresh_token=refresh_token)
        )

    async def _fetch(self) -> None:
        url = self.rules.issuer.rstrip("/") + DISCOVERY
        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                response = await self._http.get(url)
            response.raise_for_status()
            metadata = Metadata.model_validate_json(response.content)
            if metadata.issuer != self.rules.issuer:
                raise ValueError(f"it is of another issuer: {metadata.issuer!r}")
        except ValidationError:
            log.warning("the document at %s is not one of OpenID Connect Discovery", url)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
            log.warning("cannot fetch %s: %s", url, str(error) or type(error).__name__)
        else:
            if self._metadata is None or metadata.jwks_uri != self._metadata.jwks_uri:
                rules = TokenRules(
                    self.rules.issuer, self.rules.client_id, jwks_url=metadata.jwks_uri
                )
                self._verifier = Verifier(rules, self._http)
            self._metadata = metadata

    async def _request_tokens(self, **form: str) -> _TokenResponse:
        metadata = await self.metadata()
        form["client_id"] = self.rules.client_id
        auth, secret = httpx.Auth(), self.rules.client_secret  # Without a secret: none.
        if secret and "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            auth = httpx.BasicAuth(quote(self.rules.client_id, ""), quote(secret, ""))
        elif secret:
            form["client_secret"] = secret
        url = metadata.token_endpoint
        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                response = await self._http.post(url, data=form, auth=auth)
            if response.status_code in (400, 401):
                raise _rejected(_error_of(response))
            response.raise_for_status()
            return _TokenResponse.model_validate_json(response.content)
        except ValidationError:  # It would quote the tokens.
            log.warning("the response of %s has no tokens", url)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            log.warning("cannot fetch tokens from %s: %s", url, str(error) or type(error).__name__)
        raise IdentityProviderUnavailable

    async def _check_id_token(self, id_token: str, nonce: str) -> None:
        assert self._verifier is not None
        try:
            claims = await self._verifier.claims(id_token)
        except InvalidToken as error:
            raise _rejected(f"its ID token is invalid: {error}") from None
        if claims.get("nonce") != nonce:
            raise _rejected("its ID token is for another sign-in (nonce)")


def _signed_in(response: _TokenResponse) -> SignedIn:
    """The token for the API: the access token, or the ID token where that is the only JWT."""
    token = response.access_token
    if not _is_jwt(token) and response.id_token is not None:
        token = response.id_token
    return SignedIn(token, response.refresh_token)


def _is_jwt(token: str) -> bool:
    try:
        jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        return False
    return True


def _error_of(response: httpx.Response) -> str:
    """The error code of a response (RFC 6749, section 5.2)."""
    try:
        code = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {response.status_code}"
    if not all(" " <= character <= "~" for character in code):
        return f"it answered {response.status_code}"
    return f"it answered {code[:100]}"


def _rejected(reason: str) -> Problem:
    detail = f"The identity provider did not sign you in: {reason}."
    return Problem(SIGN_IN_REJECTED, detail)
