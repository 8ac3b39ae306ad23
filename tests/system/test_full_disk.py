"""A full disk shows in readiness, metrics and `status`, and so does its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SECONDS_MAX = 15.0


@pytest.mark.soak
def test_full_disk_and_its_end_show_within_15_seconds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.full_disk", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "Operation not permitted" in ended.stderr:
        pytest.skip("this user may not mount a small disk")
    assert ended.returncode == 0, ended.stderr
    took = json.loads(ended.stdout.splitlines()[-1])
    print(took)
    assert max(took["shown"].values()) < SECONDS_MAX, took
    assert max(took["well"].values()) < SECONDS_MAX, took
