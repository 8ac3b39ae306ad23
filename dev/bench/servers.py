"""Postgres alone, and programs beside it: for the parts that need less than the whole stack."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import httpx
import psutil  # type: ignore[import-untyped]

from dev.bench import orderly_projector as ours
from dev.stack import StackError, programs
from dev.stack.child import Child, Program
from dev.stack.claim import LOOPBACK, claim, free_ports
from dev.stack.programs import Addresses

ROOT = Path(__file__).parents[2]
READY_S_MAX = 60.0
SAMPLE_S = 0.05


@dataclass(frozen=True)
class Server:
    """A Postgres server; it and all that is started beside it end together."""

    dsn: str
    folder: Path
    _lock_fd: int
    _held: AsyncExitStack

    async def database(self, name: str) -> str:
        """Makes a database with all our tables; returns its DSN."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        dsn = self.dsn.replace("/postgres?", f"/{name}?")
        await ours.prepare(dsn)
        return dsn

    async def start(self, program: Program) -> Child:
        """Starts a program beside it."""
        child = Child(program, self._lock_fd)
        self._held.push_async_callback(child.stop)
        await child.start()
        return child

    async def start_api(self, dsn: str, name: str = "api") -> tuple[str, Child]:
        """Starts an API process, and waits until it answers at the URL that is returned."""
        [port] = free_ports({name: 0})
        child = await self.start_ours("api", dsn, port, name)
        url = f"http://{LOOPBACK}:{port}"
        await until_it_answers(child, url)
        return url, child

    async def start_ours(self, command: str, dsn: str, port: int = 0, name: str = "") -> Child:
        """Starts one of our own processes, without tracing, and with no Temporal to talk to."""
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
        name, off = name or command, {"OTEL_SDK_DISABLED": "true"}
        return await self.start(programs.ours(addresses, self.folder, name, command, **off))


@asynccontextmanager
async def postgres(*settings: str) -> AsyncIterator[Server]:
    """A Postgres server of our own, set up as the embedded stack does it, but for the settings."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as name:
        folder = Path(name)
        async with AsyncExitStack() as held:
            sockets = folder / "sockets"
            sockets.mkdir(mode=0o700)
            dsn = f"postgresql://postgres@/postgres?host={sockets}&port=5432"
            server = Server(dsn, folder, await claim(folder, held), held)
            program = await programs.postgres(folder, folder, sockets)
            options = [word for setting in settings for word in ("-c", setting)]
            child = await server.start(replace(program, command=[*program.command, *options]))
            await _until_it_connects(child, dsn)
            yield server


async def _until_it_connects(child: Child, dsn: str) -> None:
    async def connects() -> None:
        await (await asyncpg.connect(dsn)).close()

    await _until_it_succeeds(child, connects, (OSError, asyncpg.PostgresError))


async def until_it_answers(child: Child, url: str) -> None:
    """Returns once an HTTP server answers, whatever it is; raises StackError if it ends before."""
    async with httpx.AsyncClient() as http:
        await _until_it_succeeds(child, lambda: http.get(url), (httpx.TransportError,))


async def _until_it_succeeds(
    child: Child, attempt: Callable[[], Awaitable[object]], failures: tuple[type[Exception], ...]
) -> None:
    async with asyncio.timeout(READY_S_MAX):
        while True:
            try:
                await attempt()
            except failures:
                if child.ending is not None:
                    log = child.program.log.read_text()
                    raise StackError(f"{child.name} {child.ending}: {log}") from None
                await asyncio.sleep(0.05)
            else:
                return


@dataclass(frozen=True)
class Ran:
    """What a process printed, and the megabytes that it had resident, sampled as it ran."""

    printed: str
    resident_mb: list[float]


async def run_python(*arguments: str, stdin: str = "") -> Ran:
    """Runs Python to its end; raises RuntimeError if it fails."""
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
    return Ran(printed.decode(), samples)


async def _sample(pid: int, samples: list[float]) -> None:
    process = psutil.Process(pid)
    with suppress(psutil.NoSuchProcess):
        while True:
            samples.append(process.memory_info().rss / 1e6)
            await asyncio.sleep(SAMPLE_S)
