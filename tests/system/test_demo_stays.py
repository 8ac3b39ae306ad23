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
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from dev.demo.leaving import ORDERS
from tests.support.paths import ROOT
from tests.support.processes import environment

pytestmark = pytest.mark.xdist_group("stack")  # It is as large as the stack of those tests.

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


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(sys.executable, "-m", "cli", "demo", "--limit", "5", folder=tmp_path)
    try:
        yield terminal
    finally:
        terminal.close()


def test_demo_stays_with_orders_that_wait_until_ctrl_c(demo: Terminal, tmp_path: Path) -> None:
    demo.read_until(STAYS)
    children = psutil.Process(demo.process.pid).children(recursive=True)
    assert len(children) >= 7
    assert "5 baskets replayed, every cent and piece accounted for" in demo.output

    assert f"{sum(ORDERS.values())} orders more left waiting" in demo.output
    assert "not left waiting" not in demo.output
    last_part = demo.output[demo.output.rindex("Console ") :]
    console = re.match(r"Console +(http://\S+)/console/", last_part)
    assert console is not None
    inbox = httpx.get(f"{console[1]}/v1/inbox").json()
    waiting = {group["kind"]: group["orders"] for group in inbox["groups"]}
    assert waiting == {
        "unpaid": ORDERS["unpaid"],
        "chargeback": ORDERS["chargeback"],
        "stuck-step": ORDERS["stuck-step"],
        # Those that are unpaid wait for the customer, too.
        "awaits-payment": ORDERS["declined-card"] + ORDERS["unpaid"],
        "awaits-shortfall": ORDERS["shortfall"],
        "held": ORDERS["held"],
    }
    returns = httpx.get(f"{console[1]}/v1/orders", params={"return_status": "requested"}).json()
    assert len(returns["items"]) == ORDERS["return"]
    history = re.search(r"curl (http://\S+/history)", demo.output)
    assert history is not None
    events = [event["type"] for event in httpx.get(history[1]).json()["items"]]
    assert events[0] == "order-opened"
    assert "order-confirmed" in events

    demo.type(CTRL_C)
    demo.read_until(None)
    assert demo.process.wait(SECONDS_MAX) == 0
    assert [child for child in children if is_alive(child)] == []
    assert list(tmp_path.iterdir()) == []
