"""What is sent to NATS, and with which credentials and settings."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from eventlog.log import START
from outbound.relay.nats import subject_of
from outbound.relay.nats_credentials import CredentialsError, read_jwt, sign
from outbound.rendering import RenderedEvent
from settings import NatsSettings, SettingsError, from_environment
from tests.support.environment import reading
from tests.support.nats_security import write_credentials

NATS = {"ORDERLY_PUBLIC_URL": "https://orders.example", "NATS_URL": "tls://u:hunter2@broker:4222"}


def settings_of(**variables: str) -> NatsSettings:
    return reading(NATS | variables, lambda: from_environment(NatsSettings))


def test_subject_has_the_type_and_one_token_for_the_order() -> None:
    event = RenderedEvent(START, "shop.eu.7", 1, "item-added", 2, b"{}")
    assert subject_of(event) == "orderly.order.item-added.v2.shop%2Eeu%2E7"


def test_credentials_are_read_from_the_file(tmp_path: Path) -> None:
    file = write_credentials(tmp_path, "some.token.here")
    assert read_jwt(str(file)) == b"some.token.here"
    assert len(base64.b64decode(sign(str(file), "nonce"))) == 64
    assert sign(str(file), "nonce") != sign(str(file), "another")
    for content in (b"hunter2", b"hunter2 \xff"):
        file.write_bytes(content)
        with pytest.raises(CredentialsError, match="has no credentials") as error:
            read_jwt(str(file))
        assert "hunter2" not in str(error.value)


def test_connection_is_configured_as_for_other_tools_of_nats(tmp_path: Path) -> None:
    file = tmp_path / "some.pem"
    file.touch()
    found = settings_of(NATS_URL="nats://a:1, nats://b:2", NATS_CA=str(file))
    assert found.urls == ["nats://a:1", "nats://b:2"]
    assert found.has_tls and not settings_of(NATS_URL="nats://a:1").has_tls
    file.write_text("nats://u:hunter2@c:3\n")
    assert settings_of(NATS_URL="", NATS_URL_FILE=str(file)).urls == ["nats://u:hunter2@c:3"]
    assert settings_of().has_tls and "hunter2" not in repr(settings_of())


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NATS_URL": ""}, "Set NATS_URL to a URL such as nats://"),
        ({"NATS_URL": "http://u:hunter2@broker"}, "NATS_URL must be a URL such as nats://"),
        ({"ORDERLY_PUBLIC_URL": ""}, "Set ORDERLY_PUBLIC_URL to the URL at which"),
        ({"NATS_CREDS": "nowhere"}, "NATS_CREDS must be the path of a file, not 'nowhere'."),
        ({"NATS_CERT": __file__}, "Set NATS_CERT and NATS_KEY together, or neither."),
    ],
)
def test_wrong_settings_say_what_to_change(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings_of(**variables)
    assert message in str(error.value) and "hunter2" not in str(error.value)
