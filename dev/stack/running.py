"""Starts the whole stack, keeps it alive, and stops it in order."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path

from dev.stack import programs, readiness
from dev.stack.child import Child, Program, Report
from dev.stack.claim import LOOPBACK, OccupiedError, StackError, claim, free_ports
from dev.stack.programs import Addresses
from dev.stack.readiness import Check
from readside.engine.migrate import migrate
from readside.registry import PROJECTIONS
from settings import check_names

READY_S_MAX = 60.0
LOG_LINES_SHOWN = 20
SOCKET_PATH_BYTES_MAX = 100  # Linux takes 107, macOS 103.
INFO_FILE = "stack.json"  # In the data directory, for whoever looks for a stack that runs there.


@dataclass(frozen=True)
class StackOptions:
    """Where the stack keeps its state and where it listens; port 0 picks a free one."""

    data_dir: Path = Path(".orderly")
    api_port: int = 8080
    temporal_port: int = 7233
    ui_port: int = 8233
    info_file: Path | None = None
    simulators_port: int = 0
    max_concurrent_commands: int | None = 100
    """On a machine of one's own, clients would rather wait for each other than be sent away."""


@dataclass(frozen=True)
class Stack(Addresses):
    """A stack that runs: how to reach it, and its processes in the order of their start."""

    logs: Path
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def pids(self) -> dict[str, int]:
        """The process ids as they are now."""
        return {name: child.pid for name, child in self.children.items()}

    def write_info(self, file: Path) -> None:
        """Replaces `file` in one step: whoever reads it finds all of the old or all of the new."""
        info = {part.name: getattr(self, part.name) for part in fields(Addresses)}
        fresh = file.with_name(f"{file.name}.new")
        fresh.write_text(json.dumps(info | {"pids": self.pids}, indent=2) + "\n")
        fresh.replace(file)


@asynccontextmanager
async def running_stack(
    options: StackOptions, report: Report = lambda _name, _state: None
) -> AsyncIterator[Stack]:
    """Starts everything, hands it over once it can serve, and stops it in order at the end.

    The next stack in the same data directory continues where this one was. Raises StackError when
    it cannot start, or SettingsError; nothing is left running then.
    """
    check_names()
    if options.info_file and not options.info_file.absolute().parent.is_dir():
        raise OccupiedError(f"{options.info_file} cannot be written: its directory is not there.")
    async with AsyncExitStack() as held:
        data_dir = options.data_dir.resolve()
        lock_fd = await claim(data_dir, held)
        sockets = _socket_folder(data_dir, held)
        stack = _stack(options, sockets, data_dir / "logs")
        launch = _Launch(stack, held, lock_fd, report)
        await launch.start(
            (await programs.postgres(data_dir, stack.logs, sockets), readiness.postgres_answers),
            (programs.temporal(data_dir, stack.logs, stack), readiness.temporal_answers),
        )
        await migrate(stack.postgres_dsn, PROJECTIONS)
        secret = programs.webhook_secret(data_dir)
        ours = partial(programs.ours, stack, stack.logs)
        await launch.start(
            (
                programs.simulators(data_dir, stack.logs, stack, secret),
                readiness.simulators_answer,
            ),
            (ours("projector", "projector"), readiness.api_is_ready),
            (ours("worker", "worker"), readiness.worker_polls),
            (ours("api", "api", **_of_the_api(options, secret)), readiness.api_is_ready),
        )
        infos = [data_dir / INFO_FILE, *([options.info_file] if options.info_file else [])]
        launch.keep_alive(held.enter_context(_info_files(stack, infos)))
        yield stack


def _of_the_api(options: StackOptions, secret: str) -> dict[str, str]:
    return {
        "ORDERLY_WEBHOOK_SECRET": secret,
        "ORDERLY_MAX_CONCURRENT_COMMANDS": str(options.max_concurrent_commands or ""),
    }


def _socket_folder(data_dir: Path, held: AsyncExitStack) -> Path:
    """An empty folder for the socket of Postgres that nobody else can enter."""
    folder = data_dir / "sockets"
    if len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES_MAX:
        return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="orderly-")))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def _stack(options: StackOptions, sockets: Path, logs: Path) -> Stack:
    logs.mkdir(exist_ok=True)
    wanted = {"--api-port": options.api_port, "--temporal-port": options.temporal_port}
    wanted |= {"--ui-port": options.ui_port, "--simulators-port": options.simulators_port}
    api_port, temporal_port, ui_port, simulators_port = free_ports(wanted)
    return Stack(
        api_url=f"http://{LOOPBACK}:{api_port}",
        temporal_address=f"{LOOPBACK}:{temporal_port}",
        temporal_namespace="default",
        task_queue="orders",
        temporal_ui_url=f"http://{LOOPBACK}:{ui_port}",
        postgres_dsn=f"postgresql://postgres@/postgres?host={sockets}&port=5432",
        simulators_url=f"http://{LOOPBACK}:{simulators_port}",
        logs=logs,
    )


class _Launch:
    """Starts children, and leaves it to `held` to stop them in the reverse order."""

    def __init__(self, stack: Stack, held: AsyncExitStack, lock_fd: int, report: Report) -> None:
        self._stack = stack
        self._held = held
        self._lock_fd = lock_fd
        self._report = report

    async def start(self, *parts: tuple[Program, Check]) -> None:
        """Starts programs side by side, and returns when each is ready to serve."""
        for program, _ in parts:
            child = self._stack.children[program.name] = Child(program, self._lock_fd)
            self._held.push_async_callback(self._stop, child)
            self._report(program.name, "starting")
            await child.start()
        for program, is_ready in parts:
            await self._until(is_ready, program)
            self._report(program.name, "ready")

    def keep_alive(self, restarted: Callable[[], None]) -> None:
        """From now on a child that dies is started again, and `restarted` is called."""
        for child in self._stack.children.values():
            child.keep_alive(self._report, restarted)

    async def _stop(self, child: Child) -> None:
        self._report(child.name, "stopping")
        await child.stop()
        self._report(child.name, "stopped")

    async def _until(self, is_ready: Check, program: Program) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + READY_S_MAX
        while not await is_ready(self._stack):
            for child in self._stack.children.values():
                if child.ending is not None:
                    raise _failed(child.program, f"{child.ending} during the start")
            if clock() > deadline:
                raise _failed(program, f"is not ready after {READY_S_MAX:.0f} seconds")
            await asyncio.sleep(0.05)


def _failed(program: Program, how: str) -> StackError:
    tail = program.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    return StackError("\n  ".join([f"{program.name} {how}. The end of {program.log}:", *tail]))


@contextmanager
def _info_files(stack: Stack, files: list[Path]) -> Iterator[Callable[[], None]]:
    """While the stack runs, `files` say how to reach it; yields what brings them up to date."""

    def write() -> None:
        for file in files:
            stack.write_info(file)

    write()
    try:
        yield write
    finally:
        for file in files:
            file.unlink(missing_ok=True)
