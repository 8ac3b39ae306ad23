"""A webhook is an event only if it is signed as in Standard Webhooks."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from orderly_consumer import SignatureInvalid, verify
from orderly_consumer.events import OrderPlaced
from outbound.webhooks.secrets import new_secret
from tests.support.consumed_events import PLACED

SECRET, OTHER = new_secret(), new_secret()
BODY = json.dumps(PLACED, ensure_ascii=False).encode()
ARABIC_DIGITS = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")


def headers(*secrets: str, body: bytes = BODY, age: timedelta = timedelta()) -> dict[str, str]:
    at = datetime.now(UTC) - age
    signatures = [Webhook(one).sign("ord_x@3", at, body.decode()) for one in secrets]
    return {
        "Webhook-Id": "ord_x@3",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": " ".join(signatures),
    }


def test_signed_webhook_is_its_event() -> None:
    event = verify(SECRET, headers(SECRET), BODY)
    assert isinstance(event, OrderPlaced)
    assert (event.id, event.cursor) == ("ord_x@3", None)


def test_either_secret_is_accepted_while_it_is_rotated() -> None:
    both = headers(OTHER, SECRET)
    assert verify(SECRET, both, BODY) == verify(OTHER, both, BODY)


def test_changed_body_is_rejected() -> None:
    with pytest.raises(SignatureInvalid):
        verify(SECRET, headers(SECRET), BODY.replace(b"180", b"190"))


def test_signature_with_another_secret_is_rejected() -> None:
    with pytest.raises(SignatureInvalid):
        verify(SECRET, headers(OTHER), BODY)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Webhook-Id", "ord_x@4"),
        ("Webhook-Id", "\udcff"),
        ("Webhook-Timestamp", "1"),
        ("Webhook-Timestamp", "-1"),
        ("Webhook-Timestamp", "soon"),
        ("Webhook-Timestamp", "inf"),
        ("Webhook-Timestamp", "nan"),
        pytest.param("Webhook-Timestamp", "9" * 400, id="too large for a float"),
        pytest.param("Webhook-Timestamp", "9" * 5_000, id="too long for an integer"),
        pytest.param(
            "Webhook-Timestamp",
            str(int(time.time())).translate(ARABIC_DIGITS),
            id="digits of another script",
        ),
        ("Webhook-Signature", ""),
        ("Webhook-Signature", "v1,größer"),
        ("Webhook-Signature", "v1,\udcff"),
        ("Webhook-Signature", "v1,"),
    ],
)
def test_changed_header_is_rejected(header: str, value: str) -> None:
    with pytest.raises(SignatureInvalid):
        verify(SECRET, {**headers(SECRET), header: value}, BODY)


@pytest.mark.parametrize("header", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_missing_header_is_named(header: str) -> None:
    sent = {name: value for name, value in headers(SECRET).items() if name != header}
    with pytest.raises(SignatureInvalid, match=header.lower()):
        verify(SECRET, sent, BODY)


@pytest.mark.parametrize("minutes", [6, -6])
def test_webhook_from_another_time_is_rejected(minutes: int) -> None:
    with pytest.raises(SignatureInvalid, match="too long ago"):
        verify(SECRET, headers(SECRET, age=timedelta(minutes=minutes)), BODY)
