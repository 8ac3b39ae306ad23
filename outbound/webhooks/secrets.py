"""Secrets of endpoints: made here, and stored sealed (AES-256-GCM)."""

from __future__ import annotations

import base64
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_BYTES = 32
_PREFIX = "sealed-secret.1."
_NONCE_BYTES = 12


class SecretUnreadable(ValueError):
    """A sealed secret was changed, or sealed with another key."""


def new_secret() -> str:
    """A secret for one endpoint, in the form of Standard Webhooks."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


class SecretBox:
    """Seals and unseals secrets with the key in ORDERLY_ENDPOINT_KEY."""

    def __init__(self, key: str) -> None:
        self._cipher = AESGCM(base64.b64decode(key))

    def seal(self, secret: str, endpoint_id: str) -> str:
        """The secret as a token, which is of no use for another endpoint."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.encode(), endpoint_id.encode())
        return _PREFIX + base64.b64encode(nonce + sealed).decode()

    def unseal(self, token: str, endpoint_id: str) -> str:
        """The secret in a token; raises SecretUnreadable."""
        sealed = base64.b64decode(token.removeprefix(_PREFIX))
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, endpoint_id.encode()).decode()
        except (InvalidTag, ValueError):
            raise SecretUnreadable(
                "its secret cannot be read: ORDERLY_ENDPOINT_KEY is not the key that sealed it"
            ) from None
