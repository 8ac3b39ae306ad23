"""Starts the whole stack, restarts processes that exit, and stops it in order."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from dev.stack import programs, prometheus, readiness
from dev.stack.data_dir import lock_data_dir
from dev.stack.errors import ResourceInUse, StackError
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import Addresses
from dev.stack.read_models import upgrade_read_models
from dev.stack.readiness import Check
from dev.stack.supervisor import Program, Report, SupervisedProcess
from readside.engine.migrate import migrate
from readside.registry import PROJECTIONS
from settings import check_names

ORDERLY = ("worker", "projector", "deliverer", "api")
READY_S_MAX = 60.0
LOG_LINES_SHOWN = 20
LOOPBACK_NETWORKS = "127.0.0.0/8,::1/128"  # Webhooks may go there, without TLS.
SOCKET_PATH_BYTES_MAX = 100  # Linux takes 107, macOS 103.
INFO_FILE = "stack.json"  # In the data directory; exists while the stack runs.


@dataclass(frozen=True)
class StackOptions:
    """Where the stack keeps its state and where it listens; port 0 picks a free one."""

    data_dir: Path = Path(".orderly")
    api_port: int = 8080
    temporal_port: int = 7233
    ui_port: int = 8233
    info_file: Path | None = None
    simulators_port: int = 0
    is_durable: bool = False
    """Whether acknowledged commands survive a power cut, at an fsync for each commit of Temporal's.
    What is deleted at its end, such as the demo, need not be."""
    max_concurrent_commands: int | None = 100
    """None: an adaptive limit. On a machine of one's own, a fixed one avoids rejections."""
    is_versioned: bool = False
    """Whether workers are pinned versions of a deployment, the newest of which is current."""
    worker_roots: Sequence[Path] = ()
    """Folders with other versions of orderly, whose versioned workers run as well."""
    servers_only: bool = False
    """Only Postgres and Temporal, for `orderly restore`."""
    reroute: Callable[[Addresses], AbstractAsyncContextManager[Addresses]] = nullcontext
    """Yields the addresses that API, worker and projector use, such as those of proxies."""
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """More variables of API, worker, projector or deliverer, by the name of the process."""
    service_urls: Mapping[str, str] = field(default_factory=dict)
    """Of services that are used instead of their simulators, by name."""
    has_prometheus: bool = False
    """Whether Prometheus scrapes all processes, if it is installed."""
    prometheus_port: int = 9090
    replicas: int = 1
    """How many processes of each of API, worker and projector; further APIs get free ports."""


@dataclass(frozen=True)
class Stack(Addresses):
    """A running stack: its addresses, and its processes in the order of their start."""

    logs: Path
    api_urls: list[str]
    """One for each API process."""
    admin_urls: dict[str, str]
    """Of health, readiness and metrics, by the name of the process."""
    prometheus_url: str | None = None
    processes: dict[str, SupervisedProcess] = field(default_factory=dict)

    @property
    def pids(self) -> dict[str, int]:
        """The current process ids, by name."""
        return {name: process.pid for name, process in self.processes.items()}

    def write_info(self, file: Path) -> None:
        """Replaces `file` atomically with the addresses and process ids."""
        info = {part.name: getattr(self, part.name) for part in fields(Addresses)}
        fresh = file.with_name(f"{file.name}.new")
        more = {
            "console_url": self.console_url,
            "admin_urls": self.admin_urls,
            **({"prometheus_url": self.prometheus_url} if self.prometheus_url else {}),
            "data_dir": str(self.logs.parent),
            "pids": self.pids,
        }
        fresh.write_text(json.dumps(info | more, indent=2) + "\n")
        fresh.replace(file)


@asynccontextmanager
async def run_stack(
    options: StackOptions, report: Report = lambda _name, _state: None
) -> AsyncIterator[Stack]:
    """Starts everything, yields the stack when it is ready, and stops it in order at the end.

    The next stack in the same data directory continues from its state. Raises StackError or
    SettingsError if it cannot start; nothing is left running then.
    """
    check_names()
    programs.check_installed()
    if (file := options.info_file) and not _can_be_written(file.absolute()):
        raise ResourceInUse(f"{file} cannot be written: name a file in another directory.")
    async with AsyncExitStack() as held:
        data_dir = options.data_dir.resolve()
        lock_fd = await lock_data_dir(data_dir, held)
        sockets = _socket_folder(data_dir, held)
        stack = _stack(options, sockets, data_dir / "logs")
        infos = [data_dir / INFO_FILE, *([options.info_file] if options.info_file else [])]
        launch = _Launcher(stack, held, lock_fd, report)
        await launch.start(
            (await programs.postgres(data_dir, stack.logs, sockets), readiness.postgres_is_ready),
            (
                programs.temporal(data_dir, stack.logs, stack, is_durable=options.is_durable),
                readiness.temporal_is_ready,
            ),
        )
        await migrate(stack.postgres_dsn, PROJECTIONS)
        if options.servers_only:
            held.enter_context(_info_files(stack, infos))
            yield stack
            return
        await upgrade_read_models(stack.postgres_dsn, report)
        secret = programs.webhook_secret(data_dir)
        for_webhooks = {
            "ORDERLY_ENDPOINT_KEY": programs.endpoint_key(data_dir),
            "ORDERLY_ENDPOINT_NETWORKS": LOOPBACK_NETWORKS,
        }
        for_api = _api_environment(options, secret)
        addresses = await held.enter_async_context(options.reroute(stack))
        build_id = await programs.build_id_of(programs.ROOT) if options.is_versioned else None
        await launch.start(
            (
                programs.simulators(data_dir, stack.logs, stack, secret),
                readiness.simulators_are_ready,
            ),
            *_prometheus(stack, data_dir),
            *await _other_workers(options, addresses, stack.logs),
            *_orderly_processes(
                stack, addresses, options.environments, for_api, for_webhooks, build_id
            ),
        )
        launch.restart_on_exit(held.enter_context(_info_files(stack, infos)))
        yield stack


def _can_be_written(file: Path) -> bool:
    return os.access(file.parent, os.W_OK) and not file.is_dir()


def _prometheus(stack: Stack, data_dir: Path) -> Iterator[tuple[Program, Check]]:
    if url := stack.prometheus_url:
        program = prometheus.prometheus(data_dir, stack.logs, stack.admin_urls, url)
        yield program, prometheus.is_ready(url)


def _orderly_processes(
    stack: Stack,
    addresses: Addresses,
    environments: Mapping[str, Mapping[str, str]],
    for_api: dict[str, str],
    for_webhooks: dict[str, str],
    build_id: str | None,
) -> Iterator[tuple[Program, Check]]:
    """Worker, projector, deliverer and API, once for each URL of an API."""
    versioned = programs.versioned(build_id) if build_id else {}
    is_ready = readiness.version_is_current(build_id) if build_id else readiness.worker_is_ready
    for number, api_url in enumerate(stack.api_urls, 1):
        here = replace(addresses, api_url=api_url)
        process = partial(_orderly_process, stack, here, environments, number)
        api_is_ready = partial(_check_at, readiness.api_is_ready, here)
        yield process("worker", **versioned), is_ready
        yield process("projector"), api_is_ready
        yield process("deliverer", **for_webhooks), readiness.deliverer_is_ready
        yield process("api", **for_api, **for_webhooks), api_is_ready


def _orderly_process(
    stack: Stack,
    addresses: Addresses,
    environments: Mapping[str, Mapping[str, str]],
    number: int,
    command: str,
    **more: str,
) -> Program:
    name = _name(command, number)
    more["ORDERLY_ADMIN_PORT"] = str(urlsplit(stack.admin_urls[name]).port)
    more |= environments.get(name, {})
    return programs.orderly_process(addresses, stack.logs, name, command, **more)


def _name(command: str, number: int) -> str:
    return command if number == 1 else f"{command} {number}"


def _check_at(check: Check, here: Addresses, _: Addresses) -> Awaitable[bool]:
    return check(here)


async def _other_workers(
    options: StackOptions, addresses: Addresses, logs: Path
) -> list[tuple[Program, Check]]:
    """The workers with the code in other folders, each a version of its own."""
    return [
        (
            programs.worker_of(addresses, logs, root.resolve(), await programs.build_id_of(root)),
            readiness.worker_is_ready,
        )
        for root in options.worker_roots
    ]


def _api_environment(options: StackOptions, secret: str) -> dict[str, str]:
    return {
        "ORDERLY_WEBHOOK_SECRET": secret,
        "ORDERLY_MAX_CONCURRENT_COMMANDS": str(options.max_concurrent_commands or ""),
    }


def _socket_folder(data_dir: Path, held: AsyncExitStack) -> Path:
    """An empty, private folder for the socket of Postgres."""
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
    wanted |= {f"api {number}": 0 for number in range(2, options.replicas + 1)}
    numbers = range(1, options.replicas + 1)
    names = [_name(command, number) for command in ORDERLY for number in numbers]
    admin = {f"admin port of {name}": 0 for name in names}
    is_run = options.has_prometheus and not options.servers_only
    is_scraped = is_run and prometheus.is_installed()
    more = {"--prometheus-port": options.prometheus_port} if is_scraped else {}
    ports = free_ports(wanted | admin | more)
    admin_ports, prometheus_ports = ports[len(wanted) :][: len(names)], ports[len(wanted | admin) :]
    api_port, temporal_port, ui_port, simulators_port, *more_api_ports = ports[: len(wanted)]
    api_urls = [f"http://{LOOPBACK}:{port}" for port in (api_port, *more_api_ports)]
    return Stack(
        api_url=api_urls[0],
        temporal_address=f"{LOOPBACK}:{temporal_port}",
        temporal_namespace="default",
        task_queue="orders",
        temporal_ui_url=f"http://{LOOPBACK}:{ui_port}",
        postgres_dsn=f"postgresql://postgres@/postgres?host={sockets}&port=5432",
        simulators_url=f"http://{LOOPBACK}:{simulators_port}",
        service_urls=options.service_urls,
        logs=logs,
        api_urls=api_urls,
        admin_urls={
            name: f"http://{LOOPBACK}:{port}" for name, port in zip(names, admin_ports, strict=True)
        },
        prometheus_url=f"http://{LOOPBACK}:{prometheus_ports[0]}" if is_scraped else None,
    )


class _Launcher:
    """Starts processes; `held` stops them in the reverse order."""

    def __init__(self, stack: Stack, held: AsyncExitStack, lock_fd: int, report: Report) -> None:
        self._stack = stack
        self._held = held
        self._lock_fd = lock_fd
        self._report = report

    async def start(self, *parts: tuple[Program, Check]) -> None:
        """Starts programs concurrently, and returns when each is ready."""
        for program, _ in parts:
            process = SupervisedProcess(program, self._lock_fd)
            self._stack.processes[program.name] = process
            self._held.push_async_callback(self._stop, process)
            self._report(program.name, "starting")
            await process.start()
        for program, is_ready in parts:
            await self._wait_until(is_ready, program)
            self._report(program.name, "ready")

    def restart_on_exit(self, restarted: Callable[[], None]) -> None:
        """From now on restarts processes that exit, and then calls `restarted`."""
        for process in self._stack.processes.values():
            process.restart_on_exit(self._report, restarted)

    async def _stop(self, process: SupervisedProcess) -> None:
        self._report(process.name, "stopping")
        await process.stop()
        self._report(process.name, "stopped")

    async def _wait_until(self, is_ready: Check, program: Program) -> None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + READY_S_MAX
        while not await is_ready(self._stack):
            for process in self._stack.processes.values():
                if process.exit_reason is not None:
                    raise failed_start(process.program, f"{process.exit_reason} during the start")
            if clock() > deadline:
                raise failed_start(program, f"is not ready after {READY_S_MAX:.0f} seconds")
            await asyncio.sleep(0.05)


def failed_start(program: Program, how: str) -> StackError:
    """An error with the end of the program's log."""
    tail = program.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    if any("`orderly restore status`" in line for line in tail):
        tail.append("`orderly up --servers-only` starts Postgres and Temporal for it.")
    return StackError("\n  ".join([f"{program.name} {how}. The end of {program.log}:", *tail]))


@contextmanager
def _info_files(stack: Stack, files: list[Path]) -> Iterator[Callable[[], None]]:
    """Writes the info files, and removes them at the end; yields the function that updates them."""

    def write() -> None:
        for file in files:
            stack.write_info(file)

    write()
    try:
        yield write
    finally:
        for file in files:
            file.unlink(missing_ok=True)
