"""The consumer kit can be installed alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from tests.support.paths import ROOT

BUILD = "from setuptools.build_meta import build_wheel; build_wheel('..')"
IMPORT = "import orderly_consumer as kit, sys; print(kit.__file__, 'asyncpg' in sys.modules)"


def python(program: str, folder: Path, path: str = "") -> str:
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return run.stdout


def test_package_is_built_and_imported_without_orderly(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "orderly_consumer", source)  # A build leaves files beside its source.
    python(BUILD, source)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        required = [
            line.partition(": ")[2]
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist")
        ]
        modules = {name for name in archive.namelist() if name.endswith((".py", ".typed"))}
    assert required == ["httpx", "pydantic>=2.7", 'asyncpg; extra == "postgres"']
    folder = ROOT / "orderly_consumer"
    files = [*folder.glob("*.py"), folder / "py.typed"]
    assert modules == {f"orderly_consumer/{file.name}" for file in files}
    location, has_asyncpg = python(IMPORT, tmp_path, str(wheel)).split()
    assert location == str(wheel / "orderly_consumer" / "__init__.py")
    assert has_asyncpg == "False"
