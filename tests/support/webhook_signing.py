"""Signs webhooks as the senders do, by Standard Webhooks."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime

from standardwebhooks import Webhook


def new_secret() -> str:
    """A secret for one sender and one receiver."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def signed_headers(secret: str, message_id: str, now: float, body: bytes) -> dict[str, str]:
    """The headers that go with `body`; `now` is in seconds since 1970."""
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(now, UTC), body.decode())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signature,
    }
