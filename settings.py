"""The settings of every process, and how they are read from the environment.

Each field of `Settings` is one variable: `task_queue` is ORDERLY_TASK_QUEUE. An error is one
sentence that names the variable and what to write.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import PydanticBaseSettingsSource as Source

from orders.policy import Policy, Seconds

PREFIX = "ORDERLY_"
RATE_LIMIT_PER_SECOND = 100
SERVICE_TIMEOUT_SECONDS_MAX = 15  # Below STEP_TIMEOUT of workflows/activity_options.py.
TOKEN_SECRET_BYTES_MIN = 32  # The size of an HS256 hash.
ENDPOINT_KEY_BYTES = 32  # Of AES-256.
WEBHOOK_SECRET_BYTES = range(24, 65)  # By the Standard Webhooks specification.


class SettingsError(ValueError):
    """A variable is missing, unusable, renamed or unknown; the message says what to change."""


@dataclass(frozen=True)
class TokenRules:
    """Which tokens the API accepts: signed with a key at `jwks_url`, or with `secret`."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SignInRules:
    """As which client people sign in at the issuer of tokens, and what for."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    scopes: str
    audience: str
    """Of the tokens that the API accepts."""


@dataclass(frozen=True)
class RateLimit:
    """The requests that one caller may send: per second on average, and in one burst."""

    per_second: float
    burst: int


def _check_webhook_secret(secret: str) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    if not secret.startswith("whsec_") or len(key) not in WEBHOOK_SECRET_BYTES:
        raise ValueError
    return secret


def _check_endpoint_key(key: str) -> str:
    if len(base64.b64decode(key, validate=True)) != ENDPOINT_KEY_BYTES:
        raise ValueError
    return key


def _check_token_secret(secret: str) -> str:
    if len(secret.encode()) < TOKEN_SECRET_BYTES_MIN:
        raise ValueError
    return secret


def _check_trace_url(template: str) -> str:
    if "{trace_id}" not in template:
        raise ValueError
    return template


def _check_networks(proxies: str) -> str:
    for proxy in proxies.split(","):
        ip_network(proxy.strip())
    return proxies


# An error message puts "NAME must be" before the description, and the value after it, unless
# `repr` is False, which marks secrets.
_URL = Field(pattern="^https?://", description="a URL such as https://payments.internal")
_COUNT = Field(ge=0, lt=1_000_000, description="a whole number below a million")
_SLOTS = Field(gt=0, lt=1_000_000, description="a whole number from 1 to 999,999")
_DEADLINE = Field(description="a whole number of seconds, above 0 and at most ten years")
_WEBHOOK_SECRET = Field(repr=False, description="whsec_ and the base64 of 24 to 64 random bytes")

Url = Annotated[str | None, _URL]
Count = Annotated[int | None, _COUNT]
Deadline = Annotated[Seconds | None, _DEADLINE]
Networks = Annotated[
    Annotated[str, AfterValidator(_check_networks)] | None,
    Field(description="addresses or networks such as 10.0.0.5,10.1.0.0/16"),
]
WebhookSecret = Annotated[
    Annotated[str, AfterValidator(_check_webhook_secret)] | None, _WEBHOOK_SECRET
]


class _Variables(BaseSettings):
    """Values as they are given; only `from_environment` looks into the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        populate_by_name=True,
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Source, *others: Any, **more: Any
    ) -> tuple[Source, ...]:
        return (init_settings,)


class TokenSettings(_Variables):
    """Which tokens the API accepts."""

    token_jwks_url: Url = None
    token_issuer: str = ""
    token_audience: str = "orderly"
    token_secret: Annotated[
        Annotated[str, AfterValidator(_check_token_secret)] | None,
        Field(repr=False, description=f"at least {TOKEN_SECRET_BYTES_MIN} bytes long"),
    ] = None

    @model_validator(mode="after")
    def _check_keys(self) -> TokenSettings:
        if self.token_jwks_url and self.token_secret:
            raise ValueError(
                "Set ORDERLY_TOKEN_JWKS_URL, or ORDERLY_TOKEN_SECRET for development, not both."
            )
        if self.token_jwks_url and not self.token_issuer:
            raise ValueError(
                "Set ORDERLY_TOKEN_ISSUER to the iss claim of the tokens that the keys at "
                "ORDERLY_TOKEN_JWKS_URL sign."
            )
        return self

    @property
    def tokens(self) -> TokenRules | None:
        """None without keys: no authentication."""
        if self.token_jwks_url is None and self.token_secret is None:
            return None
        return TokenRules(
            issuer=self.token_issuer or "orderly",
            audience=self.token_audience,
            jwks_url=self.token_jwks_url,
            secret=self.token_secret,
        )


class SignInSettings(TokenSettings):
    """How people sign in to the console: at the issuer of tokens, or with a token they have."""

    oidc_client_id: str | None = None
    # Without it the console is a public client.
    oidc_client_secret: Annotated[
        str | None, Field(repr=False, description="the client's secret")
    ] = None
    oidc_scopes: str = "openid orders:read orders:write orders:operate"

    @model_validator(mode="after")
    def _check_sign_in(self) -> SignInSettings:
        if self.oidc_client_id is None and self.oidc_client_secret:
            raise ValueError("Set ORDERLY_OIDC_CLIENT_ID to the client that the secret is of.")
        if self.oidc_client_id and not self.token_jwks_url:
            raise ValueError(
                "Set ORDERLY_TOKEN_JWKS_URL and ORDERLY_TOKEN_ISSUER: people sign in, as "
                "ORDERLY_OIDC_CLIENT_ID says, at the issuer of tokens."
            )
        if self.oidc_client_id and not re.match("https?://", self.token_issuer):
            raise ValueError(
                "ORDERLY_TOKEN_ISSUER must be the URL at which people sign in if there is an "
                f"ORDERLY_OIDC_CLIENT_ID, not {self.token_issuer!r}."
            )
        if "openid" not in self.oidc_scopes.split():
            raise ValueError(
                f"ORDERLY_OIDC_SCOPES must include openid, not be {self.oidc_scopes!r}."
            )
        return self

    @property
    def sign_in(self) -> SignInRules | None:
        """None without a client: the console asks for a token."""
        if self.oidc_client_id is None:
            return None
        return SignInRules(
            issuer=self.token_issuer,
            client_id=self.oidc_client_id,
            client_secret=self.oidc_client_secret,
            scopes=self.oidc_scopes,
            audience=self.token_audience,
        )


class LogSettings(_Variables):
    """How a process logs."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="debug, info, warning or error"),
    ] = "info"
    # None: text on a terminal, else JSON.
    log_format: Annotated[Literal["json", "text"] | None, Field(description="json or text")] = None


_TOKEN = Annotated[
    str | None,
    Field(
        repr=False, pattern="^[!-~]+$", description="a token of visible ASCII characters, no spaces"
    ),
]


class ServiceSettings(_Variables):
    """How calls of payments, stock and shipping say who makes them; nothing is sent by default."""

    # Sent as `Authorization: Bearer`.
    payments_token: _TOKEN = None
    stock_token: _TOKEN = None
    shipping_token: _TOKEN = None
    # Sign each call, as in Standard Webhooks.
    payments_secret: WebhookSecret = None
    stock_secret: WebhookSecret = None
    shipping_secret: WebhookSecret = None
    # Paths of files, in PEM: who is trusted besides the public authorities, and our certificate.
    service_ca: str | None = None
    service_cert: str | None = None
    service_key: str | None = None

    @model_validator(mode="after")
    def _check_certificate(self) -> ServiceSettings:
        if (self.service_cert is None) != (self.service_key is None):
            raise ValueError(
                "Set ORDERLY_SERVICE_CERT and ORDERLY_SERVICE_KEY together, or neither."
            )
        return self


class Settings(SignInSettings, LogSettings, ServiceSettings):
    """The settings of the API, the worker, the projector and the operator's commands.

    The connection to Temporal is not among them: the SDK reads its own ``TEMPORAL_*`` variables
    (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_API_KEY``, TLS, profiles).
    """

    postgres_dsn: Annotated[
        str,
        Field(
            pattern="^postgres(ql)?://",
            repr=False,  # It may contain a password.
            description="a URL such as postgresql://orderly@db.internal/orderly",
        ),
    ]
    task_queue: str = "orders"
    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535, description="a port number")] = 8080
    # Of health, readiness and metrics. Without a port, each kind of process has one of its own:
    # admin/server.py.
    admin_host: str = "127.0.0.1"
    admin_port: Annotated[int | None, Field(ge=0, le=65535, description="a port number")] = None
    auth: Annotated[Literal["none"] | None, Field(description="none, or not set")] = None
    # Both or neither: together they register the worker as a pinned version of a deployment.
    # Temporal's worker controller sets them.
    deployment_name: str | None = Field(None, validation_alias="TEMPORAL_DEPLOYMENT_NAME")
    build_id: str | None = Field(None, validation_alias="TEMPORAL_WORKER_BUILD_ID")
    # Steps for a service without a URL stay pending and need attention.
    payments_url: Url = None
    stock_url: Url = None
    shipping_url: Url = None
    service_timeout_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=SERVICE_TIMEOUT_SECONDS_MAX,
            allow_inf_nan=False,
            description=f"a number of seconds, at most {SERVICE_TIMEOUT_SECONDS_MAX}",
        ),
    ] = 5.0
    # Without it the API rejects every webhook.
    webhook_secret: WebhookSecret = None
    rate_limit_per_second: Count = None
    rate_limit_burst: Count = None
    # Per API process; None: an adaptive limit.
    max_concurrent_commands: Annotated[int | None, _SLOTS] = None
    max_concurrent_reads: Annotated[int, _SLOTS] = 24
    # Per worker process; None: by its memory.
    cached_orders: Annotated[int | None, _SLOTS] = None
    # Load balancers whose X-Forwarded-For is trusted.
    trusted_proxies: Networks = None
    # Seals the secrets of webhook endpoints; without it there are no endpoints.
    endpoint_key: Annotated[
        Annotated[str, AfterValidator(_check_endpoint_key)] | None,
        Field(repr=False, description="the base64 of 32 random bytes"),
    ] = None
    # Where webhooks may go besides public addresses over HTTPS.
    endpoint_networks: Networks = None
    # Links of the console: to a trace, whose id replaces {trace_id}, and to the Temporal Web UI.
    trace_url: Annotated[
        Annotated[str, AfterValidator(_check_trace_url)] | None,
        Field(
            pattern="^https?://",
            description="a URL with {trace_id}, such as https://traces.internal/trace/{trace_id}",
        ),
    ] = None
    temporal_ui_url: Url = None
    endpoint_deliveries_days: Annotated[
        int, Field(ge=1, le=365, description="a whole number of days from 1 to 365")
    ] = 7
    policy_draft_seconds: Deadline = None
    policy_payment_retry_seconds: Deadline = None
    policy_shortfall_answer_seconds: Deadline = None
    policy_capture_seconds: Deadline = None
    policy_return_window_seconds: Deadline = None

    @model_validator(mode="after")
    def _check_deployment(self) -> Settings:
        if (self.deployment_name is None) != (self.build_id is None):
            raise ValueError(
                "Set TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID together, or neither."
            )
        return self

    @property
    def rate_limit(self) -> RateLimit | None:
        """Per caller and API process; by default there is none where there are no tokens."""
        per_second = self.rate_limit_per_second
        if per_second is None:
            per_second = RATE_LIMIT_PER_SECOND if self.tokens else 0
        if per_second == 0:
            return None
        return RateLimit(per_second, self.rate_limit_burst or 2 * per_second)

    @property
    def policy(self) -> Policy:
        """The deadlines of new orders."""
        seconds = {name: getattr(self, f"policy_{name}_seconds") for name in Policy.model_fields}
        return Policy(**{name: given for name, given in seconds.items() if given is not None})


class SimulatorSettings(LogSettings):
    """The settings of `orderly simulators`, which sends webhooks if both are set."""

    callback_url: Url = None
    webhook_secret: WebhookSecret = None


class RelaySettings(_Variables):
    """The settings of every `orderly relay`, besides the Postgres database."""

    public_url: Annotated[
        str,
        Field(
            pattern="^https?://",
            description="the URL at which consumers of events reach the API, such as"
            " https://orders.example",
        ),
    ]


class NatsSettings(RelaySettings):
    """The connection of `orderly relay nats`, under the names that NATS' own tools use."""

    url: Annotated[
        str,
        Field(
            validation_alias="NATS_URL",
            pattern="^(nats|tls)://",
            repr=False,  # It may contain a password.
            description="a URL such as nats://broker.internal:4222, or several separated by commas",
        ),
    ]
    # Paths of files.
    credentials: str | None = Field(None, validation_alias="NATS_CREDS")
    ca: str | None = Field(None, validation_alias="NATS_CA")
    certificate: str | None = Field(None, validation_alias="NATS_CERT")
    key: str | None = Field(None, validation_alias="NATS_KEY")

    @model_validator(mode="after")
    def _check_files(self) -> NatsSettings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("Set NATS_CERT and NATS_KEY together, or neither.")
        for name, file in {
            "NATS_CREDS": self.credentials,
            "NATS_CA": self.ca,
            "NATS_CERT": self.certificate,
            "NATS_KEY": self.key,
        }.items():
            if file is not None and not Path(file).is_file():
                raise ValueError(f"{name} must be the path of a file, not {file!r}.")
        return self

    @property
    def urls(self) -> list[str]:
        return [url.strip() for url in self.url.split(",")]

    @property
    def has_tls(self) -> bool:
        """Whether the connection must be encrypted."""
        return self.ca is not None or self.certificate is not None or "tls://" in self.url


def _variable(name: str, field: FieldInfo) -> str:
    """The variable of a field of a model of settings."""
    return str(field.validation_alias or f"{PREFIX}{name.upper()}")


VARIABLES = {
    _variable(name, variable): variable
    for model in (Settings, SimulatorSettings, NatsSettings)
    for name, variable in model.model_fields.items()
}
SECRETS = frozenset(name for name, variable in VARIABLES.items() if not variable.repr)
NAMES = VARIABLES.keys() | {f"{name}_FILE" for name in SECRETS}
RENAMED = {
    "ORDERLY_COMMANDS_AT_ONCE": "ORDERLY_MAX_CONCURRENT_COMMANDS",
    "ORDERLY_READS_AT_ONCE": "ORDERLY_MAX_CONCURRENT_READS",
    "ORDERLY_OPEN_ON_LOOPBACK": "ORDERLY_AUTH=none",
    "ORDERLY_PROXIES": "ORDERLY_TRUSTED_PROXIES",
    "ORDERLY_OUTSIDE_TIMEOUT_SECONDS": "ORDERLY_SERVICE_TIMEOUT_SECONDS",
    "ORDERLY_RATE_PER_SECOND": "ORDERLY_RATE_LIMIT_PER_SECOND",
    "ORDERLY_RATE_BURST": "ORDERLY_RATE_LIMIT_BURST",
    "PAYMENTS_URL": "ORDERLY_PAYMENTS_URL",
    "STOCK_URL": "ORDERLY_STOCK_URL",
    "SHIPPING_URL": "ORDERLY_SHIPPING_URL",
}

S = TypeVar("S", bound=_Variables)


def from_environment(model: type[S]) -> S:
    """Reads the settings of `model` from the environment; raises SettingsError."""
    check_names()
    try:
        return model(**(EnvSettingsSource(model)() | _secrets_in_files(model)))
    except ValidationError as error:
        raise SettingsError(_sentence(error.errors()[0])) from None  # `error` has the values.


def _secrets_in_files(model: type[_Variables]) -> dict[str, str]:
    """The secrets whose variable names a file, as in ORDERLY_TOKEN_SECRET_FILE, by field."""
    secrets = {}
    for name, known in model.model_fields.items():
        variable = _variable(name, known)
        if variable not in SECRETS or not (path := os.environ.get(f"{variable}_FILE")):
            continue
        if os.environ.get(variable):
            raise SettingsError(f"Set {variable} or {variable}_FILE, not both.")
        try:
            secrets[name] = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"{variable}_FILE: {path} cannot be read: {why}.") from None
    return secrets


def api_from_environment() -> Settings:
    """Reads the settings of the API, which needs token keys unless ORDERLY_AUTH is none."""
    settings = from_environment(Settings)
    if settings.auth is None and settings.tokens is None:
        raise SettingsError(
            "Set ORDERLY_TOKEN_JWKS_URL to the URL of your token keys, or ORDERLY_AUTH=none to "
            "disable authentication on the loopback interface."
        )
    if settings.auth and settings.tokens:
        raise SettingsError("Set ORDERLY_AUTH=none or the keys of tokens, not both.")
    if settings.auth and not _is_loopback(settings.api_host):
        raise SettingsError(
            "ORDERLY_AUTH=none needs an ORDERLY_API_HOST on loopback, such as 127.0.0.1, "
            f"not {settings.api_host!r}."
        )
    return settings


def check_names() -> None:
    """Raises SettingsError for a renamed or unknown variable, so that none is ignored silently."""
    for name, value in sorted(os.environ.items()):
        if value and name in RENAMED:
            raise SettingsError(f"{name} has a new name: set {RENAMED[name]} instead.")
        if value and _is_unknown(name, value):
            known = {each.removeprefix(PREFIX): each for each in sorted(NAMES) if PREFIX in each}
            nearest = get_close_matches(name.removeprefix(PREFIX), known, 1, cutoff=0.69)
            hint = f"the nearest is {known[nearest[0]]}" if nearest else "README.md lists all"
            raise SettingsError(f"There is no setting {name}; {hint}.")


def _is_unknown(name: str, value: str) -> bool:
    """Kubernetes sets variables such as ORDERLY_PORT for a service that is called orderly."""
    is_service_link = re.search(r"_SERVICE_(HOST|PORT)|_PORT_[0-9]+_", name) or (
        name.endswith("_PORT") and "://" in value
    )
    return name.startswith(PREFIX) and name not in NAMES and not is_service_link


def _sentence(error: Any) -> str:
    if not error["loc"]:  # Of a whole model: the sentence is written there.
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    name = name if name in VARIABLES else f"{PREFIX}{name.upper()}"
    variable = VARIABLES[name]
    if error["type"] == "missing":
        return f"Set {name} to {variable.description}."
    given = f", not {error['input']!r}" if variable.repr else ""
    return f"{name} must be {variable.description}{given}."


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
