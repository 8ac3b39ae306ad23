"""How many orders a worker keeps in memory, and when it looks for garbage among them.

An order in memory executes a command at once; any other is replayed from its history first, which
takes several times the processor time. `make bench ARGS=cached-orders` measures what an order costs
in memory, and how much longer each full garbage collection takes for it. Such a collection stops
everything, and by CPython's defaults a crowd of orders that displace one another causes one every
few seconds. So it is left to a moment in which the worker is idle, unless much garbage has
gathered.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from background import in_background

# Usual orders take 70 to 100 kB in Python; the SDK's core keeps something of them, too.
ORDER_BYTES = 200_000
WORKER_BYTES = 130_000_000  # Without any order.
SHARE_OF_MEMORY = 0.5  # Large orders and garbage need room, too.
ORDERS_MIN = 20
# A full collection takes 0.2 to 0.4 ms for each. The SDK takes a workflow task that does not end
# within two seconds for deadlocked.
ORDERS_MAX = 1_000

# In collections of the middle generation: of 7,000 new objects each, or of some 25 orders.
ROUNDS_WHEN_IDLE = 10
ROUNDS_MAX = 100
ROUND_BYTES = 25 * ORDER_BYTES
SHARE_OF_GARBAGE = 0.125
IDLE_SHARE = 0.2  # Of one processor.
CHECK_SECONDS = 1.0

_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_limit() -> int:
    """The bytes that this process may use: of its container, its limits or the machine."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" is no limit.
            limits.append(int(file.read_text()))
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits)


def orders_to_keep(limit: int) -> int:
    """The number of orders to keep in memory, by the bytes that the worker may use."""
    orders = int((SHARE_OF_MEMORY * limit - WORKER_BYTES) / ORDER_BYTES)
    return min(max(orders, ORDERS_MIN), ORDERS_MAX)


def rounds_before_collection(limit: int) -> int:
    """How many rounds of garbage may gather while the worker is busy."""
    rounds = int(SHARE_OF_GARBAGE * limit / ROUND_BYTES)
    return min(max(rounds, ROUNDS_WHEN_IDLE), ROUNDS_MAX)


@asynccontextmanager
async def collecting(limit: int) -> AsyncIterator[None]:
    """Inside the `async with`, full collections wait until the process is idle, but not for ever.

    At its end the garbage collector is as before.
    """
    usual = gc.get_threshold()
    gc.set_threshold(*usual[:2], rounds_before_collection(limit))
    try:
        async with in_background(_collect_when_idle()):
            yield
    finally:
        gc.set_threshold(*usual)


async def _collect_when_idle() -> None:
    used, at = time.process_time(), time.monotonic()
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        before, began = used, at
        used, at = time.process_time(), time.monotonic()
        if is_due(gc.get_count()[2], (used - before) / (at - began)):
            gc.collect()


def is_due(rounds: int, share: float) -> bool:
    """Whether to collect now, after this many rounds, at this share of one processor."""
    return rounds >= ROUNDS_WHEN_IDLE and share < IDLE_SHARE
