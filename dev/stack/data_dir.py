"""The data directory of a stack, which only one stack uses at a time."""

from __future__ import annotations

import asyncio
import fcntl
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from dev.stack.errors import ResourceInUse

ORPHANS_S_MAX = 30.0


async def lock_data_dir(data_dir: Path, held: AsyncExitStack) -> int:
    """Locks the data directory until `held` is closed; creates it if needed.

    Returns the descriptor of a lock file that child processes inherit: it is free again when the
    last of them has ended. If an earlier stack was killed, this waits until its processes have
    ended. Raises ResourceInUse.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        _lock(data_dir / "stack.lock", held)
    except BlockingIOError:
        raise ResourceInUse(f"{data_dir} is in use by another orderly up or demo.") from None
    except OSError as error:
        raise ResourceInUse(f"{data_dir} cannot be used: {error.strerror}.") from None
    clock = asyncio.get_running_loop().time
    deadline = clock() + ORPHANS_S_MAX
    while True:
        try:
            return _lock(data_dir / "processes.lock", held)
        except BlockingIOError:
            if clock() > deadline:
                raise ResourceInUse(
                    f"Processes of an orderly up that was killed still use {data_dir}; end them."
                ) from None
        await asyncio.sleep(0.05)


def _lock(path: Path, held: AsyncExitStack) -> int:
    with ExitStack() as opened:
        file = opened.enter_context(path.open("ab"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.push(opened.pop_all())
        return file.fileno()
