"""The nemesis: kills and pauses processes, and harms Postgres, connections, clocks and the disk."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import asyncpg
import httpx

from dev.chaos.clocks import Clocks
from dev.chaos.schedule import Fault, Step
from dev.chaos.small_disk import SmallDisk
from dev.chaos.workload import Load
from dev.stack import Stack
from dev.stack.programs import Addresses
from dev.tcp_proxy import TcpProxy, through, unix_socket

DELAY_S = 0.3
PROBE_S_MAX = 5.0
RECOVERY_S_MAX = 60.0  # Temporal's client finds a half-open connection after 45.
RETRY_S = 0.1
OTHER_CLIENTS = "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
UNREACHABLE = (
    *(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError),
    asyncpg.InternalClientError,  # The server has closed the connection.
)


@dataclass
class Strike:
    """A fault that was done.

    `recovery_s` is from its end, and that of others at the same time, until all is served again;
    None if the next one came at once.
    """

    fault: Fault
    recovery_s: float | None = None
    began_s: float = field(default_factory=time.monotonic)


@dataclass
class Proxies:
    """The proxies in front of the servers, by name, and the addresses that lead through them."""

    by_server: dict[str, TcpProxy] = field(default_factory=dict)
    addresses: Addresses | None = None

    @asynccontextmanager
    async def reroute(self, stack: Addresses) -> AsyncIterator[Addresses]:
        """Yields the addresses that lead through the proxies."""
        host, port = stack.temporal_address.split(":")
        postgres = TcpProxy(unix_socket(stack.postgres_dsn))
        temporal = TcpProxy((host, int(port)))
        async with postgres.listening(), temporal.listening():
            self.by_server = {"postgres": postgres, "temporal": temporal}
            self.addresses = replace(
                stack,
                postgres_dsn=through(postgres, stack.postgres_dsn),
                temporal_address=f"{host}:{temporal.port}",
            )
            yield self.addresses


class Nemesis:
    """Does faults to a stack, undoes those that last, and measures the time to recover.

    Clocks and the disk are harmed if there are such that can be.
    """

    def __init__(
        self,
        stack: Stack,
        proxies: Proxies,
        load: Load,
        clocks: Clocks | None = None,
        disk: SmallDisk | None = None,
    ) -> None:
        self._stack = stack
        self._proxies = proxies.by_server
        self._load = load
        self._clocks = clocks
        self._disk = disk
        self.strikes: list[Strike] = []
        self._probes = 0

    async def strike(self, steps: Iterator[Step], seconds: float) -> None:
        """Does one step after the other, until the time is over and all is served again."""
        until = time.monotonic() + seconds
        for step in steps:
            if time.monotonic() >= until:
                break
            strikes = [Strike(fault) for fault in step.faults if self._can_do(fault)]
            self.strikes += strikes
            await asyncio.gather(*(self.do(strike.fault) for strike in strikes))
            if step.waits:
                recovery_s = await self.wait_until_served()
                for strike in strikes:
                    strike.recovery_s = recovery_s
            await asyncio.sleep(step.gap_s)
        await self.wait_until_served()

    def _can_do(self, fault: Fault) -> bool:
        means = {"clock": self._clocks, "full": self._disk}
        return means.get(fault.kind, self) is not None

    async def wait_until_served(self) -> float:
        """The seconds until a new order is opened and read, and the simulators respond."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < RECOVERY_S_MAX:
            self._probes += 1
            with suppress(httpx.TransportError, TimeoutError):
                async with asyncio.timeout(PROBE_S_MAX):
                    if await self._load.is_served(self._probes):
                        return time.monotonic() - began
            await asyncio.sleep(RETRY_S)
        self._load.history.stuck.append(f"nothing is served {waited:.0f} s after a fault")
        return waited

    async def do(self, fault: Fault) -> None:
        """Does a fault until it is over, or until this is cancelled."""
        match fault.kind:
            case "kill":
                self._signal([self._stack.pids[fault.target]], signal.SIGKILL)
            case "down":
                await self._keep_down(fault)
            case "refuse":
                await self._refuse(fault)
            case "pause":
                await self._pause(fault)
            case "half-open":
                self._proxies[fault.target].silence()
            case "cut":
                self._proxies[fault.target].cut()
            case "delay":
                self._proxies[fault.target].delay_s = DELAY_S
                await asyncio.sleep(fault.seconds)
                self._proxies[fault.target].delay_s = 0.0
            case "clock":
                await self._shift_clock(fault)
            case "full":
                await self._fill_disk(fault.seconds)
            case "read-only":
                await self._read_only(fault.seconds)
            case _:
                await self._in_postgres(fault)

    async def _pause(self, fault: Fault) -> None:
        pids = [self._stack.pids[fault.target]] if fault.target in self._stack.pids else []
        if fault.target in ("postgres", "one backend"):
            backends = await self._sql(f"SELECT pid FROM pg_stat_activity {OTHER_CLIENTS}")
            found = [row["pid"] for row in backends] + pids
            pids = found if pids else found[:1]
        self._signal(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._signal(pids, signal.SIGCONT)

    async def _shift_clock(self, fault: Fault) -> None:
        assert self._clocks is not None
        self._clocks.shift(fault.target, fault.shift_s)
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._clocks.shift(fault.target, 0)

    async def _fill_disk(self, seconds: float) -> None:
        assert self._disk is not None
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                await asyncio.to_thread(self._disk.fill)
                await asyncio.sleep(RETRY_S)
        finally:
            self._disk.free()

    async def _keep_down(self, fault: Fault) -> None:
        """Kills a process whenever it has been restarted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(fault.seconds):
                while True:
                    self._signal([self._stack.pids[fault.target]], signal.SIGKILL)
                    await asyncio.sleep(RETRY_S)

    async def _refuse(self, fault: Fault) -> None:
        proxy = self._proxies[fault.target]
        proxy.is_refusing = True
        proxy.cut()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            proxy.is_refusing = False

    def _signal(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):  # It ended a moment ago and is not back yet.
                os.kill(pid, number)

    async def _read_only(self, seconds: float) -> None:
        reload = "SELECT pg_reload_conf()"
        await self._sql("ALTER SYSTEM SET default_transaction_read_only = on")
        await self._sql(reload)
        try:
            await asyncio.sleep(seconds)
        finally:
            await self._sql("ALTER SYSTEM RESET default_transaction_read_only")
            await self._sql(reload)

    async def _in_postgres(self, fault: Fault) -> None:
        """Faults that end with the connection, or the server, that does them."""
        held: list[asyncpg.Connection] = []
        try:
            with suppress(*UNREACHABLE):
                await self._harm_postgres(fault, held)
        finally:
            for connection in held:
                connection.terminate()

    async def _harm_postgres(self, fault: Fault, held: list[asyncpg.Connection]) -> None:
        held.append(await asyncpg.connect(self._stack.postgres_dsn, timeout=PROBE_S_MAX))
        async with asyncio.timeout(fault.seconds):
            if fault.kind == "lock":
                await held[0].execute(f"BEGIN; LOCK TABLE {fault.target}")
            while fault.kind == "exhaust":
                with suppress(asyncpg.TooManyConnectionsError):
                    held.append(await asyncpg.connect(self._stack.postgres_dsn))
                    continue
                await asyncio.sleep(RETRY_S)
            while fault.kind == "terminate":
                query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                await held[0].execute(f"{query} {OTHER_CLIENTS}")
                await asyncio.sleep(RETRY_S)
            await asyncio.Event().wait()

    async def _sql(self, statement: str) -> list[asyncpg.Record]:
        """Repeats a statement until Postgres executes it."""
        while True:
            with suppress(*UNREACHABLE):
                async with asyncio.timeout(PROBE_S_MAX):
                    connection = await asyncpg.connect(self._stack.postgres_dsn)
                    try:
                        rows: list[asyncpg.Record] = await connection.fetch(statement)
                        return rows
                    finally:
                        connection.terminate()
            await asyncio.sleep(RETRY_S)
