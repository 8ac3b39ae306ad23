"""Requests made up from the OpenAPI document, good and bad, get the answers that it names."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from api.auth.permissions import READ, WRITE
from settings import Settings
from tests.support.paths import ROOT
from tests.support.servers import Running, run_api
from tests.support.token_issuer import ALL, ec_key, issuing

CONFIGURED = ROOT / "tests" / "support" / "schemathesis.toml"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("sub", "scope", "phases"),
    [
        pytest.param("olga", ALL, "examples,coverage,fuzzing,stateful", id="operator"),
        # What has the wrong shape has it for both.
        pytest.param("900", f"{READ} {WRITE}", "examples,fuzzing,stateful", id="customer"),
    ],
)
async def test_no_request_gets_an_answer_that_it_should_not(
    orderly: Running, tmp_path: Path, sub: str, scope: str, phases: str
) -> None:
    async with issuing(ec_key()) as issuer:
        settings = Settings(
            postgres_dsn=orderly.dsn,
            task_queue=orderly.task_queue,
            **issuer.settings,
            webhook_secret=orderly.webhook_secret,
        )
        async with run_api(orderly.client, settings) as http:
            token = f"Authorization: {issuer.headers(sub, scope)['Authorization']}"
            command = (
                f"--config-file {CONFIGURED} run {http.base_url}/openapi.json --phases {phases} -H"
            )
            fuzzing = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", *command.split(), token),
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            told, _ = await fuzzing.communicate()
    assert fuzzing.returncode == 0, told.decode()
