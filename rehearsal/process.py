"""Runs the rules of another checkout in a process of its own, and exchanges orders with it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from background import in_background
from rehearsal.known_types import known_types
from rehearsal.recorded import RecordedOrder

OURS = Path(__file__).parents[1]
LINE_BYTES_MAX = 256 * 2**20
ON_THE_WAY_MAX = 200
"""The number of orders that are read ahead, and in memory."""
ERROR_BYTES_MAX = 2**16
"""What is kept of standard error: its end."""

# Of ours are the rehearsal, the simulators' rules and the words for errors, which know no rule of
# an order; of the other checkout is all that they import. Lines go over duplicates of standard
# input and output, because rules may read and print: what they print goes to standard error.
_BOOT = """
import os, sys
ours, theirs = sys.argv[1:]
orders_in, outcomes_out = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
sys.stdout = sys.stderr
sys.path.insert(0, ours)
import rehearsal, field_errors, dev.simulators.fault_injection
sys.path.insert(0, theirs)
import orders
if orders.__file__ != theirs + "orders/__init__.py":
    sys.exit("it has no package `orders`")
from rehearsal.child import main
main(orders_in, outcomes_out)
"""

Json = dict[str, Any]


class CheckoutError(Exception):
    """A checkout whose rules cannot be run; a sentence says why."""


class Rules:
    """The rules of a checkout, in a process that has begun."""

    def __init__(self, directory: Path, process: asyncio.subprocess.Process) -> None:
        self.cpu_seconds = 0.0
        self.types = known_types()
        """Those of events and commands in its rules or in ours: both may be in the log."""
        self._directory = directory
        self._process = process
        self._errors = b""
        # All the time: a process that prints more than a pipe holds would wait for a reader.
        self._reading_errors = asyncio.ensure_future(self._read_errors())

    @classmethod
    async def start(cls, directory: Path) -> Rules:
        """Raises CheckoutError if the directory has no rules that can be imported."""
        theirs = directory.resolve()
        if not theirs.is_dir():
            raise CheckoutError(f"{directory} is not a directory: name a checkout of orderly.")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", _BOOT, str(OURS), f"{theirs}/"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            cwd=theirs,
        )
        rules = cls(directory, process)
        assert process.stdout is not None
        try:
            if not (line := await process.stdout.readline()):
                raise await rules._failure("does not import")
            rules.types = rules.types.with_those_in(line)
        except BaseException:
            await rules.stop()
            raise
        return rules

    @property
    def pid(self) -> int:
        """The id of the process that decides."""
        return self._process.pid

    async def rehearse(
        self, orders: AsyncIterator[RecordedOrder], until: datetime
    ) -> AsyncIterator[tuple[RecordedOrder, Json]]:
        """Each order with its outcome, in order; raises CheckoutError if the process dies."""
        waiting = asyncio.Queue[RecordedOrder | None](ON_THE_WAY_MAX)
        try:
            async with in_background(self._send(orders, until, waiting)) as sending:
                while (order := await waiting.get()) is not None:
                    yield order, await self._receive()
                await sending
                self.cpu_seconds = (await self._receive())["cpu_seconds"]
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Ends the process; again, does nothing."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._reading_errors
        await self._process.communicate()

    async def _send(
        self,
        orders: AsyncIterator[RecordedOrder],
        until: datetime,
        waiting: asyncio.Queue[RecordedOrder | None],
    ) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        failure: Exception | None = None
        try:
            async for order in orders:
                await waiting.put(order)
                with suppress(ConnectionError):  # The reader notices, and knows more.
                    pipe.write(order.line(until))
                    await pipe.drain()
        except Exception as error:
            failure = error
        pipe.close()
        await waiting.put(None)
        if failure is not None:
            raise failure

    async def _receive(self) -> Json:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise await self._failure("stopped")
        outcome: Json = json.loads(line)
        return outcome

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        while text := await self._process.stderr.read(ERROR_BYTES_MAX):
            self._errors = (self._errors + text)[-ERROR_BYTES_MAX:]

    async def _failure(self, what: str) -> CheckoutError:
        await self._reading_errors
        await self._process.wait()
        text = self._errors.decode(errors="replace").strip()
        last = (text or "it says nothing").splitlines()[-1]
        return CheckoutError(f"The checkout {self._directory} {what}: {last.rstrip('.')}.")
