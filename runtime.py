"""How a command of ours ends: its exit codes, its one sentence, and its way through signals."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

import typer

# What a command needs is imported inside it: `orderly --help` answers at once.
if TYPE_CHECKING:
    from settings import Settings

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def settings(read: Callable[[], Settings] | None = None) -> Settings:
    """What the environment says to all, or as `read`; ends the process if it cannot be used."""
    from settings import Settings, SettingsError, from_environment

    try:
        return read() if read else from_environment(Settings)
    except SettingsError as error:
        fail(error, EXIT_USAGE)


def finish(
    work: Coroutine[Any, Any, int | None],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> NoReturn:
    """Runs `work` to its end and raises its exit code; says in a sentence what made it fail."""
    from dev.stack import OccupiedError, StackError

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            raise typer.Exit(runner.run(work) or 0)
    except StackError as error:
        fail(error, EXIT_USAGE if isinstance(error, OccupiedError) else EXIT_FAILED)


async def until_signal(work: Coroutine[Any, Any, int | None], interrupted: int = 0) -> int:
    """Cancels `work` at Ctrl-C or SIGTERM; its exit code is then `interrupted`."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def stop() -> None:
        for signum in STOP_SIGNALS:
            loop.add_signal_handler(signum, lambda: None)  # A second one must not cut it short.
        task.cancel()

    for signum in STOP_SIGNALS:
        loop.add_signal_handler(signum, stop)
    try:
        return await task or 0
    except asyncio.CancelledError:
        return interrupted


def fail(reason: object, code: int) -> NoReturn:
    """Ends with one plain sentence instead of a traceback."""
    print(f"orderly: {reason}", file=sys.stderr)
    raise typer.Exit(code)
