"""A worker whose memory is limited to 512 MB runs more orders than it keeps in memory."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
import sys
from pathlib import Path
from random import Random

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from api.gateway.gateway import Gateway
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.paths import ROOT
from tests.support.processes import environment
from worker_memory import orders_to_keep

MEMORY = 512_000_000
STACK = 1_000_000
WAIT_SECONDS = 30
CLIENTS = 10
LINES = 10


def limit_memory() -> None:
    """Limits what the child may allocate. Stacks of threads count, which usually have 8 MB each."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_STACK, (STACK, STACK))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("count", [30, pytest.param(1_000, marks=pytest.mark.soak)])
async def test_worker_lives_in_512_mb(
    count: int, temporal: WorkflowEnvironment, pool: asyncpg.Pool, dsn: str
) -> None:
    queue, order_ids = f"memory-{new_order_id()}", [new_order_id() for _ in range(count)]
    gateway, free = Gateway(temporal.client, pool, queue, CLIENTS), asyncio.Semaphore(CLIENTS)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "worker.py"),
        cwd=ROOT,
        env=environment(
            ORDERLY_POSTGRES_DSN=dsn,
            ORDERLY_TASK_QUEUE=queue,
            TEMPORAL_ADDRESS=temporal.client.service_client.config.target_host,
        ),
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=limit_memory,
    )

    async def fill(order_id: str) -> None:
        lines = [bagels().model_copy(update={"line_id": f"{n}"}) for n in range(LINES)]
        async with free:
            result = await gateway.execute(opening(order_id, *lines), WAIT_SECONDS)
        assert result.version == LINES + 1

    async def add(order_id: str) -> None:
        async with free:
            result = await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
        assert result.version == LINES + 2

    assert process.stderr is not None
    started = b""
    try:
        async with asyncio.timeout(60):
            started = await process.stderr.readuntil(b"orders in memory")
        await asyncio.gather(*map(fill, order_ids))
        Random(1).shuffle(order_ids)  # Half of them are replayed if they are more than it keeps.
        await asyncio.gather(*map(add, order_ids))
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak_kb = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak_kb and 1_000 * int(peak_kb[1]) < MEMORY
    finally:
        process.send_signal(signal.SIGTERM)
        _, later = await process.communicate()
        errors = started + later
    assert process.returncode == 0, errors.decode()
    assert f"keeps up to {orders_to_keep(MEMORY)} orders" in errors.decode()
