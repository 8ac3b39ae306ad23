"""What a failed start of the stack says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.stack.stack import failed_start
from dev.stack.supervisor import Program
from workflows.restore_guard import RestoreNoticed

HINT = "`orderly up --servers-only` starts Postgres and Temporal for it."


@pytest.mark.parametrize(
    ("reason", "last"),
    [
        (f"orderly: {RestoreNoticed('Postgres was restored')}", HINT),
        ("orderly: Something else.", "orderly: Something else."),
    ],
)
def test_failed_start_after_a_restore_names_what_to_run(
    tmp_path: Path, reason: str, last: str
) -> None:
    log = tmp_path / "worker.log"
    log.write_text(f"begins\n{reason}\n")
    error = failed_start(Program("worker", [], log, {}), "ended with exit code 1")

    first, *lines = str(error).splitlines()
    assert first == f"worker ended with exit code 1. The end of {log}:"
    assert [line.strip() for line in lines][:2] == ["begins", reason]
    assert lines[-1].strip() == last
