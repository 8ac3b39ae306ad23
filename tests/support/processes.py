"""The `orderly` command, run as a process of its own or inside this one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from cli import main as cli
from tests.support.paths import ROOT

UNREACHABLE_DSN = "postgresql://orderly:secret@127.0.0.1:1/orderly"
UNREACHABLE_URL = "http://127.0.0.1:1"


# Of every process of a test: any free port, and logs as people read them.
OWN = {"ORDERLY_ADMIN_PORT": "0", "ORDERLY_LOG_FORMAT": "text"}


def environment(**variables: str) -> dict[str, str]:
    foreign = ("ORDERLY_", "TEMPORAL_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    return inherited | OWN | variables


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `orderly` with a command."""
    return run_python("-m", "cli", *command, **variables)


def run_inside(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `orderly` with a command that handles no signals, in this process.

    A process of its own would import for a second. Where an event loop runs, call it in a thread.
    """
    ended = CliRunner().invoke(cli.app, command, env=variables, catch_exceptions=False)
    return subprocess.CompletedProcess(command, ended.exit_code, ended.stdout, ended.stderr)


def run_python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in the root of the repository, without inherited settings."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


HANGING = """
import os, pathlib, time
pid = pathlib.Path(__file__).with_name("pid.new")
pid.write_text(str(os.getpid()))
pid.rename(pid.with_suffix(""))
time.sleep(600)
"""
"""A module whose import does not end; it writes the id of its process into the file `pid`."""


async def pid_in(folder: Path) -> int:
    """The id of the process that a hanging module beside it has begun to run in."""
    async with asyncio.timeout(60):
        while not (folder / "pid").exists():
            await asyncio.sleep(0.01)
    return int((folder / "pid").read_text())


def assert_ended(pid: int) -> None:
    """Checks that a process is gone, and kills it if it is not."""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def assert_one_sentence(text: str) -> None:
    assert text.startswith("orderly"), text
    assert text.count("\n") == 1, text
    assert text.endswith(".\n"), text


async def wait_until_alive(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(httpx.TransportError):
                if (await http.get("/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.1)
