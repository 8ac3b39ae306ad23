"""Everything the environment may decide, read once into one frozen value."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from pydantic import ValidationError

from orders.policy import Policy

OUTSIDE_TIMEOUT_SECONDS_MAX = 15  # Below ONE_CALL of workflows/steps.py.
RATE_PER_SECOND = 100
TOKEN_SECRET_BYTES_MIN = 32  # As many as its hash has.


class SettingsError(ValueError):
    """The environment lacks a setting or holds one that cannot be used; the message says which."""


@dataclass(frozen=True)
class TokenRules:
    """Which tokens the API believes: signed with a key at `jwks_url`, or with `secret`."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Rate:
    """How many requests each caller may send: so many a second, and so many at once."""

    per_second: float
    burst: int


@dataclass(frozen=True)
class Settings:
    """What a process needs to know about the world around it.

    The connection to Temporal is not here: the SDK reads its own ``TEMPORAL_*`` variables
    (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_API_KEY``, TLS, profiles).
    """

    postgres_dsn: str
    task_queue: str = "orders"
    api_host: str = "127.0.0.1"
    api_port: int = 8080
    # Both or neither: together they register the worker as a pinned version of a deployment.
    # The names are those that Temporal's own worker controller sets.
    deployment_name: str | None = None
    build_id: str | None = None
    # Without them what is owed to that service stays owed, and says so.
    payments_url: str | None = None
    stock_url: str | None = None
    shipping_url: str | None = None
    outside_timeout_seconds: float = 5.0
    # Without it no callback is believed.
    webhook_secret: str | None = field(default=None, repr=False)
    # Without them the API is open to whoever reaches it.
    tokens: TokenRules | None = None
    # Of each API process; None: no limit.
    rate: Rate | None = None
    # So many it serves at once; None: as many as it finds to be good.
    commands_at_once: int | None = None
    reads_at_once: int = 24
    # The balancers whose X-Forwarded-For says who calls: addresses or networks, with commas.
    proxies: str | None = None
    policy: Policy = field(default_factory=Policy)


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings; raises SettingsError with one sentence that says what to change."""
    dsn = environment.get("ORDERLY_POSTGRES_DSN", "")
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise SettingsError(
            "Set ORDERLY_POSTGRES_DSN to something like postgresql://orderly@db.internal/orderly."
        )
    port = environment.get("ORDERLY_API_PORT", str(Settings.api_port))
    if not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"ORDERLY_API_PORT must be a port number, not {port!r}.")
    name = environment.get("TEMPORAL_DEPLOYMENT_NAME") or None
    build_id = environment.get("TEMPORAL_WORKER_BUILD_ID") or None
    if (name is None) != (build_id is None):
        raise SettingsError(
            "Set TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID together, or neither."
        )
    return Settings(
        postgres_dsn=dsn,
        task_queue=environment.get("ORDERLY_TASK_QUEUE", Settings.task_queue),
        api_host=environment.get("ORDERLY_API_HOST", Settings.api_host),
        api_port=int(port),
        deployment_name=name,
        build_id=build_id,
        payments_url=_url(environment, "PAYMENTS_URL"),
        stock_url=_url(environment, "STOCK_URL"),
        shipping_url=_url(environment, "SHIPPING_URL"),
        outside_timeout_seconds=_timeout(environment),
        webhook_secret=_secret(environment),
        tokens=token_rules(environment),
        rate=_rate(environment),
        commands_at_once=_number(environment, "ORDERLY_COMMANDS_AT_ONCE") or None,
        reads_at_once=_number(environment, "ORDERLY_READS_AT_ONCE") or Settings.reads_at_once,
        proxies=_proxies(environment),
        policy=_policy(environment),
    )


def api_from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The same for the API, which must know its callers, or be told that it need not."""
    settings = from_environment(environment)
    is_open = environment.get("ORDERLY_OPEN_ON_LOOPBACK") or "no"
    if is_open not in ("yes", "no"):
        raise SettingsError(f"ORDERLY_OPEN_ON_LOOPBACK must be yes or no, not {is_open!r}.")
    if is_open == "yes" and settings.tokens:
        raise SettingsError(
            "Set ORDERLY_OPEN_ON_LOOPBACK or the keys of tokens, not both: an open API asks nobody."
        )
    if is_open == "yes" and not _is_loopback(settings.api_host):
        raise SettingsError(
            "ORDERLY_OPEN_ON_LOOPBACK needs an ORDERLY_API_HOST on loopback, such as 127.0.0.1, "
            f"not {settings.api_host!r}."
        )
    if is_open == "no" and not settings.tokens:
        raise SettingsError(
            "Set ORDERLY_TOKEN_JWKS_URL to where the keys of your tokens are, or "
            "ORDERLY_OPEN_ON_LOOPBACK=yes to serve whoever is on this machine."
        )
    return settings


def token_rules(environment: Mapping[str, str] = os.environ) -> TokenRules | None:
    """Which tokens are believed, if any; raises SettingsError as from_environment does."""
    jwks_url = _url(environment, "ORDERLY_TOKEN_JWKS_URL")
    secret = environment.get("ORDERLY_TOKEN_SECRET") or None
    issuer = environment.get("ORDERLY_TOKEN_ISSUER") or None
    if jwks_url is None and secret is None:
        return None
    if jwks_url is not None and secret is not None:
        raise SettingsError(
            "Set ORDERLY_TOKEN_JWKS_URL, or ORDERLY_TOKEN_SECRET for development, not both."
        )
    if jwks_url is not None and issuer is None:
        raise SettingsError(
            "Set ORDERLY_TOKEN_ISSUER to what the tokens of ORDERLY_TOKEN_JWKS_URL have as iss."
        )
    if secret is not None and len(secret.encode()) < TOKEN_SECRET_BYTES_MIN:
        raise SettingsError(
            f"ORDERLY_TOKEN_SECRET must have at least {TOKEN_SECRET_BYTES_MIN} bytes."
        )
    return TokenRules(
        issuer=issuer or "orderly",
        audience=environment.get("ORDERLY_TOKEN_AUDIENCE") or "orderly",
        jwks_url=jwks_url,
        secret=secret,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _url(environment: Mapping[str, str], name: str) -> str | None:
    url = environment.get(name) or None
    if url is not None and not url.startswith(("http://", "https://")):
        raise SettingsError(f"{name} must be something like https://{name.lower()}, not {url!r}.")
    return url


def _timeout(environment: Mapping[str, str]) -> float:
    name = "ORDERLY_OUTSIDE_TIMEOUT_SECONDS"
    value = environment.get(name) or str(Settings.outside_timeout_seconds)
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= OUTSIDE_TIMEOUT_SECONDS_MAX:
        raise SettingsError(
            f"{name} must be a number of seconds, at most {OUTSIDE_TIMEOUT_SECONDS_MAX},"
            f" not {value!r}."
        )
    return seconds


def _rate(environment: Mapping[str, str]) -> Rate | None:
    """The limit for each caller; without tokens there are no callers to tell apart, so none."""
    per_second = _number(environment, "ORDERLY_RATE_PER_SECOND")
    if per_second is None:
        per_second = RATE_PER_SECOND if token_rules(environment) else 0
    burst = _number(environment, "ORDERLY_RATE_BURST")
    return Rate(per_second, burst or 2 * per_second) if per_second else None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if value and not re.fullmatch("[0-9]{1,6}", value):
        raise SettingsError(f"{name} must be a whole number below a million, not {value!r}.")
    return int(value) if value else None


def _proxies(environment: Mapping[str, str]) -> str | None:
    proxies = environment.get("ORDERLY_PROXIES") or None
    try:
        for proxy in proxies.split(",") if proxies else []:
            ip_network(proxy.strip())
    except ValueError:
        raise SettingsError(
            "ORDERLY_PROXIES must be addresses or networks such as 10.0.0.5,10.1.0.0/16,"
            f" not {proxies!r}."
        ) from None
    return proxies


def _secret(environment: Mapping[str, str]) -> str | None:
    name = "ORDERLY_WEBHOOK_SECRET"
    secret = environment.get(name) or None
    if secret is not None:
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
            raise SettingsError(f"{name} must be whsec_ and the base64 of 24 to 64 random bytes.")
    return secret


def _policy(environment: Mapping[str, str]) -> Policy:
    names = {
        deadline: f"ORDERLY_POLICY_{deadline.upper()}_SECONDS" for deadline in Policy.model_fields
    }
    given = {
        deadline: environment[name] for deadline, name in names.items() if environment.get(name)
    }
    try:
        return Policy.model_validate(given)
    except ValidationError as error:
        deadline = str(error.errors()[0]["loc"][0])
        raise SettingsError(
            f"{names[deadline]} must be a whole number of seconds, above 0 and at most ten years, "
            f"not {given[deadline]!r}."
        ) from None
