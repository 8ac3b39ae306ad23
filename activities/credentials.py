"""How calls of external services say who makes them: a token, a signature, a certificate."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook

from settings import ServiceSettings, SettingsError


@dataclass(frozen=True)
class Credentials:
    """Those of the calls of one service; without any, calls are anonymous."""

    token: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)

    def headers(self, key: str, content: bytes) -> Mapping[str, str]:
        """The headers of one attempt of a call; the signature is of its key, its time and body."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if self.secret is None:
            return headers
        now = datetime.now(UTC)
        return headers | {
            "webhook-id": key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self.secret).sign(key, now, content.decode()),
        }

    @property
    def are_given(self) -> bool:
        return self.token is not None or self.secret is not None


ANONYMOUS = Credentials()


def credentials_for(settings: ServiceSettings, service: str) -> Credentials:
    """The credentials for payments, stock or shipping."""
    return Credentials(
        token=getattr(settings, f"{service}_token"), secret=getattr(settings, f"{service}_secret")
    )


def tls(settings: ServiceSettings) -> ssl.SSLContext:
    """Trusts the public authorities and the given one, and shows our certificate if there is one.

    Raises SettingsError for files that cannot be used.
    """
    context = httpx.create_ssl_context()
    if settings.service_ca is not None:
        try:
            context.load_verify_locations(settings.service_ca)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(_unusable("ORDERLY_SERVICE_CA", error)) from None
    if settings.service_cert is not None:
        try:
            context.load_cert_chain(settings.service_cert, settings.service_key, _no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            names = "ORDERLY_SERVICE_CERT and ORDERLY_SERVICE_KEY"
            raise SettingsError(_unusable(names, error)) from None
    return context


def _no_password() -> str:
    """Instead of a question at the terminal."""
    raise ValueError("the key must have no password")


def _unusable(names: str, error: Exception) -> str:
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{names} must name files in PEM that can be used: {why}."
