"""Secrets are sealed, and webhooks are signed as Standard Webhooks verifies them."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.secrets import SecretBox, SecretUnreadable, new_secret
from outbound.webhooks.signing import signed_headers, signers

NOW = datetime.now(UTC)
BODY = '{"id":"ord_x@1","data":{"text":"é"}}'.encode()


def new_box() -> SecretBox:
    return SecretBox(base64.b64encode(secrets.token_bytes(32)).decode())


BOX = new_box()


def endpoint(secret: str, old: str | None = None, until: datetime | None = None) -> Endpoint:
    return Endpoint(
        endpoint_id="we_1",
        version=1,
        url="https://shop.example",
        event_types=None,
        customer_id=None,
        description=None,
        base_url="https://orders.example",
        secret=BOX.seal(secret, "we_1"),
        old_secret=old and BOX.seal(old, "we_1"),
        old_secret_until=until,
        status="active",
        created_at=NOW,
        updated_at=NOW,
        resumed_at=None,
    )


def test_sealed_secret_does_not_contain_the_secret() -> None:
    secret = new_secret()
    sealed = BOX.seal(secret, "we_1")
    assert secret not in sealed and secret.removeprefix("whsec_") not in sealed
    assert BOX.unseal(sealed, "we_1") == secret
    assert BOX.seal(secret, "we_1") != sealed


def test_secret_cannot_be_unsealed_with_another_key_or_for_another_endpoint() -> None:
    sealed = BOX.seal(new_secret(), "we_1")
    for box, endpoint_id, token in (
        (new_box(), "we_1", sealed),
        (BOX, "we_2", sealed),
        (BOX, "we_1", sealed[:-8] + "AAAAAAA="),
        (BOX, "we_1", "sealed-secret.1.AAAA"),
    ):
        with pytest.raises(SecretUnreadable, match="ORDERLY_ENDPOINT_KEY"):
            box.unseal(token, endpoint_id)


def verify(secret: str, headers: dict[str, str]) -> None:
    Webhook(secret).verify(BODY, headers, json_parse=False)


def test_both_secrets_sign_until_the_old_one_has_ended() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    rotated = endpoint(new, old, NOW + timedelta(hours=1))
    headers = signed_headers(signers(rotated, BOX), datetime.now(UTC), "ord_x@1", BODY)
    assert headers["webhook-id"] == "ord_x@1"
    verify(new, headers)
    verify(old, headers)
    with pytest.raises(WebhookVerificationError):
        verify(other, headers)

    ended = replace(rotated, old_secret_until=NOW - timedelta(seconds=1))
    headers = signed_headers(signers(ended, BOX), datetime.now(UTC), "ord_x@1", BODY)
    verify(new, headers)
    with pytest.raises(WebhookVerificationError):
        verify(old, headers)


def test_old_secret_of_a_lost_key_is_left_out() -> None:
    new = new_secret()
    lost = new_box().seal(new_secret(), "we_1")
    for until in (NOW + timedelta(hours=1), NOW - timedelta(hours=1)):
        rotated = replace(endpoint(new), old_secret=lost, old_secret_until=until)
        headers = signed_headers(signers(rotated, BOX), datetime.now(UTC), "ord_x@1", BODY)
        verify(new, headers)
        assert " " not in headers["webhook-signature"]


def test_secret_of_a_lost_key_is_not_replaced_by_the_old_one() -> None:
    lost = replace(endpoint(new_secret()), secret=new_box().seal(new_secret(), "we_1"))
    readable = BOX.seal(new_secret(), "we_1")
    with pytest.raises(SecretUnreadable):
        signers(replace(lost, old_secret=readable, old_secret_until=NOW + timedelta(1)), BOX)
