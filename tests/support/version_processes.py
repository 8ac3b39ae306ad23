"""Processes of another version of orderly, on the servers of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import Addresses, of_version, orderly_process
from tests.support.processes import wait_until_alive

READY_SECONDS = 60


@dataclass(frozen=True)
class Version:
    """The code in a folder, and the servers that it works with."""

    root: Path
    addresses: Addresses
    logs: Path

    @asynccontextmanager
    async def api(self) -> AsyncIterator[httpx.AsyncClient]:
        """Its API, on a free port."""
        (port,) = free_ports({"api": 0})
        url = f"http://{LOOPBACK}:{port}"
        served = replace(self, addresses=replace(self.addresses, api_url=url))
        async with (
            served.running("api", ""),
            httpx.AsyncClient(base_url=url, timeout=60, verify=False, trust_env=False) as http,
        ):
            await wait_until_alive(http)
            yield http

    @asynccontextmanager
    async def worker(self, **settings: str) -> AsyncIterator[None]:
        """Its worker."""
        async with self.running("worker", "worker on task queue", **settings):
            yield

    @asynccontextmanager
    async def running(self, command: str, ready: str, **settings: str) -> AsyncIterator[None]:
        """Runs a command; it is ready once its log has this text."""
        program = orderly_process(self.addresses, self.logs, command, command, **settings)
        program = of_version(program, self.root)
        began = program.log.stat().st_size if program.log.exists() else 0
        with program.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *program.command, stdout=log, stderr=log, env=program.environment
            )
        try:
            async with asyncio.timeout(READY_SECONDS):
                while ready not in (text := program.log.read_text()[began:]):
                    assert process.returncode is None, text
                    await asyncio.sleep(0.05)
            yield
        finally:
            process.terminate()
            await process.wait()
