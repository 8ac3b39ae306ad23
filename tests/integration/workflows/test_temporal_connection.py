"""The connection to Temporal: its key, and a new one for one whose other side vanished."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from dev.tcp_proxy import TcpProxy
from workflows.client import connect

RECONNECTED_SECONDS_MAX = 20
"""The documentation promises 15."""


async def test_key_of_temporal_is_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connected: list[dict[str, Any]] = []

    async def note(**config: Any) -> None:
        connected.append(config)

    monkeypatch.setattr(Client, "connect", note)
    monkeypatch.setenv("TEMPORAL_API_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(ConnectionError, match=r"TEMPORAL_API_KEY_FILE: .*key cannot be read"):
        await connect(lazy=True)
    (tmp_path / "key").write_text("of-the-cloud\n")
    await connect(lazy=True)
    assert connected[0]["api_key"] == "of-the-cloud"
    monkeypatch.setenv("TEMPORAL_API_KEY", "another")
    with pytest.raises(ConnectionError, match="not both"):
        await connect(lazy=True)


async def test_client_leaves_a_connection_that_went_silent(
    temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = temporal.client.service_client.config.target_host.split(":")
    async with TcpProxy((host, int(port))).listening() as proxy:
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{proxy.port}")
        connected = await connect()
        assert proxy.silence() == 1
        began = time.monotonic()
        while True:
            try:
                await connected.workflow_service.get_system_info(
                    GetSystemInfoRequest(), timeout=timedelta(seconds=1)
                )
                break
            except RPCError:
                await asyncio.sleep(0.1)
        assert time.monotonic() - began < RECONNECTED_SECONDS_MAX
