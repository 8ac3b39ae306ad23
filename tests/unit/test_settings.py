"""The environment is read once, and an error in it is one sentence that names the variable."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from orders.policy import Policy
from settings import (
    NAMES,
    RENAMED,
    SECRETS,
    VARIABLES,
    RateLimit,
    Settings,
    SettingsError,
    SignInRules,
    SimulatorSettings,
    TokenRules,
    TokenSettings,
    api_from_environment,
    from_environment,
)
from tests.support.environment import reading
from tests.support.webhook_signing import new_secret

ENDPOINT_KEY = base64.b64encode(secrets.token_bytes(32)).decode()
DSN = {"ORDERLY_POSTGRES_DSN": "postgresql://orderly:hunter2@db/orderly"}


def settings_of(variables: dict[str, str]) -> Settings:
    return reading(variables, lambda: from_environment(Settings))


def api_settings_of(variables: dict[str, str]) -> Settings:
    return reading(variables, api_from_environment)


def error_of(variables: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as error:
        settings_of(variables)
    return one_sentence(error)


def one_sentence(error: pytest.ExceptionInfo[SettingsError]) -> str:
    sentence = str(error.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


def test_a_variable_that_is_unset_or_empty_has_its_default() -> None:
    assert settings_of(DSN) == Settings(postgres_dsn=DSN["ORDERLY_POSTGRES_DSN"])
    empty = dict.fromkeys(VARIABLES.keys() - DSN.keys(), "")
    assert settings_of(DSN | empty) == settings_of(DSN)


def test_settings_given_in_code_ignore_the_environment() -> None:
    variables = DSN | {"ORDERLY_TASK_QUEUE": "others"}
    given = reading(variables, lambda: Settings(postgres_dsn="postgresql://here"))
    assert (given.postgres_dsn, given.task_queue) == ("postgresql://here", "orders")


def test_every_variable_is_read() -> None:
    secret = new_secret()
    settings = settings_of(
        DSN
        | {
            "ORDERLY_TASK_QUEUE": "others",
            "ORDERLY_API_HOST": "0.0.0.0",
            "ORDERLY_API_PORT": "9000",
            "TEMPORAL_DEPLOYMENT_NAME": "orderly",
            "TEMPORAL_WORKER_BUILD_ID": "b1",
            "ORDERLY_PAYMENTS_URL": "https://pay.internal/v1",
            "ORDERLY_STOCK_URL": "http://stock",
            "ORDERLY_SHIPPING_URL": "http://shipping",
            "ORDERLY_SERVICE_TIMEOUT_SECONDS": "2.5",
            "ORDERLY_PAYMENTS_TOKEN": "t0ken",
            "ORDERLY_STOCK_SECRET": secret,
            "ORDERLY_SERVICE_CA": "ca.pem",
            "ORDERLY_SERVICE_CERT": "cert.pem",
            "ORDERLY_SERVICE_KEY": "key.pem",
            "ORDERLY_WEBHOOK_SECRET": secret,
            "ORDERLY_MAX_CONCURRENT_COMMANDS": "7",
            "ORDERLY_MAX_CONCURRENT_READS": "8",
            "ORDERLY_CACHED_ORDERS": "300",
            "ORDERLY_TRUSTED_PROXIES": "10.0.0.5, 10.1.0.0/16",
            "ORDERLY_ENDPOINT_KEY": ENDPOINT_KEY,
            "ORDERLY_ENDPOINT_NETWORKS": "127.0.0.0/8",
            "ORDERLY_ENDPOINT_DELIVERIES_DAYS": "3",
            "ORDERLY_TRACE_URL": "https://traces/{trace_id}",
            "ORDERLY_TEMPORAL_UI_URL": "http://temporal:8233",
            "ORDERLY_POLICY_DRAFT_SECONDS": "1",
            "ORDERLY_POLICY_PAYMENT_RETRY_SECONDS": "2",
            "ORDERLY_POLICY_SHORTFALL_ANSWER_SECONDS": "3",
            "ORDERLY_POLICY_CAPTURE_SECONDS": "4",
            "ORDERLY_POLICY_RETURN_WINDOW_SECONDS": "5",
        }
    )
    assert (settings.task_queue, settings.api_host, settings.api_port) == (
        "others",
        "0.0.0.0",
        9000,
    )
    assert (settings.deployment_name, settings.build_id) == ("orderly", "b1")
    assert settings.payments_url == "https://pay.internal/v1"
    assert (settings.stock_url, settings.shipping_url) == ("http://stock", "http://shipping")
    assert settings.service_timeout_seconds == 2.5
    assert (settings.payments_token, settings.stock_secret) == ("t0ken", secret)
    assert settings.trace_url == "https://traces/{trace_id}"
    assert settings.temporal_ui_url == "http://temporal:8233"
    files = (settings.service_ca, settings.service_cert, settings.service_key)
    assert files == ("ca.pem", "cert.pem", "key.pem")
    assert settings.webhook_secret == secret
    assert (settings.max_concurrent_commands, settings.max_concurrent_reads) == (7, 8)
    assert settings.cached_orders == 300
    assert settings.trusted_proxies == "10.0.0.5, 10.1.0.0/16"
    assert settings.endpoint_key == ENDPOINT_KEY
    assert (settings.endpoint_networks, settings.endpoint_deliveries_days) == ("127.0.0.0/8", 3)
    assert settings.policy == Policy(
        draft=1, payment_retry=2, shortfall_answer=3, capture=4, return_window=5
    )


def test_the_representation_has_no_secret() -> None:
    secret = new_secret()
    secrets = {"ORDERLY_WEBHOOK_SECRET": secret, "ORDERLY_ENDPOINT_KEY": ENDPOINT_KEY}
    shown = repr(settings_of(DSN | SECRET | secrets))
    assert "task_queue='orders'" in shown
    for hidden in ("hunter2", secret, ENDPOINT_KEY, *SECRET.values()):
        assert hidden not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORDERLY_POSTGRES_DSN", "mysql://orderly:hunter2@db"),
        ("ORDERLY_API_PORT", "http"),
        ("ORDERLY_API_PORT", "65536"),
        ("ORDERLY_PAYMENTS_URL", "pay.internal"),
        ("ORDERLY_STOCK_URL", "ftp://stock"),
        ("ORDERLY_SHIPPING_URL", "//shipping"),
        ("ORDERLY_SERVICE_TIMEOUT_SECONDS", "0"),
        ("ORDERLY_SERVICE_TIMEOUT_SECONDS", "soon"),
        ("ORDERLY_SERVICE_TIMEOUT_SECONDS", "nan"),
        ("ORDERLY_SERVICE_TIMEOUT_SECONDS", "3600"),
        ("ORDERLY_RATE_LIMIT_PER_SECOND", "-1"),
        ("ORDERLY_RATE_LIMIT_PER_SECOND", "1e3"),
        ("ORDERLY_RATE_LIMIT_BURST", "many"),
        ("ORDERLY_MAX_CONCURRENT_COMMANDS", "2.5"),
        ("ORDERLY_MAX_CONCURRENT_COMMANDS", "0"),
        ("ORDERLY_MAX_CONCURRENT_READS", "9" * 20),
        ("ORDERLY_MAX_CONCURRENT_READS", "0"),
        ("ORDERLY_TRUSTED_PROXIES", "balancer.internal"),
        ("ORDERLY_TRUSTED_PROXIES", "10.0.0.1,"),
        ("ORDERLY_PAYMENTS_TOKEN", "two words"),
        ("ORDERLY_SHIPPING_TOKEN", "umläut"),
        ("ORDERLY_STOCK_SECRET", "hunter2"),
        ("ORDERLY_WEBHOOK_SECRET", "hunter2"),
        ("ORDERLY_WEBHOOK_SECRET", "whsec_c2hvcnQ="),
        ("ORDERLY_WEBHOOK_SECRET", "c2hvcnQgb2YgYSBwcmVmaXgsIGJ1dCBsb25n"),
        ("ORDERLY_WEBHOOK_SECRET", "whsec_é" + "A" * 40),
        ("ORDERLY_TOKEN_SECRET", "hunter2"),
        ("ORDERLY_ENDPOINT_KEY", "hunter2"),
        ("ORDERLY_ENDPOINT_KEY", "c2hvcnQ="),
        ("ORDERLY_ENDPOINT_NETWORKS", "everywhere"),
        ("ORDERLY_ENDPOINT_DELIVERIES_DAYS", "0"),
        ("ORDERLY_TOKEN_JWKS_URL", "issuer.example/jwks.json"),
        ("ORDERLY_POLICY_DRAFT_SECONDS", "7 days"),
        ("ORDERLY_POLICY_CAPTURE_SECONDS", "0"),
        ("ORDERLY_POLICY_RETURN_WINDOW_SECONDS", "1.5"),
        ("ORDERLY_POLICY_RETURN_WINDOW_SECONDS", "9" * 20),
    ],
)
def test_an_unusable_value_is_named_without_secrets(name: str, value: str) -> None:
    sentence = error_of({**DSN, name: value})
    assert sentence.startswith(f"{name} must be ")
    is_secret = any(word in name for word in ("SECRET", "DSN", "KEY")) or name.endswith("_TOKEN")
    assert (repr(value) in sentence) is not is_secret
    assert "hunter2" not in sentence


def test_a_missing_dsn_is_named() -> None:
    assert error_of({}) == (
        "Set ORDERLY_POSTGRES_DSN to a URL such as postgresql://orderly@db.internal/orderly."
    )


@pytest.mark.parametrize("name", ["TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID"])
def test_a_deployment_needs_both_names(name: str) -> None:
    sentence = error_of(DSN | {name: "x"})
    assert "TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID" in sentence


PROVIDER = {
    "ORDERLY_TOKEN_JWKS_URL": "https://login.example/keys",
    "ORDERLY_TOKEN_ISSUER": "https://login.example",
}
CLIENT = {"ORDERLY_OIDC_CLIENT_ID": "console"}


def test_people_sign_in_at_the_issuer_of_tokens() -> None:
    assert settings_of(DSN | PROVIDER).sign_in is None
    secret = {"ORDERLY_OIDC_CLIENT_SECRET": "s3cret"}
    rules = settings_of(DSN | PROVIDER | CLIENT | secret).sign_in
    assert rules == SignInRules(
        issuer="https://login.example",
        client_id="console",
        client_secret="s3cret",
        scopes="openid orders:read orders:write orders:operate",
        audience="orderly",
    )
    assert "s3cret" not in repr(rules)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (CLIENT, "ORDERLY_TOKEN_JWKS_URL"),
        (
            CLIENT | PROVIDER | {"ORDERLY_TOKEN_ISSUER": "us"},
            "ORDERLY_TOKEN_ISSUER must be the URL",
        ),
        ({"ORDERLY_OIDC_CLIENT_SECRET": "s3cret"}, "Set ORDERLY_OIDC_CLIENT_ID"),
        ({"ORDERLY_OIDC_SCOPES": "orders:read"}, "must include openid, not be 'orders:read'"),
    ],
    ids=["keys", "issuer", "client", "scopes"],
)
def test_client_that_cannot_sign_anyone_in_is_rejected(
    variables: dict[str, str], named: str
) -> None:
    sentence = error_of(DSN | variables)
    assert named in sentence and "s3cret" not in sentence


# Names


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
@pytest.mark.parametrize("model", [Settings, TokenSettings, SimulatorSettings])
def test_a_renamed_variable_is_rejected_with_its_new_name(
    model: type[Settings], old: str, new: str
) -> None:
    assert reading(DSN | {old: ""}, lambda: from_environment(model)), "empty counts as not set"
    with pytest.raises(SettingsError) as error:
        reading(DSN | {old: "yes"}, lambda: from_environment(model))
    assert one_sentence(error) == f"{old} has a new name: set {new} instead."
    assert new.partition("=")[0] in NAMES


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ORDERLY_TOKEN_SECRETS", "ORDERLY_TOKEN_SECRET"),
        ("ORDERLY_API_PRT", "ORDERLY_API_PORT"),
        ("ORDERLY_POLICY_DRAFT_MINUTES", "ORDERLY_POLICY_DRAFT_SECONDS"),
    ],
)
def test_an_unknown_variable_is_rejected_with_the_nearest_name(name: str, nearest: str) -> None:
    sentence = error_of(DSN | {name: "1"})
    assert sentence == f"There is no setting {name}; the nearest is {nearest}."
    assert settings_of(DSN | {name: ""}) == settings_of(DSN)


@pytest.mark.parametrize("name", ["ORDERLY_XYZ", "ORDERLY_DATABASE_URL", "ORDERLY_VERBOSE"])
def test_an_unknown_variable_that_resembles_none_is_rejected_without_a_guess(name: str) -> None:
    assert error_of(DSN | {name: "1"}) == f"There is no setting {name}; README.md lists all."


def test_variables_that_kubernetes_sets_for_a_service_are_ignored() -> None:
    links = {
        "ORDERLY_SERVICE_HOST": "10.0.0.1",
        "ORDERLY_SERVICE_PORT": "8080",
        "ORDERLY_SERVICE_PORT_HTTP": "8080",
        "ORDERLY_PORT": "tcp://10.0.0.1:8080",
        "ORDERLY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "ORDERLY_PORT_8080_TCP_ADDR": "10.0.0.1",
        "ORDERLY_WORKER_PORT": "tcp://10.0.0.1:8080",
    }
    assert settings_of(DSN | links) == settings_of(DSN)


def test_every_process_knows_the_variables_of_the_others() -> None:
    callback = {"ORDERLY_CALLBACK_URL": "http://api/v1/callbacks"}
    assert settings_of(DSN | callback) == settings_of(DSN)
    simulators = reading(DSN | callback, lambda: from_environment(SimulatorSettings))
    assert simulators.callback_url == callback["ORDERLY_CALLBACK_URL"]


# Secrets in files


def test_each_secret_may_be_in_a_file(tmp_path: Path) -> None:
    variables = DSN | SECRET | {"ORDERLY_WEBHOOK_SECRET": new_secret()}
    in_files = {}
    for name, secret in variables.items():
        (tmp_path / name).write_text(f"{secret}\n")
        in_files[f"{name}_FILE"] = str(tmp_path / name)
    assert settings_of(in_files) == settings_of(variables)
    of_services = {
        f"ORDERLY_{service}_{kind}"
        for service in ("PAYMENTS", "STOCK", "SHIPPING")
        for kind in ("TOKEN", "SECRET")
    }
    others = {"ORDERLY_ENDPOINT_KEY", "ORDERLY_OIDC_CLIENT_SECRET", "NATS_URL"}
    assert {*variables, *of_services, *others} == SECRETS


def test_unusable_file_of_a_secret_is_named_and_its_content_is_not(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    named = DSN | {"ORDERLY_TOKEN_SECRET_FILE": str(file)}
    assert error_of(named) == (
        f"ORDERLY_TOKEN_SECRET_FILE: {file} cannot be read: No such file or directory."
    )
    file.write_text("short")
    assert error_of(named) == "ORDERLY_TOKEN_SECRET must be at least 32 bytes long."
    both = "Set ORDERLY_TOKEN_SECRET or ORDERLY_TOKEN_SECRET_FILE, not both."
    assert error_of(named | SECRET) == both
    no_secret = error_of(DSN | {"ORDERLY_API_PORT_FILE": str(file)})
    assert no_secret.startswith("There is no setting ORDERLY_API_PORT_FILE")


# Which tokens the API accepts

SECRET = {"ORDERLY_TOKEN_SECRET": "a secret of thirty-two bytes or more"}
JWKS = {"ORDERLY_TOKEN_JWKS_URL": "https://issuer.example/jwks.json"}
ISSUER = {"ORDERLY_TOKEN_ISSUER": "https://issuer.example"}
OPEN = {"ORDERLY_AUTH": "none"}


def test_token_keys_come_from_a_url_or_are_one_shared_secret() -> None:
    by_secret = api_settings_of(DSN | SECRET)
    secret = SECRET["ORDERLY_TOKEN_SECRET"]
    assert by_secret.tokens == TokenRules("orderly", "orderly", secret=secret)
    assert secret not in repr(by_secret.tokens)
    by_url = api_settings_of(DSN | JWKS | ISSUER | {"ORDERLY_TOKEN_AUDIENCE": "shop"})
    assert by_url.tokens == TokenRules("https://issuer.example", "shop", *JWKS.values())


@pytest.mark.parametrize(
    ("variables", "rate_limit"),
    [
        (OPEN, None),
        (SECRET, RateLimit(100, 200)),
        (SECRET | {"ORDERLY_RATE_LIMIT_PER_SECOND": "0"}, None),
        (SECRET | {"ORDERLY_RATE_LIMIT_PER_SECOND": "5"}, RateLimit(5, 10)),
        (SECRET | {"ORDERLY_RATE_LIMIT_BURST": "50"}, RateLimit(100, 50)),
        (
            OPEN | {"ORDERLY_RATE_LIMIT_PER_SECOND": "5", "ORDERLY_RATE_LIMIT_BURST": "1"},
            RateLimit(5, 1),
        ),
    ],
)
def test_authenticated_callers_have_a_rate_limit_by_default(
    variables: dict[str, str], rate_limit: RateLimit | None
) -> None:
    assert api_settings_of(DSN | variables).rate_limit == rate_limit


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_authentication_can_be_disabled_on_loopback(host: str) -> None:
    settings = api_settings_of(DSN | OPEN | {"ORDERLY_API_HOST": host})
    assert (settings.tokens, settings.api_host) == (None, host)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "ORDERLY_TOKEN_JWKS_URL"),
        ({"ORDERLY_AUTH": ""}, "ORDERLY_TOKEN_JWKS_URL"),
        ({"ORDERLY_AUTH": "no"}, "ORDERLY_AUTH must be none, or not set, not 'no'"),
        ({"ORDERLY_AUTH": "true"}, "ORDERLY_AUTH must be none, or not set, not 'true'"),
        (OPEN | {"ORDERLY_API_HOST": "0.0.0.0"}, "ORDERLY_API_HOST"),
        (OPEN | {"ORDERLY_API_HOST": "::"}, "ORDERLY_API_HOST"),
        (OPEN | {"ORDERLY_API_HOST": "orders.internal"}, "ORDERLY_API_HOST"),
        (OPEN | SECRET, "ORDERLY_AUTH"),
        (JWKS, "ORDERLY_TOKEN_ISSUER"),
        (JWKS | ISSUER | SECRET, "ORDERLY_TOKEN_SECRET"),
    ],
)
def test_the_api_does_not_start_without_authentication_by_accident(
    variables: dict[str, str], named: str
) -> None:
    with pytest.raises(SettingsError) as error:
        api_settings_of(DSN | variables)
    assert named in one_sentence(error)


def test_only_the_api_needs_authentication() -> None:
    assert settings_of(DSN).tokens is None
