"""A connection to Temporal whose other side vanished is replaced."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from dev.tcp_proxy import TcpProxy
from workflows.client import connect

RECONNECTED_SECONDS_MAX = 20
"""The documentation promises 15."""


async def test_client_leaves_a_connection_that_went_silent(
    temporal: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = temporal.client.service_client.config.target_host.split(":")
    async with TcpProxy((host, int(port))).listening() as proxy:
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{proxy.port}")
        client = await connect()
        assert proxy.silence() == 1
        began = time.monotonic()
        while True:
            try:
                await client.workflow_service.get_system_info(
                    GetSystemInfoRequest(), timeout=timedelta(seconds=1)
                )
                break
            except RPCError:
                await asyncio.sleep(0.1)
        assert time.monotonic() - began < RECONNECTED_SECONDS_MAX
