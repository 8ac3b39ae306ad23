"""Imports go one way: the contracts in pyproject.toml hold."""

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT


def test_imports_go_one_way() -> None:
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
