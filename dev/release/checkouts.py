"""Other versions of orderly: their checkouts, and processes that run their code."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dev.child_process import communicate

ROOT = Path(__file__).parents[2]
PARTS = (
    "contracts/stored_shapes.json",
    "dev/release/past.py",
    "tests/support/golden_histories/[0-9]*/*.json",
)
"""What every version has that can be checked."""
LOCKS = ("requirements/runtime.txt", "requirements/dev.txt")


class CheckoutError(Exception):
    """A version that cannot be run; a sentence says why."""


@contextmanager
def checkout_of(version: str) -> Iterator[Path]:
    """The folder that `version` names, or a worktree of the tag or commit; raises CheckoutError."""
    if not version:
        raise CheckoutError(
            "Name the version before: `make release-check FROM=…`, a tag, a commit"
            " or the folder of a checkout."
        )
    if Path(version).is_dir():
        yield _checked(Path(version).resolve(), version)
        return
    with tempfile.TemporaryDirectory(prefix="orderly-release-") as folder:
        checkout = Path(folder) / "checkout"
        _git("worktree", "add", "--quiet", "--detach", str(checkout), version)
        try:
            yield _checked(checkout, version)
        finally:
            _git("worktree", "remove", "--force", str(checkout))


def _checked(checkout: Path, version: str) -> Path:
    for part in PARTS:
        if not any(checkout.glob(part)):
            raise CheckoutError(
                f"{version} is no checkout of orderly, or is older than `make release-check`:"
                f" it has no {part}."
            )
    return checkout


def _git(*command: str) -> None:
    done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CheckoutError(f"git {' '.join(command[:2])} fails: {last_line(done.stderr)}.")


def python_of(checkout: Path) -> Path:
    """The interpreter with the packages that a version locks; raises CheckoutError.

    That of this process serves versions with the same locks. Others have been installed by
    `make install`, or are now.
    """
    if _locked(checkout) == _locked(ROOT):
        return Path(sys.executable)
    done = subprocess.run(["make", "install"], cwd=checkout, capture_output=True, check=False)
    if done.returncode != 0:
        raise CheckoutError(f"`make install` fails in {checkout}.")
    return checkout / ".venv" / "bin" / "python"


def _locked(checkout: Path) -> list[bytes]:
    return [file.read_bytes() for lock in LOCKS if (file := checkout / lock).exists()]


async def output_of(checkout: Path, module: str, *arguments: str, given: str = "") -> str:
    """What a module of a version writes, run as its own process; raises CheckoutError."""
    python = str(await asyncio.to_thread(python_of, checkout))
    code, output, errors = await run_to_end(
        *(python, "-P", "-m", module, *arguments),
        environment={**os.environ, "PYTHONPATH": str(checkout)},
        folder=checkout,
        given=given,
    )
    if code != 0:
        raise CheckoutError(f"{module} of {checkout} fails: {last_line(errors)}.")
    return output


async def run_to_end(
    *command: str | Path,
    environment: Mapping[str, str],
    folder: Path | None = None,
    given: str = "",
) -> tuple[int, str, str]:
    """Runs a program, and kills it when cancelled; its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env=environment,
    )
    output, errors = await communicate(process, given.encode())
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace"), errors.decode(errors="replace")


def last_line(text: str) -> str:
    """What a program said last, without its full stop."""
    lines = text.strip().splitlines()
    return lines[-1].rstrip(".") if lines else "it says nothing"
