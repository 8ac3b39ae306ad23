"""The headers of a webhook, signed as in Standard Webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from standardwebhooks import Webhook as Signer

from outbound.cloudevents import MEDIA_TYPE
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.secrets import SecretBox, SecretUnreadable


def signers(endpoint: Endpoint, box: SecretBox) -> list[tuple[Signer, datetime | None]]:
    """The secrets of an endpoint, the newest first, each with the time of its end.

    Raises SecretUnreadable if the newest one cannot be read.
    """
    found: list[tuple[Signer, datetime | None]] = [
        (Signer(box.unseal(endpoint.secret, endpoint.endpoint_id)), None)
    ]
    if endpoint.old_secret is not None:
        # It cannot be read where its key was lost, and the secret was rotated because of that.
        with suppress(SecretUnreadable):
            old = Signer(box.unseal(endpoint.old_secret, endpoint.endpoint_id))
            found.append((old, endpoint.old_secret_until))
    return found


def signed_headers(
    signers: Sequence[tuple[Signer, datetime | None]], now: datetime, webhook_id: str, body: bytes
) -> dict[str, str]:
    """The headers of one attempt: signed with each secret that has not ended."""
    text = body.decode()
    signatures = [
        signer.sign(webhook_id, now, text)
        for signer, until in signers
        if until is None or now < until
    ]
    return {
        "Content-Type": MEDIA_TYPE,
        "User-Agent": "orderly",
        "Accept-Encoding": "identity",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
