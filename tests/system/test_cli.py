"""The command line: plain sentences instead of tracebacks, and the right exit codes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import jwt
import pytest

from tests.support.paths import ROOT
from tests.support.processes import NOBODY, assert_one_sentence, environment, run

OPEN = {"ORDERLY_AUTH": "none"}
SECRET = {"ORDERLY_TOKEN_SECRET": "a secret of thirty-two bytes or more"}


@pytest.mark.parametrize(
    "command",
    [("api",), ("projector",), ("migrate",), ("worker",)],
    ids=" ".join,
)
def test_a_missing_setting_ends_every_process(command: tuple[str, ...]) -> None:
    ended = run(*command)

    assert ended.returncode == 2
    assert "ORDERLY_POSTGRES_DSN" in ended.stderr
    assert_one_sentence(ended.stderr)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ORDERLY_API_PORT": "http"}, "ORDERLY_API_PORT"),
        ({"ORDERLY_API_PORT": "65536"}, "ORDERLY_API_PORT"),
        ({"TEMPORAL_DEPLOYMENT_NAME": "orderly"}, "TEMPORAL_WORKER_BUILD_ID"),
        ({}, "ORDERLY_TOKEN_JWKS_URL"),
        ({**OPEN, "ORDERLY_API_HOST": "0.0.0.0"}, "ORDERLY_API_HOST"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(variables: dict[str, str], named: str) -> None:
    ended = run("api", ORDERLY_POSTGRES_DSN=NOBODY, **variables)

    assert ended.returncode == 2
    assert named in ended.stderr
    assert_one_sentence(ended.stderr)


def test_a_database_that_is_away_is_said_in_a_sentence() -> None:
    ended = run("migrate", ORDERLY_POSTGRES_DSN=NOBODY)

    assert ended.returncode == 1
    assert "Postgres" in ended.stderr
    assert "secret" not in ended.stderr
    assert_one_sentence(ended.stderr)


def test_without_a_command_it_lists_them() -> None:
    ended = run()

    assert all(name in ended.stdout for name in ("up", "demo", "migrate", "projector", "api"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_process_ends_well_when_it_is_told_to(signum: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    api = subprocess.Popen(
        [sys.executable, "-m", "cli", "api"],
        cwd=ROOT,
        env=environment(ORDERLY_POSTGRES_DSN=NOBODY, ORDERLY_API_PORT=port, **OPEN),
        stderr=subprocess.DEVNULL,
    )
    try:
        assert answers(f"http://127.0.0.1:{port}/healthz")
        api.send_signal(signum)
        assert api.wait(20) == 0
    finally:
        api.kill()
        api.wait()


def answers(url: str) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return httpx.get(url).status_code == 200
        except httpx.TransportError:
            time.sleep(0.05)
    return False


def test_a_demo_of_an_unreadable_file_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "baskets.jsonl"
    file.write_text("no JSON")
    ended = run("demo", "--baskets", str(file))

    assert ended.returncode == 2
    assert "line 1: not JSON" in ended.stderr
    assert_one_sentence(ended.stderr)
    assert ended.stdout == ""


def test_a_worker_without_a_temporal_says_so() -> None:
    ended = run("worker", ORDERLY_POSTGRES_DSN=NOBODY, TEMPORAL_ADDRESS="127.0.0.1:1")

    assert ended.returncode == 1
    assert "127.0.0.1:1" in ended.stderr
    assert_one_sentence(ended.stderr)


def test_a_dsn_that_is_none_is_refused() -> None:
    ended = run("projector", ORDERLY_POSTGRES_DSN="db.internal")

    assert ended.returncode == 2
    assert_one_sentence(ended.stderr)


def test_a_token_is_printed_and_nothing_else() -> None:
    scopes = ("--scope", "orders:read orders:write", "--scope", "orders:operate")
    ended = run("token", "--sub", "olga", *scopes, "--expires-in", "60", **SECRET)

    assert (ended.returncode, ended.stderr) == (0, "")
    claims = jwt.decode(
        ended.stdout.removesuffix("\n"),
        SECRET["ORDERLY_TOKEN_SECRET"],
        ["HS256"],
        audience="orderly",
        issuer="orderly",
    )
    assert claims["sub"] == "olga"
    assert claims["scope"] == "orders:read orders:write orders:operate"
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.parametrize(
    ("sub", "scope", "variables", "named"),
    [
        ("ada", "orders:read", {}, "ORDERLY_TOKEN_SECRET"),
        ("ada", "orders:read", {"ORDERLY_TOKEN_SECRET": "short"}, "ORDERLY_TOKEN_SECRET"),
        ("ada", "orders:all", SECRET, "orders:all"),
        ("ada@example.org", "orders:read", SECRET, "customer id"),
        ("a b", "orders:operate", SECRET, "sub"),
    ],
)
def test_a_token_that_nobody_would_believe_is_not_printed(
    sub: str, scope: str, variables: dict[str, str], named: str
) -> None:
    ended = run("token", "--sub", sub, "--scope", scope, **variables)

    assert ended.returncode == 2
    assert named in ended.stderr
    assert_one_sentence(ended.stderr)
    assert ended.stdout == ""
