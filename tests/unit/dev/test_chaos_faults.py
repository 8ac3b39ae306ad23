"""Clocks of other processes jump and come back; a disk of its own is full, and free again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dev.chaos.clocks import Clocks
from tests.support.paths import ROOT

TOLERANCE_S = 600.0
TELL_TIME = """
import sys, time
from datetime import UTC, datetime
for line in sys.stdin:
    print(time.time(), datetime.now(UTC).timestamp(), time.monotonic(), flush=True)
"""


def test_wall_clock_of_a_running_process_jumps_and_its_monotonic_one_does_not(
    tmp_path: Path,
) -> None:
    try:
        clocks = Clocks(tmp_path / "clocks")
    except OSError as error:
        pytest.skip(f"clocks cannot be shifted here: {error}")
    environment = os.environ | clocks.environments()["worker"]
    with subprocess.Popen(
        [sys.executable, "-c", TELL_TIME],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for shift_s in (0, 40 * 24 * 3600, -7200, 0):
            clocks.shift("worker", shift_s)
            clocks.shift("api", 3600)
            process.stdin.write("\n")
            process.stdin.flush()
            wall, utc, monotonic = map(float, process.stdout.readline().split())
            assert abs(wall - time.time() - shift_s) < TOLERANCE_S
            assert abs(utc - time.time() - shift_s) < TOLERANCE_S
            assert abs(monotonic - time.monotonic()) < TOLERANCE_S
        process.stdin.close()


FILL_A_DISK = """
import sys
from pathlib import Path
from dev.chaos.small_disk import small_disk

folder = Path(sys.argv[1])
try:
    mounting = small_disk(folder, 2 * 1024 * 1024)
    disk = mounting.__enter__()
except OSError as error:
    sys.exit(f"{error}")
(folder / "before").write_bytes(b"kept")
disk.fill()
try:
    (folder / "during").write_bytes(b"lost")
    print("room")
except OSError as error:
    print(error.strerror)
disk.free()
(folder / "after").write_bytes(b"kept")
print((folder / "before").read_text(), (folder / "after").read_text())
mounting.__exit__(None, None, None)
print(list(folder.iterdir()))
"""


def test_disk_of_a_run_is_full_until_it_is_freed_and_seen_by_no_other_process(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", FILL_A_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 1 and "Traceback" not in done.stderr:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["No space left on device", "kept kept", "[]"]
    assert list(tmp_path.iterdir()) == []
