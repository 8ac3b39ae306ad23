"""Each advisory lock of Postgres has a key of its own."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

PACKAGES = ("eventlog", "readside", "outbound", "workflows", "privacy", "api", "cli")


def test_no_two_locks_share_a_key() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    keys = [key for file in files for key in re.findall(r"= (7_306_093_\d+)", file.read_text())]
    assert len(keys) >= 5
    assert len(set(keys)) == len(keys), sorted(keys)
