"""The metrics of Temporal's SDK in this process, such as how long tasks wait for a worker.

The SDK counts in its own threads and serves the result on a port of its own. That is a free one on
loopback, which only this process reads.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import httpx
from temporalio.runtime import PrometheusConfig, Runtime

from workflows.client import new_runtime

LOOPBACK = "127.0.0.1"
PORTS_TRIED = 5
READ_SECONDS_MAX = 2.0


@dataclass(frozen=True)
class SdkMetrics:
    """A runtime for the client and the worker of a process, and where its metrics are."""

    runtime: Runtime
    address: str

    @classmethod
    def start(cls) -> SdkMetrics:
        """Creates the runtime; another process may take the port that was just free."""
        for attempt in range(1, PORTS_TRIED + 1):
            address = _free_address()
            try:
                return cls(new_runtime(_config(address)), address)
            except RuntimeError:
                if attempt == PORTS_TRIED:
                    raise
        raise AssertionError("unreachable")

    async def read(self) -> bytes:
        """The metrics in Prometheus' text format; empty if they cannot be read."""
        try:
            # Loading certificates would take longer than the request.
            async with httpx.AsyncClient(
                trust_env=False, verify=False, timeout=READ_SECONDS_MAX
            ) as http:
                return (await http.get(f"http://{self.address}/metrics")).content
        except httpx.HTTPError:
            return b""


def _config(address: str) -> PrometheusConfig:
    """By Prometheus' conventions: base units, named in the suffix."""
    return PrometheusConfig(
        bind_address=address,
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
    )


def _free_address() -> str:
    with socket.create_server((LOOPBACK, 0)) as free:
        return f"{LOOPBACK}:{free.getsockname()[1]}"
