"""Looks up known vulnerabilities of all locked packages: `make audit`. It needs the network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = [Path(__file__).with_name(f"{name}.txt") for name in ("runtime", "dev")]
OPTIONS = ("--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json")


def main() -> int:
    locks = [word for lock in LOCKS for word in ("--requirement", str(lock))]
    command = [sys.executable, "-m", "pip_audit", *OPTIONS, *locks]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(run.stdout)
    except ValueError:  # pip-audit failed with a traceback, whose last line begins with the error.
        code, lines = 2, [_unanswered("nothing", run.stderr.rstrip().rpartition("\n")[2])]
    else:
        code, lines = verdict(report)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


def verdict(report: dict[str, Any]) -> tuple[int, list[str]]:
    """Exit code and lines: 0 without vulnerabilities, 1 with some, 2 if packages were skipped.

    pip-audit itself succeeds when it skips packages.
    """
    packages = report["dependencies"]
    answered = [package for package in packages if "skip_reason" not in package]
    lines = [
        f"{package['name']} {package['version']}: {known['id']},"
        f" fixed in {', '.join(known['fix_versions']) or 'no version yet'}"
        for package in answered
        for known in package["vulns"]
    ]
    if len(answered) < len(packages):
        return 2, [*lines, _unanswered(f"{len(answered)} of {len(packages)} packages")]
    summary = f"{len(packages)} packages, {len(lines)} known vulnerabilities"
    return (1 if lines else 0), [*lines, summary]


def _unanswered(what: str, error: str = "") -> str:
    why = f" ({error.partition(':')[0]})" if error else ""
    return (
        f"make audit: the vulnerability service answered for {what}{why}; repeat it where the "
        "service can be reached."
    )


if __name__ == "__main__":
    sys.exit(main())
