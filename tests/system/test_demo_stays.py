"""`orderly demo` on a terminal stays, with orders that wait, until Ctrl-C ends all of it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from rich.console import Console

from dev.api_client import ApiClient
from dev.demo import leaving
from dev.demo.leaving import ORDERS
from dev.demo.reconciliation import Reconciler
from dev.simulator_client import SimulatorClient
from tests.support.paths import ROOT
from tests.support.processes import environment
from tests.support.servers import Running

SECONDS_MAX = 240
CTRL_C = b"\x03"
STAYS = "Ctrl-C stops it and deletes its data."


class Terminal:
    """A terminal, and the command that is in its foreground."""

    def __init__(self, *command: str, folder: Path) -> None:
        self._end, theirs = pty.openpty()
        self.output = ""
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env=environment(CI="", TMPDIR=str(folder), COLUMNS="200"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._end)

    def type(self, keys: bytes) -> None:
        os.write(self._end, keys)

    def read_until(self, text: str | None) -> None:
        """Reads until the text comes; None: until the command has ended."""
        deadline = time.monotonic() + SECONDS_MAX
        while text is None or text not in self.output:
            assert time.monotonic() < deadline, self.output
            if not select.select([self._end], [], [], 1)[0]:
                continue
            try:
                read = os.read(self._end, 65536)
            except OSError:  # The last process that could write has ended.
                read = b""
            if not read:
                assert text is None, self.output
                return
            self.output += read.decode(errors="replace")


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def terminal(folder: Path, *arguments: str) -> Iterator[Terminal]:
    """A terminal in which Python runs with these arguments."""
    opened = Terminal(sys.executable, *arguments, folder=folder)
    try:
        yield opened
    finally:
        opened.close()


# The demo with a stack of one process, which replays nothing.
SMALL = """
import asyncio, contextlib, dev.demo.replay, dev.stack, runtime
from cli.main import app

@contextlib.asynccontextmanager
async def run_stack(options, report):
    child = await asyncio.create_subprocess_exec("sleep", "600", start_new_session=True)
    try:
        yield child
    finally:
        child.terminate()
        await child.wait()

async def run(stack, baskets, *, is_kept):
    print(f"kept: {is_kept}")
    return 3

dev.stack.run_stack, dev.demo.replay.run = run_stack, run
dev.stack.ProgressDisplay.welcome = lambda _, stack, farewell: print(farewell, flush=True)
runtime.main(lambda: app(["demo"]))
"""


def test_demo_on_a_terminal_stays_and_keeps_its_exit_status(tmp_path: Path) -> None:
    with terminal(tmp_path, "-c", SMALL) as demo:
        demo.read_until(STAYS)
        assert "kept: True" in demo.output
        (child,) = psutil.Process(demo.process.pid).children()
        demo.type(CTRL_C)
        demo.read_until(None)
        assert demo.process.wait(SECONDS_MAX) == 3
    assert not is_alive(child)
    assert list(tmp_path.iterdir()) == []


async def test_orders_are_left_waiting_and_what_fails_is_named(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "ORDERS", {"held": 1, "declined-card": 1})
    reconciler = Reconciler(
        ApiClient(orderly.http), SimulatorClient(orderly.simulators), Console(quiet=True)
    )
    left = await leaving.leave_orders(reconciler)
    assert left.by_scenario == {"held": 1, "declined-card": 1}
    assert left.waits["held"] == "an operator to release it"
    assert left.problems == []

    monkeypatch.setattr(leaving, "ORDERS", {"unpaid": 1})
    async with httpx.AsyncClient(base_url="http://127.0.0.1:1") as nowhere:
        reconciler.simulators = SimulatorClient(nowhere)
        left = await leaving.leave_orders(reconciler)
    assert left.by_scenario == {}
    assert [problem.partition(":")[0] for problem in left.problems] == ["unpaid"]


@pytest.mark.soak
def test_demo_stays_with_orders_that_wait_until_ctrl_c(tmp_path: Path) -> None:
    with terminal(tmp_path, "-m", "cli", "demo", "--limit", "2") as demo:
        children = look_around(demo)
        demo.type(CTRL_C)
        demo.read_until(None)
        assert demo.process.wait(SECONDS_MAX) == 0
    assert [child for child in children if is_alive(child)] == []
    assert list(tmp_path.iterdir()) == [], demo.output


def look_around(demo: Terminal) -> list[psutil.Process]:
    """Checks what the demo leaves, and returns its processes."""
    demo.read_until(STAYS)
    children: list[psutil.Process] = psutil.Process(demo.process.pid).children(recursive=True)
    assert len(children) >= 7
    assert "2 baskets replayed, every cent and piece accounted for" in demo.output

    assert f"{sum(ORDERS.values())} orders more left waiting" in demo.output
    assert "not left waiting" not in demo.output
    last_part = demo.output[demo.output.rindex("Console ") :]
    console = re.match(r"Console +(http://\S+)/console/", last_part)
    assert console is not None
    inbox = httpx.get(f"{console[1]}/v1/inbox", timeout=60).json()
    waiting = Counter[str]()
    for group in inbox["groups"]:
        waiting[group["kind"]] += group["orders"]
    assert waiting == {
        "unpaid": ORDERS["unpaid"],
        "chargeback": ORDERS["chargeback"],
        "stuck-step": ORDERS["stuck-step"],
        # Those that are unpaid wait for the customer, too.
        "awaits-payment": ORDERS["declined-card"] + ORDERS["unpaid"],
        "awaits-shortfall": ORDERS["shortfall"],
        "held": ORDERS["held"],
    }
    returns = httpx.get(
        f"{console[1]}/v1/orders", params={"return_status": "requested"}, timeout=60
    ).json()
    assert len(returns["items"]) == ORDERS["return"]
    history = re.search(r"curl (http://\S+/history)", demo.output)
    assert history is not None
    events = [event["type"] for event in httpx.get(history[1], timeout=60).json()["items"]]
    assert events[0] == "order-opened"
    assert "order-confirmed" in events
    return children
