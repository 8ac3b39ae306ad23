"""The consumer kit can be installed alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]


def test_package_is_installed_without_orderly(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(ROOT / "orderly_consumer", source)  # A build leaves files beside its source.
    subprocess.run([*PIP, "--no-build-isolation", "--target", target, source], check=True)
    [metadata] = target.glob("orderly_consumer-*.dist-info/METADATA")
    required = [
        line.partition(": ")[2]
        for line in metadata.read_text().splitlines()
        if line.startswith("Requires-Dist")
    ]
    assert required == ["httpx", "pydantic>=2.7", 'asyncpg; extra == "postgres"']
    program = (
        "import orderly_consumer, sys; print(orderly_consumer.__file__, 'asyncpg' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [str(target / "orderly_consumer" / "__init__.py"), "False"]
    assert (target / "orderly_consumer" / "py.typed").exists()
