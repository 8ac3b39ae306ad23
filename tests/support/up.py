"""`orderly up` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

from dev.stack.programs import Addresses
from tests.support.histories import assert_stack_replays
from tests.support.paths import ROOT

WAIT_SECONDS = 60


class Up:
    """One `orderly up`, on free ports."""

    def __init__(self, folder: Path, *options: str, root: Path = ROOT) -> None:
        folder.mkdir(exist_ok=True)
        self.data_dir = folder / "data"
        self.info_file = folder / "info.json"
        self._output = folder / "output"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                orderly_up(self.data_dir, "--info-file", str(self.info_file), *options),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=root,
            )

    def __enter__(self) -> Up:
        try:
            return self.ready()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end()

    def ready(self) -> Up:
        until(lambda: self.info_file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.output
        return self

    @property
    def info(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.info_file.read_text())
        return found

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = self.info["pids"]
        return pids

    @property
    def output(self) -> str:
        return self._output.read_text()

    def assert_replays(self) -> None:
        """Every history replays that this stack, and earlier ones in its directory, left."""
        stack = Addresses(**{part.name: self.info[part.name] for part in fields(Addresses)})
        with ThreadPoolExecutor(1) as thread:  # This one has the event loop of other tests.
            thread.submit(asyncio.run, assert_stack_replays(stack)).result()

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(WAIT_SECONDS)


def orderly_up(data_dir: Path, *options: str) -> list[str]:
    ports = ["--api-port", "0", "--temporal-port", "0", "--ui-port", "0"]
    return [sys.executable, "-m", "cli", "up", "--data-dir", str(data_dir), *ports, *options]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "this takes too long"
        time.sleep(0.05)
