"""A NATS server and the relay to it, as two more processes of a stack."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from dev.stack import Stack
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import Addresses, orderly_process
from dev.stack.supervisor import Program, SupervisedProcess

EXECUTABLE = Path(sys.executable).with_name("nats-server")


@asynccontextmanager
async def relaying(stack: Stack, addresses: Addresses) -> AsyncIterator[str]:
    """Runs both while they are needed, and restarts them; yields the URL of the server.

    The relay reaches Postgres at `addresses`. What the server stores is on no disk of the stack.
    """
    port = free_ports({"nats": 0})[0]
    url = f"nats://{LOOPBACK}:{port}"
    async with AsyncExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="orderly-nats-"))
        programs = (
            Program(
                name="nats",
                command=[EXECUTABLE, "-a", LOOPBACK, "-p", str(port), "-js", "-sd", folder],
                log=stack.logs / "nats.log",
                environment=os.environ,
            ),
            orderly_process(
                addresses,
                stack.logs,
                *("relay", "relay", "nats"),
                ORDERLY_PUBLIC_URL=stack.api_url,
                NATS_URL=url,
            ),
        )
        for program in programs:
            process = SupervisedProcess(program)
            await process.start()
            held.push_async_callback(process.stop)
            process.restart_on_exit(lambda *_: None, lambda: None)
            stack.processes[program.name] = process
        yield url
