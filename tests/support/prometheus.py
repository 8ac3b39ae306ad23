"""A real Prometheus beside a stack, with the alerts of deploy/prometheus in a hurry."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dev.stack.ports import LOOPBACK, free_ports
from tests.support.alerts import FOLDER

NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian: apt install prometheus)",
)
SCRAPE_SECONDS = 6
"""Reading the state of the service may take five, if Postgres hangs."""
WAIT_SECONDS = 3
"""What a minute of `for` lasts in a drill."""
RANGE_SECONDS = 10
"""What a minute of a range, as in rate(…[2m]), lasts."""
LOOK_AGAIN_SECONDS = 0.3
START_SECONDS_MAX = 60

Value = dict[str, Any]


def hurried(rules: str) -> str:
    """The same rules, which notice in seconds what otherwise takes minutes; thresholds stay."""
    waits = re.sub(r"for: (\d+)m", lambda m: f"for: {int(m[1]) * WAIT_SECONDS}s", rules)
    return re.sub(r"\[(\d+)m\]", lambda m: f"[{int(m[1]) * RANGE_SECONDS}s]", waits)


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    http: httpx.AsyncClient

    async def query(self, expr: str) -> list[Value]:
        """The series that an expression has now."""
        response = await self.http.get("/api/v1/query", params={"query": expr})
        assert response.status_code == 200, response.text
        found: list[Value] = response.json()["data"]["result"]
        return found

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = await self.query('ALERTS{alertstate="firing"}')
        return {alert["metric"]["alertname"] for alert in alerts}

    async def see(self, expected: set[str], seconds: float) -> None:
        """Returns once all of these fire; of none, once nothing fires."""
        found: set[str] = set()
        try:
            async with asyncio.timeout(seconds):
                while not (found := await self.firing()) >= expected or (found and not expected):
                    await asyncio.sleep(LOOK_AGAIN_SECONDS)
        except TimeoutError:
            pytest.fail(f"{expected or 'none'} should fire, and {found or 'none'} does")


@asynccontextmanager
async def run_prometheus(folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Runs it with the alerts, on the admin addresses of processes, by job."""
    (folder / "rules.yml").write_text(hurried((FOLDER / "orderly.rules.yml").read_text()))
    scraped = [
        {"job_name": job, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
        for job, url in targets.items()
    ]
    timeout = f"{SCRAPE_SECONDS}s"
    every = {"scrape_interval": timeout, "scrape_timeout": timeout, "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(  # JSON is YAML.
        json.dumps({"global": every, "rule_files": ["rules.yml"], "scrape_configs": scraped})
    )
    (port,) = free_ports({"": 0})
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as http:
            await _until_ready(http, folder / "log")
            yield Prometheus(http)
    finally:
        process.kill()
        await process.wait()


async def _until_ready(http: httpx.AsyncClient, log: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                try:
                    if (await http.get("/-/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
    except TimeoutError:
        pytest.fail(f"Prometheus does not start: {log.read_text()}")
