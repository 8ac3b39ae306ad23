"""Two embedded stacks to be compared, the second without a part of orderly."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from dev.bench import machine
from dev.bench.load_generator import ReadCpu, Round, fill_orders
from dev.bench.orderly_api import OrderlySystem, orderly_system
from dev.stack import Stack, StackOptions, programs, run_stack


@dataclass(frozen=True)
class Loaded:
    """A stack, the clients that load it, and the processor time of its processes."""

    stack: Stack
    system: OrderlySystem
    cpu: ReadCpu

    async def fill(self, orders: int) -> Round:
        """Sends COMMANDS_PER_ORDER commands, one after the other, to each of new orders."""
        return await fill_orders(self.system, orders, self.cpu)


@asynccontextmanager
async def two_stacks(
    without: Path | None, clients: int, console: Console
) -> AsyncIterator[tuple[Loaded, Loaded]]:
    """A stack, and one whose processes begin with the sitecustomize module in `without`.

    None: the second is like the first.
    """
    console.print("starting two embedded stacks …")
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        async with run_stack(StackOptions(Path(one), 0, 0, 0)) as whole:
            roots = [without, programs.ROOT] if without else [programs.ROOT]
            with patch.object(programs, "ROOT", ":".join(map(str, roots))):
                async with (
                    run_stack(StackOptions(Path(other), 0, 0, 0)) as bare,
                    orderly_system(whole, clients) as first,
                    orderly_system(bare, clients) as second,
                ):
                    yield _loaded(whole, first), _loaded(bare, second)


def _loaded(stack: Stack, system: OrderlySystem) -> Loaded:
    return Loaded(stack, system, machine.cpu_reader(stack.pids))
