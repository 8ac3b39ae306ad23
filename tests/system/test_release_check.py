"""`make release-check`: the next version is compared with this one, and rolled out and back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contracts.declaration import FILE
from tests.support.next_version import NEW_READ_MODEL, NEXT_VERSION, make_copy
from tests.support.paths import ROOT
from tests.support.processes import environment

NO_VERSION = "Name the version before: "
DECLARATION = 'rewrites = "Notes have a language."\nworkers = "versioned"\n'


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--from", ""), NO_VERSION),
        (("--from", "/"), "/ is no checkout of orderly, "),
        (("--from", "no-such-tag"), "git worktree add fails: "),
        (("--from", str(ROOT), "--recorded", "/no/where"), "/no/where has no recorded histories: "),
    ],
)
def test_wrong_use_is_one_sentence(options: tuple[str, ...], sentence: str) -> None:
    done = check(ROOT, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"orderly: {sentence}"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def check(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs `make release-check` of a checkout, from this one."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "dev.release", "--from", str(ROOT), *options],
        cwd=checkout,
        env=environment(PYTHONPATH=str(checkout)),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.soak  # test_release_traffic.py and test_release_comparison.py are its short siblings.
@pytest.mark.timeout(900)
def test_next_version_may_be_released_once_it_declares_what_it_rewrites(tmp_path: Path) -> None:
    copy = make_copy(tmp_path, NEXT_VERSION + NEW_READ_MODEL)
    refused = check(copy, "--no-roll")
    assert refused.returncode == 2, refused.stderr
    (sentence,) = [line for line in refused.stdout.splitlines() if not line.startswith("note: ")]
    assert sentence.startswith("past: It rewrites ")
    (copy / FILE).write_text(DECLARATION)
    released = check(copy)
    assert released.returncode == 0, released.stdout + released.stderr
    assert "declared: past: It rewrites " in released.stdout
    assert released.stdout.endswith(f"This checkout may be released after {ROOT}.\n")
