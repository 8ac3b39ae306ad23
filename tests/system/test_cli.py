"""The command line: one sentence instead of a traceback, and the documented exit codes."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import jwt
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.testing import WorkflowEnvironment
from typer.testing import CliRunner

from cli import main as cli
from cli.main import RENAMED
from dev.stack.ports import free_ports
from tests.support.paths import ROOT
from tests.support.processes import (
    UNREACHABLE_DSN,
    assert_one_sentence,
    environment,
    run,
    run_python,
)

OPEN = {"ORDERLY_AUTH": "none"}
TOKEN_SECRET = "ORDERLY_TOKEN_SECRET"
SECRET = {TOKEN_SECRET: "a secret of thirty-two bytes or more"}


@pytest.mark.parametrize(
    "command",
    [("api",), ("projector",), ("deliverer",), ("migrate",), ("worker",)],
    ids=" ".join,
)
def test_missing_setting_ends_every_process(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # No stack runs here.
    ended = CliRunner().invoke(cli.app, command)

    assert ended.exit_code == 2
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
def test_unusable_setting_is_named(variables: dict[str, str], named: str) -> None:
    variables = {"ORDERLY_POSTGRES_DSN": UNREACHABLE_DSN, **variables}
    ended = CliRunner().invoke(cli.app, ["api"], env=variables)

    assert ended.exit_code == 2
    assert named in ended.stderr
    assert_one_sentence(ended.stderr)


@pytest.mark.parametrize(
    "command",
    [
        *(
            ("api",),
            ("worker",),
            ("projector",),
            ("deliverer",),
            ("relay", "nats"),
            ("simulators",),
            ("migrate",),
            ("verify",),
        ),
        *(("up",), ("demo",), ("token", "--sub", "ada", "--scope", "orders:read")),
        *(("projections", "parked"), ("erase", "900"), ("resume", "ord_x")),
        ("restore", "status"),
    ],
    ids=lambda command: command[0],
)
def test_renamed_setting_ends_every_command(command: tuple[str, ...]) -> None:
    variables = {"ORDERLY_PROXIES": "10.0.0.1", "ORDERLY_POSTGRES_DSN": UNREACHABLE_DSN, **SECRET}
    ended = CliRunner().invoke(cli.app, command, env=variables)

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == (
        "orderly: ORDERLY_PROXIES has a new name: set ORDERLY_TRUSTED_PROXIES instead.\n"
    )


def test_worker_script_rejects_a_renamed_setting() -> None:
    variables = {"ORDERLY_POSTGRES_DSN": UNREACHABLE_DSN, "PAYMENTS_URL": "http://payments"}
    ended = run_python("worker.py", **variables)
    assert ended.returncode == 2
    assert "set ORDERLY_PAYMENTS_URL instead" in ended.stderr
    assert_one_sentence(ended.stderr)


def test_simulators_name_a_database_that_they_cannot_use(tmp_path: Path) -> None:
    ended = run("simulators", "--database", str(tmp_path))
    assert ended.returncode == 2
    assert ended.stderr == f"orderly: {tmp_path} cannot be used: unable to open database file.\n"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
@pytest.mark.parametrize("arguments", [(), ("--help",), ("order_view", "--info-file", "x")])
def test_renamed_command_is_rejected_with_its_new_name(
    old: str, new: str, arguments: tuple[str, ...]
) -> None:
    ended = CliRunner().invoke(cli.app, [old, *arguments])

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"orderly: `orderly {old}` has a new name: run `orderly {new}` instead.\n"
    )
    assert CliRunner().invoke(cli.app, [*new.split(), "--help"]).exit_code == 0


def test_unreachable_database_is_reported_in_one_sentence() -> None:
    ended = run("migrate", ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN)

    assert ended.returncode == 1
    assert "Postgres" in ended.stderr
    assert "secret" not in ended.stderr
    assert_one_sentence(ended.stderr)


def test_api_names_the_setting_of_an_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(
            "api",
            ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN,
            ORDERLY_API_PORT=str(port),
            ORDERLY_AUTH="none",
        )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert_one_sentence(ended.stderr)
    assert f"port {port} (Address already in use): set ORDERLY_API_HOST or" in ended.stderr


def test_projector_names_the_setting_of_an_admin_address_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run("projector", ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN, ORDERLY_ADMIN_PORT=port)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"port {port} (Address already in use): set ORDERLY_ADMIN_HOST or" in ended.stderr


def test_without_a_command_all_are_listed() -> None:
    ended = run()

    commands = "up demo scenario token api worker projector simulators deliverer relay migrate"
    operations = "order verify resume erase forget-key projections restore backup status doctor"
    releases = "retry-steps rehearse versions move-orders stuck repair record build-id"
    services = "check-contract trigger"
    listed = re.findall(r"^│ (\w[\w-]*)", ended.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(f"{commands} {operations} {releases} {services}".split())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_ends_a_process_with_exit_code_0(signum: signal.Signals) -> None:
    (port,) = map(str, free_ports({"api": 0}))
    api = subprocess.Popen(
        [sys.executable, "-m", "cli", "api"],
        cwd=ROOT,
        env=environment(ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN, ORDERLY_API_PORT=port, **OPEN),
        stderr=subprocess.DEVNULL,
    )
    try:
        assert is_healthy(f"http://127.0.0.1:{port}/healthz")
        api.send_signal(signum)
        assert api.wait(60) == 0
    finally:
        api.kill()
        api.wait()


def is_healthy(url: str) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return httpx.get(url, verify=False, timeout=60).status_code == 200
        except httpx.TransportError:
            time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("is_terminal", "options"), [(False, ()), (True, ("--no-keep",))], ids=["pipe", "no-keep"]
)
def test_demo_for_scripts_ends_by_itself(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, options: tuple[str, ...]
) -> None:
    @asynccontextmanager
    async def no_stack(*_: object) -> AsyncIterator[None]:
        yield

    async def replayed(_stack: object, _baskets: object, *, is_kept: bool) -> int:
        return 40 + is_kept

    monkeypatch.setattr("dev.stack.run_stack", no_stack)
    monkeypatch.setattr("dev.demo.replay.run", replayed)
    monkeypatch.setattr("cli.development.is_interactive", lambda: is_terminal)
    assert CliRunner().invoke(cli.app, ["demo", *options]).exit_code == 40


def test_demo_of_an_unreadable_file_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "baskets.jsonl"
    file.write_text("no JSON")
    ended = CliRunner().invoke(cli.app, ["demo", "--baskets", str(file)])

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "line 1: not JSON" in ended.stderr
    assert_one_sentence(ended.stderr)


def test_worker_reports_that_temporal_is_unreachable() -> None:
    ended = run("worker", ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN, TEMPORAL_ADDRESS="127.0.0.1:1")

    assert ended.returncode == 1
    assert "127.0.0.1:1" in ended.stderr
    assert_one_sentence(ended.stderr)


async def test_worker_refuses_a_namespace_without_search_attributes(
    temporal: WorkflowEnvironment,
) -> None:
    """Orders would be stuck as soon as they needed one."""
    namespace = f"bare-{secrets.token_hex(4)}"
    request = RegisterNamespaceRequest(
        namespace=namespace, workflow_execution_retention_period=Duration(seconds=86_400)
    )
    client = temporal.client
    await client.workflow_service.register_namespace(request)
    address = str(client.service_client.config.target_host)
    ended = await asyncio.to_thread(
        run,
        "worker",
        ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN,
        TEMPORAL_ADDRESS=address,
        TEMPORAL_NAMESPACE=namespace,
    )
    assert ended.returncode == 2
    assert "CustomerId, OrderStatus, UnpublishedSince" in ended.stderr
    assert_one_sentence(ended.stderr)


def test_malformed_dsn_is_rejected() -> None:
    ended = run("projector", ORDERLY_POSTGRES_DSN="db.internal")

    assert ended.returncode == 2
    assert_one_sentence(ended.stderr)


def test_token_prints_only_the_token() -> None:
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
        ("ada/example", "orders:read", SECRET, "customer id"),
        ("a b", "orders:operate", SECRET, "sub"),
    ],
)
def test_token_that_the_api_would_reject_is_not_printed(
    sub: str, scope: str, variables: dict[str, str | None], named: str
) -> None:
    command = ["token", "--sub", sub, "--scope", scope]
    ended = CliRunner().invoke(cli.app, command, env={TOKEN_SECRET: None, **variables})

    assert (ended.exit_code, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert_one_sentence(ended.stderr)
