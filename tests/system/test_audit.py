"""`make audit` reports known vulnerabilities, and fails if a package was not looked up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request

from requirements.audit import LOCKS, verdict
from tests.support.processes import run_python
from tests.support.servers import serving

SOUND: dict[str, Any] = {"name": "sound", "version": "1.0", "vulns": []}
KNOWN = {"id": "CVE-2026-1", "fix_versions": ["1.1"]}
BROKEN = {"name": "broken", "version": "1.0", "vulns": [KNOWN, {"id": "X-2", "fix_versions": []}]}
UNKNOWN = {"name": "unknown", "skip_reason": "not found"}


def test_no_vulnerability_is_known() -> None:
    assert verdict({"dependencies": [SOUND]}) == (0, ["1 packages, 0 known vulnerabilities"])


def test_known_vulnerability_is_reported_with_the_fixed_version() -> None:
    code, lines = verdict({"dependencies": [SOUND, BROKEN]})
    assert (code, lines[:2]) == (
        1,
        ["broken 1.0: CVE-2026-1, fixed in 1.1", "broken 1.0: X-2, fixed in no version yet"],
    )


def test_skipped_package_is_a_failure() -> None:
    code, lines = verdict({"dependencies": [SOUND, UNKNOWN]})
    assert code == 2
    assert "answered for 1 of 2 packages" in lines[-1]


def test_unreachable_service_is_a_failure(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    nowhere |= {name.lower(): address for name, address in nowhere.items()}
    known_before = {"XDG_CACHE_HOME": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
    audit = run_python("requirements/audit.py", **nowhere, **known_before)
    assert (audit.returncode, audit.stdout) == (2, "")
    assert audit.stderr.startswith("make audit: the vulnerability service answered for nothing (")
    assert audit.stderr.count("\n") == 1


@asynccontextmanager
async def advisories(known: dict[str, Any]) -> AsyncIterator[tuple[str, set[str]]]:
    """A service with these advisories by package; yields its URL, and the queried packages."""
    app, queried = FastAPI(), set[str]()

    @app.post("/")
    async def query(request: Request) -> dict[str, Any]:
        name = (await request.json())["package"]["name"]
        queried.add(name)
        return {"vulns": [known[name]]} if name in known else {}

    async with serving(app) as http:
        yield str(http.base_url), queried


FLAW = {
    "id": "PYSEC-2026-1",
    "affected": [
        {
            "package": {"name": "fastapi", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "9999.0"}]}],
        }
    ],
}


@pytest.mark.parametrize(
    ("known", "code"), [({"fastapi": FLAW}, 1), pytest.param({}, 0, marks=pytest.mark.soak)]
)
async def test_every_locked_package_is_looked_up(
    known: dict[str, Any], code: int, tmp_path: Path
) -> None:
    """Runs the audit against an OSV service of the test."""
    text = "\n".join(lock.read_text() for lock in LOCKS)
    locked = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==([^ ;]+)", text, re.MULTILINE))
    assert len(locked) > 30
    async with advisories(known) as (url, queried):
        service = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url}
        audit = await asyncio.to_thread(
            run_python, "requirements/audit.py", XDG_CACHE_HOME=str(tmp_path), **service
        )
    assert audit.returncode == code, audit.stderr
    lines = (audit.stdout or audit.stderr).splitlines()
    assert lines[-1] == f"{len(queried)} packages, {code} known vulnerabilities"
    finding = f"fastapi {locked['fastapi']}: PYSEC-2026-1, fixed in 9999.0"
    assert lines[:-1] == [finding] * code
    # Some packages are for other platforms only.
    assert queried <= locked.keys()
    assert len(queried) > len(locked) * 0.8
