"""TypeScript clients of the API: generated from openapi.json, and compiled with the first order."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from contracts import openapi_document as openapi
from tests.support.paths import ROOT

FOLDER = openapi.FILE.parent / "typescript" / "api"
SOURCE = (FOLDER / "first_order.ts").read_text()


def test_first_order_is_that_of_the_readme() -> None:
    quoted = re.search(r"-d '(\{.*?\})'", (ROOT / "README.md").read_text(), re.DOTALL)
    written = re.search(r"order: NewOrder = (\{.*?\n\});?", SOURCE, re.DOTALL)
    assert quoted is not None and written is not None
    keys_quoted = re.sub(r"(\w+): ", r'"\1": ', written[1].replace(": BAGELS", "§"))
    as_json = re.sub(r",\s*\}", "}", keys_quoted).replace("§", ": BAGELS")
    assert json.loads(as_json) == json.loads(quoted[1])


@pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").exists(),
    reason="needs Node.js, and the generators, which `make typescript` installs",
)
def test_generators_run_and_the_first_order_compiles() -> None:
    for script in ("generate", "check"):
        ran = subprocess.run(
            ["npm", "run", "--silent", script],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
