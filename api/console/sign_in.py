"""Signing in to the console at the issuer of tokens.

These routes give the page what it needs for that and keep nothing: no cookie, no session. They are
no part of the public API, as a program asks the issuer itself.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth.identity_provider import IdentityProvider, SignedIn, SignIn
from api.dependencies import Services, ServicesDep
from api.problems.catalog import NOT_FOUND
from api.problems.problem import Problem
from api.problems.strict_route import StrictRoute

router = APIRouter(prefix="/console/sign-in", include_in_schema=False, route_class=StrictRoute)

Secret = Annotated[str, Field(min_length=1, max_length=8_192, repr=False)]


class Provider(BaseModel):
    """Where people sign in, and as which client."""

    issuer: str
    authorization_endpoint: str
    client_id: str
    scope: str
    audience: str


class Providers(BaseModel):
    """The identity provider; null: the console asks for a token."""

    provider: Provider | None


class SignInBody(BaseModel):
    """What came of a request to the provider, and the secrets of that request."""

    model_config = ConfigDict(extra="forbid")

    code: Secret
    code_verifier: Annotated[str, Field(min_length=43, max_length=128, repr=False)]
    nonce: Secret
    redirect_uri: Annotated[str, Field(pattern="^https?://", max_length=2_048)]


class RenewalBody(BaseModel):
    """What renews a token."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: Secret


@router.get("")
async def get_provider(services: ServicesDep) -> Providers:
    """Where people sign in."""
    one = services.identity_provider
    if one is None:
        return Providers(provider=None)
    metadata = await one.metadata()
    return Providers(
        provider=Provider(
            issuer=one.rules.issuer,
            authorization_endpoint=metadata.authorization_endpoint,
            client_id=one.rules.client_id,
            scope=one.rules.scopes,
            audience=one.rules.audience,
        )
    )


@router.post("")
async def sign_in(services: ServicesDep, body: SignInBody, response: Response) -> SignedIn:
    """Exchanges a code for tokens."""
    response.headers["Cache-Control"] = "no-store"
    return await _provider(services).sign_in(SignIn(**body.model_dump()))


@router.post("/renewal")
async def renew_token(services: ServicesDep, body: RenewalBody, response: Response) -> SignedIn:
    """Exchanges a refresh token for a new token."""
    response.headers["Cache-Control"] = "no-store"
    return await _provider(services).renew(body.refresh_token)


def _provider(services: Services) -> IdentityProvider:
    if services.identity_provider is None:
        raise Problem(NOT_FOUND)
    return services.identity_provider
