"""Keeps a child process alive: starts it, starts it again when it dies, and stops it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RESTART_PAUSE_S = 0.2  # Doubles with each death in a row, up to the next number.
RESTART_PAUSE_S_MAX = 3.0
STEADY_S = 10.0  # A process that lived this long was well: its next death is a first one again.
STOP_S_MAX = 20.0
_PR_SET_PDEATHSIG = 1

Report = Callable[[str, str], None]
"""Takes the name of a process and what became of it, e.g. ``("worker", "ready")``."""


@dataclass(frozen=True)
class Program:
    """What to run, and how to end it."""

    name: str
    command: Sequence[str | Path]
    log: Path
    environment: Mapping[str, str]
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # What the kernel sends when we are gone without having stopped it.
    orphan_signal: signal.Signals = signal.SIGKILL


class Child:
    """One running program; `pid` changes when it is restarted.

    It inherits `held_fd`, an open lock file: the lock is free when the last child is gone, however
    it and we have ended.
    """

    def __init__(self, program: Program, held_fd: int) -> None:
        self.program = program
        self.name = program.name
        self._held_fd = held_fd
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        assert self._process is not None
        return self._process.pid

    @property
    def ending(self) -> str | None:
        """How the process ended, as the rest of a sentence; None while it runs."""
        assert self._process is not None
        code = self._process.returncode
        if code is None:
            return None
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def start(self) -> None:
        """Starts the process in a session of its own: a Ctrl-C in our terminal is ours alone."""
        program = self.program
        with program.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=program.environment,
                user=program.user,
                pass_fds=[self._held_fd],
                start_new_session=True,
                preexec_fn=_dies_with_parent(program.orphan_signal),
            )

    def keep_alive(self, report: Report, restarted: Callable[[], None]) -> None:
        """From now on a death is reported and followed by a new start; then `restarted` is told."""
        self._keeper = asyncio.create_task(self._restart_for_ever(report, restarted))

    async def stop(self) -> None:
        """Ends the process, and does not come back before it has ended."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(self.program.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S_MAX)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            await self._process.wait()

    async def _restart_for_ever(self, report: Report, restarted: Callable[[], None]) -> None:
        clock = asyncio.get_running_loop().time
        pause_s, started_at = RESTART_PAUSE_S, clock()
        while True:
            assert self._process is not None
            await self._process.wait()
            report(self.name, f"(pid {self.pid}) {self.ending}; restarting")
            if clock() - started_at > STEADY_S:
                pause_s = RESTART_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_PAUSE_S_MAX)
            started_at = clock()
            try:
                await self.start()
            except OSError as error:
                report(self.name, f"cannot be started: {error}")
            else:
                restarted()


def _dies_with_parent(orphan_signal: signal.Signals) -> Callable[[], None] | None:
    """For Linux, what a child does between fork and exec so that it does not outlive us."""
    if not sys.platform.startswith("linux"):
        return None  # Elsewhere what is left over keeps the lock, and the next start says so.
    prctl = ctypes.CDLL(None).prctl  # Looked up before the fork: after it, little is safe.
    return lambda: prctl(_PR_SET_PDEATHSIG, orphan_signal)
