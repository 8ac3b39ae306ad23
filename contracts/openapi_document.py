"""Writes docs/openapi.json, the contract of the API, from the code: `make openapi`.

What would break who calls by the document that is there already is refused, and nothing is written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from temporalio.client import Client

from api.app import create_app
from contracts.openapi_diff import breaking_changes
from settings import Settings

FILE = Path(__file__).with_name("openapi.json")
EXIT_REFUSED = 2


def document() -> dict[str, Any]:
    """Today's document; no server is asked for it."""
    return create_app(Settings(postgres_dsn="postgresql://unused"), cast(Client, None)).openapi()


def text(document: dict[str, Any]) -> str:
    """The document as its file has it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(file: Path = FILE) -> None:
    """Brings the file up to date; it stays as it is if a caller would break."""
    today = document()
    there = json.loads(file.read_text()) if file.exists() else today
    if broken := breaking_changes(there, today):
        for change in broken:
            print(
                f"{change}. This breaks those who call it: put it back, or serve the new way at a"
                " path of its own.",
                file=sys.stderr,
            )
        sys.exit(EXIT_REFUSED)
    file.write_text(text(today))


if __name__ == "__main__":
    write()
