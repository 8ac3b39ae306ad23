"""The environment is read once, and what is wrong in it is said in a sentence."""

from __future__ import annotations

import pytest

from orders.policy import Policy
from settings import (
    Rate,
    Settings,
    SettingsError,
    TokenRules,
    api_from_environment,
    from_environment,
)
from tests.support.webhook_signing import new_secret

DSN = {"ORDERLY_POSTGRES_DSN": "postgresql://db/orderly"}


def test_what_is_not_set_has_a_default() -> None:
    assert from_environment(DSN) == Settings(postgres_dsn=DSN["ORDERLY_POSTGRES_DSN"])
    nothing = dict.fromkeys(
        ("PAYMENTS_URL", "ORDERLY_WEBHOOK_SECRET", "ORDERLY_POLICY_DRAFT_SECONDS"), ""
    )
    assert from_environment(DSN | nothing) == from_environment(DSN)


def test_the_world_outside_comes_from_the_environment() -> None:
    secret = new_secret()
    settings = from_environment(
        DSN
        | {
            "PAYMENTS_URL": "https://pay.internal/v1",
            "STOCK_URL": "http://stock",
            "SHIPPING_URL": "http://shipping",
            "ORDERLY_OUTSIDE_TIMEOUT_SECONDS": "2.5",
            "ORDERLY_WEBHOOK_SECRET": secret,
            "ORDERLY_POLICY_DRAFT_SECONDS": "1",
            "ORDERLY_POLICY_PAYMENT_RETRY_SECONDS": "2",
            "ORDERLY_POLICY_SHORTFALL_ANSWER_SECONDS": "3",
            "ORDERLY_POLICY_CAPTURE_SECONDS": "4",
            "ORDERLY_POLICY_RETURN_WINDOW_SECONDS": "5",
        }
    )
    assert settings.payments_url == "https://pay.internal/v1"
    assert settings.outside_timeout_seconds == 2.5
    assert settings.policy == Policy(
        draft=1, payment_retry=2, shortfall_answer=3, capture=4, return_window=5
    )
    assert settings.webhook_secret == secret
    assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORDERLY_POSTGRES_DSN", "mysql://db"),
        ("ORDERLY_API_PORT", "http"),
        ("PAYMENTS_URL", "pay.internal"),
        ("STOCK_URL", "ftp://stock"),
        ("SHIPPING_URL", "//shipping"),
        ("ORDERLY_OUTSIDE_TIMEOUT_SECONDS", "0"),
        ("ORDERLY_OUTSIDE_TIMEOUT_SECONDS", "soon"),
        ("ORDERLY_OUTSIDE_TIMEOUT_SECONDS", "nan"),
        ("ORDERLY_OUTSIDE_TIMEOUT_SECONDS", "3600"),
        ("ORDERLY_RATE_PER_SECOND", "-1"),
        ("ORDERLY_RATE_PER_SECOND", "1e3"),
        ("ORDERLY_RATE_BURST", "many"),
        ("ORDERLY_COMMANDS_AT_ONCE", "2.5"),
        ("ORDERLY_READS_AT_ONCE", "9" * 20),
        ("ORDERLY_PROXIES", "balancer.internal"),
        ("ORDERLY_PROXIES", "10.0.0.1,"),
        ("ORDERLY_WEBHOOK_SECRET", "hunter2"),
        ("ORDERLY_WEBHOOK_SECRET", "whsec_c2hvcnQ="),
        ("ORDERLY_TOKEN_SECRET", "hunter2"),
        ("ORDERLY_TOKEN_JWKS_URL", "issuer.example/jwks.json"),
        ("ORDERLY_POLICY_DRAFT_SECONDS", "7 days"),
        ("ORDERLY_POLICY_CAPTURE_SECONDS", "0"),
        ("ORDERLY_POLICY_RETURN_WINDOW_SECONDS", "1.5"),
        ("ORDERLY_POLICY_RETURN_WINDOW_SECONDS", "9" * 20),
    ],
)
def test_a_value_that_cannot_be_used_is_named_in_one_sentence(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_environment({**DSN, name: value})
    sentence = str(refused.value)
    assert name in sentence
    assert sentence.endswith(".") and "\n" not in sentence
    assert "SECRET" not in name or value not in sentence


# Whose tokens the API believes

SECRET = {"ORDERLY_TOKEN_SECRET": "a secret of thirty-two bytes or more"}
JWKS = {"ORDERLY_TOKEN_JWKS_URL": "https://issuer.example/jwks.json"}
ISSUER = {"ORDERLY_TOKEN_ISSUER": "https://issuer.example"}
OPEN = {"ORDERLY_OPEN_ON_LOOPBACK": "yes"}


def test_keys_of_tokens_are_behind_a_url_or_one_shared_secret() -> None:
    by_secret = api_from_environment(DSN | SECRET)
    secret = SECRET["ORDERLY_TOKEN_SECRET"]
    assert by_secret.tokens == TokenRules("orderly", "orderly", secret=secret)
    assert secret not in repr(by_secret)
    by_url = api_from_environment(DSN | JWKS | ISSUER | {"ORDERLY_TOKEN_AUDIENCE": "shop"})
    assert by_url.tokens == TokenRules("https://issuer.example", "shop", *JWKS.values())


@pytest.mark.parametrize(
    ("variables", "rate"),
    [
        (OPEN, None),
        (SECRET, Rate(100, 200)),
        (SECRET | {"ORDERLY_RATE_PER_SECOND": "0"}, None),
        (SECRET | {"ORDERLY_RATE_PER_SECOND": "5"}, Rate(5, 10)),
        (SECRET | {"ORDERLY_RATE_BURST": "50"}, Rate(100, 50)),
        (OPEN | {"ORDERLY_RATE_PER_SECOND": "5", "ORDERLY_RATE_BURST": "1"}, Rate(5, 1)),
    ],
)
def test_callers_that_are_known_have_a_rate(variables: dict[str, str], rate: Rate | None) -> None:
    assert api_from_environment(DSN | variables).rate == rate


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_api_is_open_on_loopback_if_it_is_told_so(host: str) -> None:
    settings = api_from_environment(DSN | OPEN | {"ORDERLY_API_HOST": host})
    assert (settings.tokens, settings.api_host) == (None, host)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "ORDERLY_TOKEN_JWKS_URL"),
        ({"ORDERLY_OPEN_ON_LOOPBACK": ""}, "ORDERLY_TOKEN_JWKS_URL"),
        ({"ORDERLY_OPEN_ON_LOOPBACK": "no"}, "ORDERLY_TOKEN_JWKS_URL"),
        ({"ORDERLY_OPEN_ON_LOOPBACK": "true"}, "ORDERLY_OPEN_ON_LOOPBACK"),
        (OPEN | {"ORDERLY_API_HOST": "0.0.0.0"}, "ORDERLY_API_HOST"),
        (OPEN | {"ORDERLY_API_HOST": "::"}, "ORDERLY_API_HOST"),
        (OPEN | {"ORDERLY_API_HOST": "orders.internal"}, "ORDERLY_API_HOST"),
        (OPEN | SECRET, "ORDERLY_OPEN_ON_LOOPBACK"),
        (JWKS, "ORDERLY_TOKEN_ISSUER"),
        (JWKS | ISSUER | SECRET, "ORDERLY_TOKEN_SECRET"),
    ],
)
def test_an_api_that_would_not_know_its_callers_does_not_start(
    variables: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        api_from_environment(DSN | variables)
    sentence = str(refused.value)
    assert named in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_only_the_api_needs_to_know_callers() -> None:
    assert from_environment(DSN).tokens is None
