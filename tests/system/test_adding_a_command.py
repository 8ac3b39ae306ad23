"""The edits of docs/adding-a-command.md add a command that works."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "adding-a-command.md").read_text()
INSERTION = re.compile(r"In\s`(\S+)`, before `([^`]+)`\n\n```python\n(.*?)```", re.DOTALL)
NEW_FILE = re.compile(r"In `(\S+)`:\n\n```python\n(.*?)```", re.DOTALL)


async def test_four_edits_add_a_command_with_its_route_and_permission(tmp_path: Path) -> None:
    copy = tmp_path / "orderly"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*"))
    insertions, new_files = INSERTION.findall(PAGE), NEW_FILE.findall(PAGE)
    assert len(insertions) == 4
    for name, line, code in insertions:
        insert(copy / name, line, code)
    for name, code in new_files:
        (copy / name).write_text(code)

    tests = [name for name, _ in new_files]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests),
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert "5 passed" in output.decode()


def insert(file: Path, line: str, code: str) -> None:
    """Puts code before a line that occurs once."""
    text = file.read_text()
    assert text.count(f"\n{line}\n") == 1, f"{file.name} has no single line {line!r}"
    file.write_text(text.replace(f"\n{line}\n", f"\n{code}{line}\n"))
