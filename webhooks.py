"""Webhooks as Standard Webhooks signs them: what a sender adds and what a receiver checks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping

SECRET_PREFIX = "whsec_"
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64
TOLERANCE_S = 5 * 60  # A message that is older may be one that somebody recorded.
ID_CHARACTERS_MAX = 256


class BadSignature(Exception):
    """Nobody who knows the secret sent this, or not now; the message says what is wrong with it."""


def new_secret() -> str:
    """A secret for one sender and one receiver."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """The key in a secret; raises ValueError with the rest of a sentence that begins with it."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise ValueError(
            f"must be {SECRET_PREFIX} and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} "
            "random bytes"
        )
    return key


def signed(secret: str, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """The headers that go with `body`; `now` is in seconds since 1970."""
    timestamp = str(int(now))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{_signature(secret, message_id, timestamp, body)}",
    }


def verified(secret: str, headers: Mapping[str, str], now: float, body: bytes) -> str:
    """The id of a message that is what its sender signed, and is fresh; raises BadSignature."""
    message_id, timestamp, signatures = (
        headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not 0 < len(message_id) <= ID_CHARACTERS_MAX or not signatures:
        raise BadSignature("the webhook-id or webhook-signature header is missing")
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        raise BadSignature("the webhook-timestamp header is not a number of seconds")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise BadSignature(f"it was signed more than {TOLERANCE_S // 60} minutes from now")
    expected = _signature(secret, message_id, timestamp, body).encode()
    # There may be several, so that a sender can change the secret without a gap.
    for signature in signatures.split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value.encode(), expected):
            return message_id
    raise BadSignature("the signature is not one of this body under our secret")


def _signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    content = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key_of(secret), content, hashlib.sha256)).decode()
