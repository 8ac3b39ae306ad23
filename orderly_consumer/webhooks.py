"""Verifies webhooks, which are signed as in Standard Webhooks."""

from __future__ import annotations

import hmac
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256

from orderly_consumer.events import Event, parse_event

TOLERANCE_SECONDS = 5 * 60


class SignatureInvalid(Exception):
    """The webhook was not sent by the service, was changed, or is too old: answer 401."""


def verify(secret: str, headers: Mapping[str, str], body: bytes) -> Event:
    """The event of a webhook; raises SignatureInvalid.

    `secret` is that of the endpoint, `whsec_…`; of the headers, the case of names does not matter.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    try:
        webhook_id, timestamp = sent["webhook-id"], sent["webhook-timestamp"]
        signatures = [one.encode() for one in sent["webhook-signature"].split(" ")]
        # As integers: a float would overflow with a timestamp of hundreds of digits.
        age = abs(int(time.time()) - int(timestamp))
        signed = f"{webhook_id}.{timestamp}.".encode() + body
    except (KeyError, ValueError) as error:
        raise SignatureInvalid(f"a header is missing or malformed: {error}") from error
    if age > TOLERANCE_SECONDS:
        raise SignatureInvalid("it was signed too long ago, or the clocks differ")
    key = b64decode(secret.removeprefix("whsec_"))
    expected = b"v1," + b64encode(hmac.digest(key, signed, sha256))
    if not any(hmac.compare_digest(one, expected) for one in signatures):
        raise SignatureInvalid("no signature is right")
    return parse_event(json.loads(body))
