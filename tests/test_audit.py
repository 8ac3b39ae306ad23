"""The audit of dependencies says what is known, and never that all is well where nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from requirements.audit import verdict
from tests.test_cli import run

SOUND: dict[str, Any] = {"name": "sound", "version": "1.0", "vulns": []}
KNOWN = {"id": "CVE-2026-1", "fix_versions": ["1.1"]}
BROKEN = {"name": "broken", "version": "1.0", "vulns": [KNOWN, {"id": "X-2", "fix_versions": []}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


def test_nothing_is_known() -> None:
    assert verdict({"dependencies": [SOUND]}) == (0, ["1 packages, 0 known vulnerabilities"])


def test_what_is_known_is_named_with_what_mends_it() -> None:
    code, lines = verdict({"dependencies": [SOUND, BROKEN]})
    assert (code, lines[:2]) == (
        1,
        ["broken 1.0: CVE-2026-1, mended in 1.1", "broken 1.0: X-2, mended in no version yet"],
    )


def test_a_package_that_is_passed_over_is_a_failure() -> None:
    code, lines = verdict({"dependencies": [SOUND, UNKNOWN]})
    assert code == 2
    assert "answered for 1 of 2 packages" in lines[-1]


def test_where_the_service_cannot_be_reached_it_says_so_and_fails(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    nowhere |= {name.lower(): address for name, address in nowhere.items()}
    known_before = {"XDG_CACHE_HOME": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
    audit = run("requirements/audit.py", **nowhere, **known_before)
    assert (audit.returncode, audit.stdout) == (2, "")
    assert audit.stderr.startswith("make audit: the vulnerability service answered for nothing (")
    assert audit.stderr.count("\n") == 1
