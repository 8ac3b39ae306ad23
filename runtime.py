"""How every process starts and ends: logging, tracing, signals, error sentences, exit codes."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from settings import LogSettings

# settings, telemetry and uvloop are imported where they are needed, so that `orderly --help` is
# fast.

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_PR_SET_PDEATHSIG = 1

Failures = Mapping[type[Exception], int]
"""Errors whose message is for people, with their exit codes; the first match counts."""

_log = logging.getLogger("orderly")
_logs_json = False
"""Whether each line on standard error is to be a JSON object."""

S = TypeVar("S")
L = TypeVar("L", bound="LogSettings")


def main(command: Callable[[], object]) -> NoReturn:
    """Runs `command`, and ends the process with its exit code."""
    gc.disable()  # Until all is imported: it would take an eighth of that time.
    code = EXIT_FAILED
    try:
        command()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else EXIT_FAILED
    except BaseException:
        if _logs_json:
            _log.critical("a bug ends the process", exc_info=True)
        else:
            traceback.print_exc()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # Threads of Temporal's SDK can crash an interpreter that is torn down.


def serve(
    load: Callable[[], L],
    service: Callable[[L], Coroutine[Any, Any, None]],
    trace_as: str | None = None,
    failures: Failures | None = None,
) -> NoReturn:
    """Runs a service with the settings of `load` until a stop signal, and exits.

    With `trace_as`, the service's name, it exports traces if the OTEL_* variables ask for them.
    """
    import uvloop

    import logs

    settings = load_settings(load)
    logs.start(settings.log_level, settings.log_format)
    global _logs_json
    _logs_json = logs.are_json()
    flush_traces = _start_tracing(trace_as) if trace_as else lambda: None
    # For uvicorn, which handles signals itself and raises them again when it has finished.
    for signum in STOP_SIGNALS:
        signal.signal(signum, lambda *_: sys.exit(0))
    try:
        run(service(settings), failures, uvloop.new_event_loop)
    finally:
        flush_traces()


def run(
    work: Coroutine[Any, Any, int | None],
    failures: Failures | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> NoReturn:
    """Runs `work` to its end and exits with the code that it returns, or with that of a failure."""
    known = failures or {}
    gc.freeze()  # Modules stay for ever: the garbage collector need not look at them.
    gc.enable()
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            sys.exit(runner.run(work) or 0)
    except tuple(known) as error:
        fail(error, next(code for kind, code in known.items() if isinstance(error, kind)))


async def until_signal(work: Coroutine[Any, Any, int | None], interrupted: int = 0) -> int:
    """Cancels `work` at Ctrl-C or SIGTERM; the exit code is then `interrupted`."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop_event().wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
    stopping.cancel()
    try:
        return await task or 0
    except asyncio.CancelledError:
        return interrupted


def stop_event() -> asyncio.Event:
    """An event that Ctrl-C or SIGTERM sets; further signals do not interrupt the shutdown."""
    stopped = asyncio.Event()
    for signum in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    return stopped


def is_interactive() -> bool:
    """Whether a person reads what this process writes, and can press Ctrl-C.

    A CI system may have a terminal, too, but sets the variable `CI`.
    """
    return os.isatty(0) and os.isatty(1) and not os.environ.get("CI")


def signal_with_parent(orphan_signal: signal.Signals) -> Callable[[], None] | None:
    """On Linux, a function for the child, before exec, that has it end with its parent.

    The signal also ends a child that has no handler for it yet. Otherwise it would be lost if this
    process ignores it, as those do with SIGINT and SIGQUIT that a script runs in the background.
    """
    if not sys.platform.startswith("linux"):
        return None  # Elsewhere an orphan goes on, and keeps its locks.
    prctl = ctypes.CDLL(None).prctl  # Looked up here, as little is safe after the fork.

    def prepare() -> None:
        if orphan_signal != signal.SIGKILL:  # That one cannot be ignored.
            signal.signal(orphan_signal, signal.SIG_DFL)
        prctl(_PR_SET_PDEATHSIG, orphan_signal)

    return prepare


def load_settings(load: Callable[[], S]) -> S:
    """The settings that `load` reads; exits if they cannot be used."""
    from settings import SettingsError

    try:
        return load()
    except SettingsError as error:
        fail(error, EXIT_USAGE)


def fail(reason: object, code: int) -> NoReturn:
    """Exits with one plain sentence instead of a traceback."""
    if _logs_json:
        _log.critical("%s", reason)
    else:
        print(f"orderly: {reason}", file=sys.stderr)
    sys.exit(code)


def _start_tracing(name: str) -> Callable[[], None]:
    import telemetry

    return load_settings(lambda: telemetry.start_tracing(name))
