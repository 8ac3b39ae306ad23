"""The services of docker-compose.yml, each run as a process, as far as that is possible."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from api.auth.permissions import SCOPES
from dev.stack.ports import LOOPBACK, free_ports
from tests.support.command_builders import new_order_id
from tests.support.paths import ROOT
from tests.support.shop import MILK

pytestmark = pytest.mark.soak

SERVED = ("api", "worker", "projector", "deliverer")
WAIT_SECONDS = 120.0
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Composed:
    """The services of the file, with the addresses of containers replaced by ones of here."""

    services: Mapping[str, Any]
    replaced: Mapping[str, str]
    own: Mapping[str, str]
    """Variables that differ here."""
    folder: Path

    def words(self, words: Sequence[str]) -> list[str]:
        """A command line of here."""
        return [self._here(word) for word in words]

    def environment(self, name: str) -> dict[str, str]:
        given = {k: self._here(v) for k, v in self.services[name]["environment"].items()}
        path = {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        own = {k: v for k, v in self.own.items() if k in given or name != "simulators"}
        return path | given | own

    def _here(self, text: str) -> str:
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text

    async def run(self, name: str, words: Sequence[str] = ()) -> tuple[int, str]:
        """Runs a command line, by default that of the service, to its end."""
        process = await asyncio.create_subprocess_exec(
            *self.words(words or self.services[name]["command"]),
            env=self.environment(name),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    @asynccontextmanager
    async def running(self, name: str) -> AsyncIterator[None]:
        """Runs a service inside the `async with`."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *self.words(self.services[name]["command"]),
                env=self.environment(name),
                stdout=output,
                stderr=output,
            )
        try:
            yield
        finally:
            assert process.returncode is None, log.read_text()
            process.terminate()
            assert await process.wait() == 0, log.read_text()

    async def wait_until_healthy(self, name: str) -> None:
        """Until the health check of the file passes."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self.run(name, words))[0] != 0:
                await asyncio.sleep(0.2)


@pytest.fixture
def composed(temporal: WorkflowEnvironment, dsn: str, tmp_path: Path) -> Composed:
    command = [str(PROGRAMS / "docker-compose"), "config", "--format", "json"]
    config = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(config.stdout)
    services = found["services"]
    secrets = {f"/run/secrets/{name}": one["file"] for name, one in found["secrets"].items()}
    database = tmp_path / "postgres-dsn"
    database.write_text(dsn)
    api, simulators = free_ports({"api": 0, "simulators": 0})
    replaced = {
        **secrets,
        "/run/secrets/postgres-dsn": str(database),
        services["api"]["environment"]["TEMPORAL_ADDRESS"]: str(
            temporal.client.service_client.config.target_host
        ),
        "http://simulators:8070": f"http://{LOOPBACK}:{simulators}",
        "http://api:8080": f"http://{LOOPBACK}:{api}",
        "--port=8070": f"--port={simulators}",
        "0.0.0.0": LOOPBACK,
        "/var/lib/orderly": str(tmp_path),
    }
    own = {"ORDERLY_TASK_QUEUE": f"composed-{new_order_id()}", "ORDERLY_API_PORT": str(api)}
    return Composed(services, replaced, own, tmp_path)


def with_admin_port(composed: Composed, name: str) -> Composed:
    """In containers all have the same one."""
    (port,) = free_ports({name: 0})
    admin_port = composed.services[name]["environment"]["ORDERLY_ADMIN_PORT"]
    replaced = {**composed.replaced, f":{admin_port}/": f":{port}/"}
    own = {**composed.own, "ORDERLY_ADMIN_PORT": str(port)}
    return Composed(composed.services, replaced, own, composed.folder)


async def test_services_of_the_file_take_an_order_to_its_confirmation(composed: Composed) -> None:
    assert (await composed.run("migrate"))[0] == 0
    async with AsyncExitStack() as started:
        await started.enter_async_context(composed.running("simulators"))
        of_each = {name: with_admin_port(composed, name) for name in SERVED}
        for name, here in of_each.items():
            await started.enter_async_context(here.running(name))
        for name, here in of_each.items():
            await here.wait_until_healthy(name)

        issue = ["orderly", "token", "--sub", "olga", "--scope", " ".join(SCOPES)]
        code, token = await composed.run("api", issue)
        assert code == 0, token
        url = f"http://{LOOPBACK}:{composed.own['ORDERLY_API_PORT']}"
        headers = {"Authorization": f"Bearer {token.strip()}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
            order = {"customer_id": "900", "currency": "USD", "place": True, "lines": [MILK]}
            placed = await http.post("/v1/orders", json=order)
            assert placed.status_code == 201, placed.text
            async with asyncio.timeout(WAIT_SECONDS):
                while (await http.get(placed.headers["Location"])).json()["status"] != "confirmed":
                    await asyncio.sleep(0.1)
