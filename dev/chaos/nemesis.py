"""The nemesis: kills and pauses processes, and does harm to Postgres and to connections."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

import asyncpg
import httpx

from dev.chaos.workload import Load
from dev.stack import Stack
from dev.stack.programs import Addresses
from dev.tcp_proxy import TcpProxy, through, unix_socket

PROCESSES = ("worker", "api", "projector", "postgres", "temporal", "simulators")
TABLES = ("order_events", "projection_checkpoints", "customer_keys", "order_view.orders")
SERVERS = ("postgres", "temporal")
"""What the nemesis can reach by a proxy, between the server and API, worker and projector."""
PAUSE_S = (1.0, 4.0)
LONG_PAUSE_S = (5.0, 25.0)
GAP_S = (0.2, 1.0)
LONG_GAP_S = (1.0, 5.0)
DELAY_S = 0.3
PROBE_S_MAX = 5.0
RECOVERY_S_MAX = 60.0  # Temporal's client finds a half-open connection after 45.
RETRY_S = 0.1
OTHER_CLIENTS = "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
UNREACHABLE = (
    *(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError),
    asyncpg.InternalClientError,  # The server has closed the connection.
)


class Fault(NamedTuple):
    """One harm; `seconds` is how long it lasts, if it lasts."""

    kind: str
    target: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" + (f" {self.seconds:.1f} s" if self.seconds else "")


class Step(NamedTuple):
    """Faults at the same time; then whether to wait until all is served again, and a gap."""

    faults: tuple[Fault, ...]
    waits: bool
    gap_s: float


@dataclass
class Strike:
    """A fault that was done.

    `recovery_s` is from its end, and that of others at the same time, until all is served again;
    None if the next one came at once.
    """

    fault: Fault
    recovery_s: float | None = None
    began_s: float = field(default_factory=time.monotonic)


def schedule(seed: int, is_long: bool = False) -> Iterator[Step]:
    """The steps, for ever; the same for the same arguments. Each round has every fault once.

    Some happen together. Long schedules have longer faults, and more of them together.
    """
    dice = Random(seed)
    lasting, gap = (LONG_PAUSE_S, LONG_GAP_S) if is_long else (PAUSE_S, GAP_S)
    together = (1, 1, 2, 3) if is_long else (1, 1, 2)
    while True:
        faults = _round(dice, lasting)
        dice.shuffle(faults)
        while faults:
            number = dice.choice(together)
            taken, faults = tuple(faults[:number]), faults[number:]
            yield Step(taken, dice.random() < 0.7, dice.uniform(*gap))


def _round(dice: Random, lasting: tuple[float, float]) -> list[Fault]:
    kills = [Fault("kill", name) for name in PROCESSES]
    harms = [
        *(("pause", name) for name in (*PROCESSES, "one backend")),
        ("lock", dice.choice(TABLES)),
        ("lock", dice.choice(TABLES)),
        *((kind, "postgres") for kind in ("read-only", "exhaust", "terminate")),
        *((kind, server) for kind in ("half-open", "cut", "delay") for server in SERVERS),
    ]
    once = ("half-open", "cut")
    return kills + [
        Fault(kind, target, 0.0 if kind in once else dice.uniform(*lasting))
        for kind, target in harms
    ]


@dataclass
class Proxies:
    """The proxies in front of the servers, by name."""

    by_server: dict[str, TcpProxy] = field(default_factory=dict)

    @asynccontextmanager
    async def reroute(self, stack: Addresses) -> AsyncIterator[Addresses]:
        """Yields the addresses that lead through the proxies."""
        host, port = stack.temporal_address.split(":")
        postgres = TcpProxy(unix_socket(stack.postgres_dsn))
        temporal = TcpProxy((host, int(port)))
        async with postgres.listening(), temporal.listening():
            self.by_server = {"postgres": postgres, "temporal": temporal}
            yield replace(
                stack,
                postgres_dsn=through(postgres, stack.postgres_dsn),
                temporal_address=f"{host}:{temporal.port}",
            )


class Nemesis:
    """Does faults to a stack, undoes those that last, and measures the time to recover."""

    def __init__(self, stack: Stack, proxies: Proxies, load: Load) -> None:
        self._stack = stack
        self._proxies = proxies.by_server
        self._load = load
        self.strikes: list[Strike] = []
        self._probes = 0

    async def strike(self, steps: Iterator[Step], seconds: float) -> None:
        """Does one step after the other, until the time is over and all is served again."""
        until = time.monotonic() + seconds
        for step in steps:
            if time.monotonic() >= until:
                break
            strikes = [Strike(fault) for fault in step.faults]
            self.strikes += strikes
            await asyncio.gather(*(self.do(fault) for fault in step.faults))
            if step.waits:
                recovery_s = await self.wait_until_served()
                for strike in strikes:
                    strike.recovery_s = recovery_s
            await asyncio.sleep(step.gap_s)
        await self.wait_until_served()

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
