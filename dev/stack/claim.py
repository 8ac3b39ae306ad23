"""What one running stack has to itself on a machine: its data directory and its ports."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
LEFTOVERS_S_MAX = 30.0
# Below what systems hand out for outgoing connections: one of those could take a port of ours
# between our look at it and the start of the program that it is for.
ANY_PORT = range(15_000, 32_000)


class StackError(Exception):
    """The stack cannot run; the message says why in a way that a person can act on."""


class OccupiedError(StackError):
    """A port or a path that was asked for is not to be had."""


async def claim(data_dir: Path, held: AsyncExitStack) -> int:
    """Takes the data directory for us alone, until `held` is closed.

    Returns an open lock file for the children to inherit: it is free again when the last of them
    is gone. If an earlier stack was killed, this waits until what it left behind has ended.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _lock(data_dir / "stack.lock", held)
    except BlockingIOError:
        raise OccupiedError(f"{data_dir} is in use by another orderly up or demo.") from None
    except OSError as error:
        raise OccupiedError(f"{data_dir} cannot be used: {error.strerror}.") from None
    clock = asyncio.get_running_loop().time
    deadline = clock() + LEFTOVERS_S_MAX
    while True:
        try:
            return _lock(data_dir / "processes.lock", held)
        except BlockingIOError:
            if clock() > deadline:
                raise OccupiedError(
                    f"Processes of an orderly up that was killed still use {data_dir}; end them."
                ) from None
        await asyncio.sleep(0.05)


def _lock(path: Path, held: AsyncExitStack) -> int:
    with ExitStack() as opened:
        file = opened.enter_context(path.open("ab"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.push(opened.pop_all())
        return file.fileno()


def free_ports(wanted: Mapping[str, int]) -> list[int]:
    """A port for each option in `wanted`, seen to be free just now; 0 is replaced by any."""
    with ExitStack() as bound:
        return [bound.enter_context(_bound(*item)).getsockname()[1] for item in wanted.items()]


def _bound(option: str, port: int) -> socket.socket:
    if port == 0:
        return _any_bound()
    try:
        return socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise OccupiedError(
            f"Port {port} cannot be used ({why}): name another with {option}, or 0 for any."
        ) from None


def _any_bound() -> socket.socket:
    for port in random.sample(ANY_PORT, len(ANY_PORT)):
        with suppress(OSError):
            return socket.create_server((LOOPBACK, port))
    raise OccupiedError("No port is free on this machine.")
