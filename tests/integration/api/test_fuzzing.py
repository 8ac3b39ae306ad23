"""Requests that are generated from the OpenAPI document get only the responses it declares."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from api import context
from api.auth.permissions import READ, WRITE
from settings import Settings
from tests.support.paths import ROOT
from tests.support.servers import Running, run_api
from tests.support.token_issuer import ALL, ec_key, issuing
from tests.support.webhooks import KEY, LOOPBACK_NETWORKS

CONFIGURATION = ROOT / "tests" / "support" / "schemathesis.toml"

# Coverage sends every boundary of every schema: thousands of requests. The suite covers the opening
# of an order, which has every shape of an amount, a text, a line and an address, and one command;
# `make soak` covers all. What reads take is in test_extreme_values.py, too.
COVERED = "POST /v1/orders(/\\{order_id\\}/commands/add-item-to-order)?"
FEW_ROUTES = f"""
[[operations]]
include-name-regex = '^(?!{COVERED}$)'
phases.coverage.enabled = false

"""
# A preview takes what its command takes.
ONE_PREVIEW = """
[[operations]]
include-name-regex = '^POST /v1/orders/\\{order_id\\}/commands/(?!create-shipment/).+/preview$'
enabled = false
"""
ALL_PHASES = "examples,coverage,fuzzing,stateful"

# A generated read may ask for a version that never comes, or a command for a long wait.
WAIT_SECONDS_MAX = 2.0


# An order's id is derived from the caller and the key, and the examples' keys are sent, too: by
# another operator than the one for whom examples are recorded, perhaps on the same server.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("sub", "scope", "phases", "more"),
    [
        pytest.param("oscar", ALL, ALL_PHASES, FEW_ROUTES + ONE_PREVIEW, id="operator"),
        pytest.param("oscar", ALL, "coverage", "", id="coverage", marks=pytest.mark.soak),
        # A malformed request is malformed for both.
        pytest.param(
            "900", f"{READ} {WRITE}", "examples,fuzzing,stateful", ONE_PREVIEW, id="customer"
        ),
    ],
)
async def test_generated_requests_get_only_documented_responses(
    orderly: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sub: str,
    scope: str,
    phases: str,
    more: str,
) -> None:
    for name in ("WAIT_SECONDS", "WAIT_SECONDS_MAX"):
        monkeypatch.setattr(context, name, WAIT_SECONDS_MAX)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION.read_text() + more)
    async with issuing(ec_key()) as issuer:
        settings = Settings(
            postgres_dsn=orderly.dsn,
            task_queue=orderly.task_queue,
            **issuer.settings,
            webhook_secret=orderly.webhook_secret,
            endpoint_key=KEY,
            endpoint_networks=LOOPBACK_NETWORKS,
        )
        async with run_api(orderly.client, settings) as http:
            token = f"Authorization: {issuer.headers(sub, scope)['Authorization']}"
            command = (
                f"--config-file {configuration} run {http.base_url}/openapi.json"
                f" --phases {phases} -H"
            )
            fuzzing = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", *command.split(), token),
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                output, _ = await fuzzing.communicate()
            finally:
                with suppress(ProcessLookupError):  # It has ended, unless the test was cut short.
                    fuzzing.kill()
    assert fuzzing.returncode == 0, output.decode()
