"""Postgres and single programs, for the benchmarks that need less than the whole stack."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import httpx
import psutil  # type: ignore[import-untyped]

from dev.bench import orderly_projector
from dev.stack import StackError, programs
from dev.stack.data_dir import lock_data_dir
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import Addresses
from dev.stack.supervisor import Program, SupervisedProcess

ROOT = Path(__file__).parents[2]
READY_S_MAX = 60.0
SAMPLE_S = 0.05


@dataclass(frozen=True)
class PostgresServer:
    """A Postgres server, and the programs started beside it; all end together."""

    dsn: str
    folder: Path
    process: SupervisedProcess
    _lock_fd: int
    _exit_stack: AsyncExitStack

    async def database(self, name: str) -> str:
        """Creates a database with all tables of orderly; returns its DSN."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        dsn = self.dsn.replace("/postgres?", f"/{name}?")
        await orderly_projector.prepare(dsn)
        return dsn

    async def start(self, program: Program) -> SupervisedProcess:
        """Starts a program."""
        child = SupervisedProcess(program, self._lock_fd)
        self._exit_stack.push_async_callback(child.stop)
        await child.start()
        return child

    async def start_api(self, dsn: str, name: str = "api") -> tuple[str, SupervisedProcess]:
        """Starts an API process; returns its URL once it responds."""
        [port] = free_ports({name: 0})
        child = await self.start_orderly("api", dsn, port, name)
        url = f"http://{LOOPBACK}:{port}"
        await wait_until_responding(child, url)
        return url, child

    async def start_orderly(
        self,
        command: str,
        dsn: str,
        port: int = 0,
        name: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> SupervisedProcess:
        """Starts a process of orderly, without tracing and without Temporal."""
        nowhere = f"{LOOPBACK}:1"
        addresses = Addresses(
            api_url=f"http://{LOOPBACK}:{port}",
            temporal_address=nowhere,
            temporal_namespace="default",
            task_queue="orders",
            temporal_ui_url=f"http://{nowhere}",
            postgres_dsn=dsn,
            simulators_url=f"http://{nowhere}",
        )
        name, more = name or command, {"OTEL_SDK_DISABLED": "true", **(settings or {})}
        return await self.start(
            programs.orderly_process(addresses, self.folder, name, command, **more)
        )


@asynccontextmanager
async def postgres(*settings: str) -> AsyncIterator[PostgresServer]:
    """A temporary Postgres server, set up as in the embedded stack, with further settings."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as name:
        folder = Path(name)
        async with AsyncExitStack() as exit_stack:
            sockets = folder / "sockets"
            sockets.mkdir(mode=0o700)
            dsn = f"postgresql://postgres@/postgres?host={sockets}&port=5432"
            lock_fd = await lock_data_dir(folder, exit_stack)
            program = await programs.postgres(folder, folder, sockets)
            options = [word for setting in settings for word in ("-c", setting)]
            program = replace(program, command=[*program.command, *options])
            process = SupervisedProcess(program, lock_fd)
            server = PostgresServer(dsn, folder, process, lock_fd, exit_stack)
            exit_stack.push_async_callback(process.stop)
            await process.start()
            await wait_until_connecting(process, dsn)
            yield server


async def wait_until_connecting(child: SupervisedProcess, dsn: str) -> None:
    """Returns once Postgres takes connections; raises StackError if it ends before."""

    async def connects() -> None:
        await (await asyncpg.connect(dsn)).close()

    await _wait_until(child, connects, (OSError, asyncpg.PostgresError))


async def wait_until_responding(child: SupervisedProcess, url: str) -> None:
    """Returns once an HTTP server responds; raises StackError if it ends before."""
    async with httpx.AsyncClient() as http:
        await _wait_until(child, lambda: http.get(url), (httpx.TransportError,))


async def _wait_until(
    child: SupervisedProcess,
    attempt: Callable[[], Awaitable[object]],
    failures: tuple[type[Exception], ...],
) -> None:
    async with asyncio.timeout(READY_S_MAX):
        while True:
            try:
                await attempt()
            except failures:
                if child.exit_reason is not None:
                    log = child.program.log.read_text()
                    raise StackError(f"{child.name} {child.exit_reason}: {log}") from None
                await asyncio.sleep(0.05)
            else:
                return


@dataclass(frozen=True)
class CompletedRun:
    """The output of a process, and samples of its resident megabytes."""

    output: str
    resident_mb: list[float]


async def run_python(*arguments: str, stdin: str = "") -> CompletedRun:
    """Runs Python until it ends; raises RuntimeError if it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    samples: list[float] = []
    sampling = asyncio.create_task(_sample(process.pid, samples))
    try:
        printed, errors = await process.communicate(stdin.encode())
    finally:
        sampling.cancel()
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise RuntimeError(f"python {' '.join(arguments)}: {errors.decode()}")
    return CompletedRun(printed.decode(), samples)


async def _sample(pid: int, samples: list[float]) -> None:
    process = psutil.Process(pid)
    with suppress(psutil.NoSuchProcess):
        while True:
            samples.append(process.memory_info().rss / 1e6)
            await asyncio.sleep(SAMPLE_S)
