"""Supervises a child process: starts it, restarts it when it exits, and stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime import signal_with_parent

RESTART_PAUSE_S = 0.2  # Doubles with each consecutive restart, up to the maximum.
RESTART_PAUSE_S_MAX = 3.0
STABLE_S = 10.0  # A process that ran this long starts again with the shortest pause.
STOP_S_MAX = 30.0  # More than the 20 s in which a worker finishes its calls.

Report = Callable[[str, str], None]
"""Takes the name of a process and its new state, e.g. ``("worker", "ready")``."""


@dataclass(frozen=True)
class Program:
    """What to run, and how to stop it."""

    name: str
    command: Sequence[str | Path]
    log: Path
    environment: Mapping[str, str]
    user: str | None = None
    before_start: Callable[[], None] = lambda: None
    """Called before each start and restart."""
    stop_signal: signal.Signals = signal.SIGTERM
    # Sent by the kernel when the supervisor has ended without stopping it.
    orphan_signal: signal.Signals = signal.SIGKILL


class SupervisedProcess:
    """One running program; `pid` changes when it is restarted.

    It inherits `lock_fd`, an open lock file, if there is one: the lock is released when the last
    process has ended, however that happened.
    """

    def __init__(self, program: Program, lock_fd: int | None = None) -> None:
        self.program = program
        self.name = program.name
        self._inherited = () if lock_fd is None else (lock_fd,)
        self._process: asyncio.subprocess.Process | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id of the latest start."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_reason(self) -> str | None:
        """How the process ended, as the rest of a sentence; None while it runs."""
        assert self._process is not None
        code = self._process.returncode
        if code is None:
            return None
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def start(self) -> None:
        """Starts the process in its own session, so that Ctrl-C does not reach it."""
        program = self.program
        program.before_start()
        with program.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=program.environment,
                user=program.user,
                pass_fds=self._inherited,
                start_new_session=True,
                preexec_fn=signal_with_parent(program.orphan_signal),
            )

    def restart_on_exit(self, report: Report, restarted: Callable[[], None]) -> None:
        """From now on reports each exit, restarts the process, and then calls `restarted`."""
        self._restarting = asyncio.create_task(self._restart_loop(report, restarted))

    async def stop(self) -> None:
        """Stops the process, by force if it takes too long, and returns when it has ended."""
        for task in (self._restarting, self._announcing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
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

    async def _announce(self, report: Report, restarted: Callable[[], None]) -> None:
        """Calls `restarted` until it succeeds: a full disk must not leave an outdated pid."""
        while True:
            try:
                return restarted()
            except OSError as error:
                report(self.name, f"was restarted, which cannot be recorded: {error}")
                await asyncio.sleep(RESTART_PAUSE_S_MAX)

    async def _restart_loop(self, report: Report, restarted: Callable[[], None]) -> None:
        clock = asyncio.get_running_loop().time
        pause_s, started_at = RESTART_PAUSE_S, clock()
        while True:
            assert self._process is not None
            await self._process.wait()
            if self._announcing is not None:
                self._announcing.cancel()
            report(self.name, f"(pid {self.pid}) {self.exit_reason}; restarting")
            if clock() - started_at > STABLE_S:
                pause_s = RESTART_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RESTART_PAUSE_S_MAX)
            started_at = clock()
            try:
                await self.start()
            except OSError as error:
                report(self.name, f"cannot be started: {error}")
            else:
                self._announcing = asyncio.create_task(self._announce(report, restarted))
