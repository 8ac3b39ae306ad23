"""Writes contracts/openapi.json from the code: `make openapi`.

A change that would break clients of the existing document is rejected, and nothing is written.
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
EXIT_BREAKING = 2


def document() -> dict[str, Any]:
    """The current document; it needs no server."""
    return create_app(Settings(postgres_dsn="postgresql://unused"), cast(Client, None)).openapi()


def text(document: dict[str, Any]) -> str:
    """The document as it is written to its file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def write(file: Path = FILE) -> None:
    """Updates the file, unless that would break clients."""
    new = document()
    old = json.loads(file.read_text()) if file.exists() else new
    if changes := breaking_changes(old, new):
        for change in changes:
            print(
                f"{change}. This breaks clients: restore it, or add a new path beside the old one.",
                file=sys.stderr,
            )
        sys.exit(EXIT_BREAKING)
    file.write_text(text(new))


if __name__ == "__main__":
    write()
