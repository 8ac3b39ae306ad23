"""`orderly doctor`: what is wrong with settings, servers and workers, each with a remedy."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest

from cli import doctor
from cli.doctor import examine
from cli.status import Finding
from readside.registry import PROJECTIONS
from settings import Settings
from tests.support.nats_security import write_certificates
from tests.support.processes import UNREACHABLE_DSN, run_inside
from tests.support.servers import Running
from tests.support.webhook_signing import new_secret

URLS = {f"{service}_url": "http://127.0.0.1:1" for service in ("payments", "stock", "shipping")}


async def examined(dsn: str, **more: str) -> dict[str, Finding]:
    settings = Settings.model_validate({"postgres_dsn": dsn, **more})
    return {finding.name: finding async for finding in examine(settings)}


async def test_nothing_is_wrong_with_a_running_service(orderly: Running) -> None:
    variables = {f"ORDERLY_{name.upper()}": url for name, url in URLS.items()} | {
        "ORDERLY_POSTGRES_DSN": orderly.dsn,
        "ORDERLY_TASK_QUEUE": orderly.task_queue,
        "ORDERLY_WEBHOOK_SECRET": new_secret(),
        "TEMPORAL_ADDRESS": str(orderly.client.service_client.config.target_host),
    }
    async with asyncio.timeout(60):  # On a busy machine, a check may take too long.
        while (seen := await asyncio.to_thread(run_inside, "doctor", **variables)).returncode:
            print(seen)  # Shown if the test fails.
            await asyncio.sleep(0.5)
    assert seen.stderr == "", seen
    states = dict(re.findall(r"^(\S+(?: \S+)*)  +(\S.*)", seen.stdout, re.MULTILINE))
    assert set(states.values()) == {"ok"}
    in_postgres = {"postgres", "clocks", "migrations", "webhooks"}
    in_temporal = {"temporal", "search attributes", "workers"}
    projections = {projection.name for projection in PROJECTIONS}
    assert states.keys() == {"settings"} | in_postgres | in_temporal | projections


@pytest.mark.parametrize(
    ("version", "is_old"), [("1.29.0", True), ("1.29.1", False), ("2.0.0-rc.1", False), ("", False)]
)
def test_old_temporal_is_named(version: str, is_old: bool) -> None:
    finding = doctor._of_version(version)
    assert (bool(finding.remedy), finding.state == "ok") == (is_old, not is_old)


async def test_what_is_wrong_has_a_remedy(
    dsn: str, pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(doctor, "SKEW_SECONDS_MAX", -1.0)
    await pool.execute(
        "UPDATE projection_checkpoints SET version = 0 WHERE projection = 'lead_times'"
    )
    authority, *_ = write_certificates(tmp_path)
    found = await examined(dsn, service_ca=str(authority))
    assert "certificate expires in 0.0 days" in found["service-authority"].state
    assert "ORDERLY_PAYMENTS_URL" in found["payments_url"].remedy
    assert "rejected" in found["webhook_secret"].remedy
    assert "NTP" in found["clocks"].remedy
    assert found["lead_times"].remedy == "run `orderly projections rebuild lead_times`"
    assert found["order_view"].state == "ok"
    assert "TEMPORAL_ADDRESS" in found["temporal"].remedy and "workers" not in found

    await pool.execute("DELETE FROM schema_migrations WHERE name LIKE '0009%'")
    found = await examined(dsn, **URLS)
    assert found["migrations"].state == "pending: 0009_intents.sql"
    assert "payments_url" not in found and "order_view" not in found
    await pool.execute("DROP TABLE schema_migrations")
    assert (await examined(dsn))["migrations"].state.startswith("pending: 0001_order_events.sql, ")
    assert "ORDERLY_POSTGRES_DSN" in (await examined(UNREACHABLE_DSN))["postgres"].remedy
