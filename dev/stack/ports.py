"""Free ports on the loopback interface."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress

from dev.stack.errors import ResourceInUse

LOOPBACK = "127.0.0.1"
# Below the ephemeral ports: an outgoing connection could take one of those before the program that
# it is meant for has started.
PORTS = range(15_000, 32_000)


def free_ports(wanted: Mapping[str, int]) -> list[int]:
    """A free port for each command-line option in `wanted`; 0 is replaced by any."""
    with ExitStack() as bound:
        return [bound.enter_context(_bind(*item)).getsockname()[1] for item in wanted.items()]


def _bind(option: str, port: int) -> socket.socket:
    if port == 0:
        return _bind_any()
    try:
        return socket.create_server((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise ResourceInUse(
            f"Port {port} cannot be used ({why}): name another with {option}, or 0 for any."
        ) from None


def _bind_any() -> socket.socket:
    for port in random.sample(PORTS, len(PORTS)):
        with suppress(OSError):
            return socket.create_server((LOOPBACK, port))
    raise ResourceInUse("No port is free on this machine.")
