"""Rolls a release out and back for real, under load: old → 10 % → 50 % → new → old.

Readers before writers, as docs/releasing.md has it. The processes of each version run its own code,
on one Postgres, one Temporal server and the simulators.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path

import asyncpg
import httpx
from temporalio.api.workflowservice.v1 import (
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from dev.release.checkouts import last_line, python_of, run_to_end
from dev.release.comparison import Finding
from dev.release.traffic import Traffic
from dev.stack import StackError, StackOptions, run_stack
from dev.stack.ports import LOOPBACK, free_ports
from dev.stack.programs import (
    DEPLOYMENT_NAME,
    Addresses,
    of_version,
    orderly_process,
    simulators,
    versioned,
    webhook_secret,
)
from dev.stack.readiness import Check, api_is_ready, simulators_are_ready
from dev.stack.supervisor import Program, SupervisedProcess
from workflows.versions import pinned_to

STAGE_SECONDS = 6.0
READY_SECONDS = 60.0
MOVED_SECONDS = 60.0
LISTED_SECONDS = 2.0
SETTLED_SECONDS = 60.0
LOST = re.compile(
    r"^.*?(?:dropping the signal|carries no command batch|HistoryDiverged|SnapshotLost|TMPRL1100)"
    r".{0,200}",
    re.MULTILINE,
)
"""The line of a log that tells of lost work."""
EXAMPLES_MAX = 3
EXIT_FOUND = 1
"""Of `verify`, which finds differences, and of `move-orders`, which leaves orders for now."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Version:
    """One of the two versions: its checkout, and the build id of its workers."""

    root: Path
    build_id: str


@dataclass(frozen=True)
class Release:
    """A newer version after an older one."""

    old: Version
    new: Version
    models: Sequence[str]
    """The read models with a new version."""
    is_read_back: bool
    """Whether the older version can read all events of the newer one."""


async def roll(release: Release, folder: Path, report: Report) -> list[Finding]:
    """What goes wrong. Raises CheckoutError, and StackError if a program does not start."""
    options = StackOptions(folder, 0, 0, 0, servers_only=True)
    async with run_stack(options) as servers, AsyncExitStack() as held:
        api, simulated = free_ports({"api": 0, "simulators": 0})
        addresses = replace(
            Addresses(**{part.name: getattr(servers, part.name) for part in fields(Addresses)}),
            postgres_dsn=await _database(servers.postgres_dsn),
            api_url=f"http://{LOOPBACK}:{api}",
            simulators_url=f"http://{LOOPBACK}:{simulated}",
        )
        client = await Client.connect(addresses.temporal_address)
        http = httpx.AsyncClient(
            base_url=addresses.api_url, timeout=60, verify=False, trust_env=False
        )
        traffic = Traffic(await held.enter_async_context(http))
        secret = webhook_secret(folder)
        rolling = Rolling(release, addresses, secret, client, servers.logs, traffic, held, report)
        await rolling.run()
        return list(rolling.findings())


@dataclass
class Rolling:
    """A release on its way."""

    release: Release
    addresses: Addresses
    webhook_secret: str
    """Of the simulators' callbacks."""
    client: Client
    logs: Path
    traffic: Traffic
    held: AsyncExitStack
    report: Report
    complaints: list[str] = field(default_factory=list)
    processes: dict[str, SupervisedProcess] = field(default_factory=dict)

    async def run(self) -> None:
        """Out and back, and out again if only the newer version can read what it wrote."""
        await self._begin()
        await self._forward(10, 50)
        await self._back()
        if self.release.is_read_back:
            await self._verify(self.release.old)
        else:
            await self._forward()
        await self._settle()

    async def _begin(self) -> None:
        old = self.release.old
        self.report("the old version starts")
        await self._orderly(old, "migrate")
        program = simulators(self.logs, self.logs, self.addresses, self.webhook_secret)
        await self._start(program, simulators_are_ready)
        await self._readers(old)
        await self._start(self._program(old, "worker", **versioned(old.build_id)))
        await self._route(old)
        await self._flow("old")

    async def _forward(self, *percentages: float) -> None:
        new = self.release.new
        self.report("the new readers, then the new worker")
        async with self.traffic.flowing():
            await self._orderly(new, "migrate")
            for model in self.release.models:
                await self._orderly(new, "projections", "rebuild", "--prepare", model)
            await self._readers(new)
            await self._start(self._program(new, "worker", **versioned(new.build_id)))
        for percentage in percentages:
            await self._route(new, percentage)
            await self._flow(f"{percentage:g} % new")
        await self._route(new)
        await self._flow("new")
        await self._move(self.release.old, new)
        await self._verify(new)

    async def _back(self) -> None:
        old, new = self.release.old, self.release.new
        await self._route(old)
        await self._flow("old")
        await self._move(new, old)
        async with self.traffic.flowing():
            for model in self.release.models:
                await self._orderly(old, "projections", "rollback", model)
            await self._readers(old)
        await self._flow("old, with the old readers")

    async def _flow(self, stage: str) -> None:
        self.report(stage)
        async with self.traffic.flowing():
            await asyncio.sleep(STAGE_SECONDS)

    async def _readers(self, version: Version) -> None:
        """Puts the projector and the API of a version in place of those that run."""
        for name in ("projector", "api"):
            if running := self.processes.pop(name, None):
                await running.stop()
        await self._start(self._program(version, "projector"), None)
        await self._start(
            self._program(version, "api", ORDERLY_WEBHOOK_SECRET=self.webhook_secret), api_is_ready
        )

    def _program(self, version: Version, command: str, **settings: str) -> Program:
        name = f"worker {version.build_id}" if command == "worker" else command
        program = of_version(
            orderly_process(self.addresses, self.logs, name, command, **settings), version.root
        )
        return replace(program, command=[python_of(version.root), *program.command[1:]])

    async def _start(self, program: Program, is_ready: Check | None = None) -> None:
        """Starts a program, unless it runs, and waits until it is ready."""
        if program.name in self.processes:
            return
        lock = self.logs / "lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
        self.held.callback(os.close, descriptor)
        process = self.processes[program.name] = SupervisedProcess(program, descriptor)
        await process.start()
        self.held.push_async_callback(process.stop)
        if is_ready is not None:
            await self._wait_until(partial(is_ready, self.addresses), program)

    async def _wait_until(self, is_ready: Callable[[], Awaitable[bool]], program: Program) -> None:
        """Waits for a program; raises StackError if it takes too long, or any has ended."""
        clock = asyncio.get_running_loop().time
        until = clock() + READY_SECONDS
        while not await is_ready():
            for process in self.processes.values():
                if process.exit_reason is not None:
                    raise _failed(process.program, process.exit_reason)
            if clock() > until:
                raise _failed(program, f"is not ready after {READY_SECONDS:.0f} seconds")
            await asyncio.sleep(0.1)

    async def _orderly(
        self, version: Version, *command: str, may_find: bool = False
    ) -> tuple[int, str]:
        """Runs an operator's command of a version; returns its exit code and what it prints.

        With `may_find`, EXIT_FOUND is no failure: the caller judges it.
        """
        program = orderly_process(self.addresses, self.logs, command[0], *command)
        program = of_version(program, version.root)
        code, output, errors = await run_to_end(
            *(python_of(version.root), *program.command[1:]), environment=program.environment
        )
        if code != 0 and not (may_find and code == EXIT_FOUND):
            self.complaints.append(f"`orderly {' '.join(command)}` fails: {last_line(errors)}")
        return code, output

    async def _route(self, version: Version, percentage: float | None = None) -> None:
        """Gives a version a share of the orders, or all; it is known once a worker polls."""
        worker = self.processes[f"worker {version.build_id}"].program
        await self._wait_until(partial(self._is_routed, version, percentage), worker)

    async def _is_routed(self, version: Version, percentage: float | None) -> bool:
        service, namespace = self.client.workflow_service, self.client.namespace
        current = SetWorkerDeploymentCurrentVersionRequest(
            namespace=namespace,
            deployment_name=DEPLOYMENT_NAME,
            build_id=version.build_id,
            ignore_missing_task_queues=True,  # The older version may have fewer.
        )
        ramping = SetWorkerDeploymentRampingVersionRequest(
            namespace=namespace,
            deployment_name=DEPLOYMENT_NAME,
            build_id=version.build_id,
            percentage=percentage or 0,
        )
        try:
            if percentage is None:
                await service.set_worker_deployment_current_version(current)
            else:
                await service.set_worker_deployment_ramping_version(ramping)
        except RPCError:
            return False
        return True

    async def _move(self, left: Version, to: Version) -> None:
        """Has all open orders leave a version."""
        self.report(f"orders move from {left.build_id} to {to.build_id}")
        clock = asyncio.get_running_loop().time
        until = clock() + MOVED_SECONDS
        name = f"{DEPLOYMENT_NAME}:{left.build_id}"
        while True:
            await self._orderly(to, "move-orders", "--from", left.build_id, may_find=True)
            behind = await pinned_to(self.client, self.addresses.task_queue, name)
            if not behind:  # Or visibility does not list them yet.
                await asyncio.sleep(LISTED_SECONDS)
                behind = await pinned_to(self.client, self.addresses.task_queue, name)
            if not behind:
                return
            if clock() > until:
                examples = ", ".join(behind[:EXAMPLES_MAX])
                self.complaints.append(
                    f"{len(behind)} orders stay in the version {left.build_id}, such as {examples}"
                )
                return

    async def _verify(self, version: Version) -> None:
        """Compares states, log, histories and read models, by the code of a version."""
        self.report(f"the {version.build_id} version verifies")
        await self._published()
        code, output = await self._orderly(version, "verify", "--state", may_find=True)
        if code == EXIT_FOUND:
            lines = output.strip().splitlines()
            self.complaints.append(
                f"`orderly verify --state` finds: {'; '.join(lines[:EXAMPLES_MAX])}"
            )

    async def _published(self) -> None:
        """Waits until the log has all that was acknowledged."""
        connection = await asyncpg.connect(self.addresses.postgres_dsn)
        try:
            async with asyncio.timeout(SETTLED_SECONDS):
                while await self._behind(connection):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            behind = await self._behind(connection)
            self.complaints.append(f"acknowledged events of {', '.join(behind)} are not in the log")
        finally:
            await connection.close()

    async def _behind(self, connection: asyncpg.Connection) -> list[str]:
        rows = await connection.fetch("SELECT order_id, max(version) FROM order_events GROUP BY 1")
        heads = {row[0]: row[1] for row in rows}
        return [
            key for key, version in self.traffic.versions.items() if heads.get(key, 0) < version
        ]

    async def _settle(self) -> None:
        """Waits until all asynchronous commands have come to an end."""
        clock = asyncio.get_running_loop().time
        until = clock() + SETTLED_SECONDS
        while pending := await self.traffic.unsettled():
            if clock() > until:
                self.complaints.append(
                    f"{len(pending)} asynchronous commands are pending, such as {pending[0]}"
                )
                break
            self.traffic.queued = pending
            await asyncio.sleep(0.5)
        await self._published()

    def findings(self) -> Iterator[Finding]:
        """What went wrong, each kind once."""
        for log in sorted(self.logs.glob("*.log")):
            if found := LOST.search(log.read_text(errors="replace")):
                self.complaints.append(f"the log of {log.stem} says: {found[0].strip()}")
        complaints = [*self.traffic.complaints, *self.complaints]
        for complaint in complaints[:EXAMPLES_MAX]:
            yield Finding("roll", f"{complaint.rstrip('.')}.")
        if len(complaints) > EXAMPLES_MAX:
            yield Finding("roll", f"There are {len(complaints) - EXAMPLES_MAX} more complaints.")


def _failed(program: Program, how: str) -> StackError:
    """An error that quotes the program's log, which is deleted with the folder."""
    return StackError(
        f"{program.name} {how}: {last_line(program.log.read_text(errors='replace'))}."
    )


async def _database(dsn: str) -> str:
    """A database of its own, which only the older version has migrated at first."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE DATABASE rolled")
    finally:
        await connection.close()
    return dsn.replace("/postgres?", "/rolled?")
