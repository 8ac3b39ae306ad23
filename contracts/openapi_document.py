"""Writes contracts/openapi.json from the code: `make openapi`.

A change that would break clients of the existing document is rejected, and nothing is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from temporalio.client import Client

from api.app import create_app
from contracts.documents import update
from contracts.openapi_diff import breaking_changes
from settings import Settings

FILE = Path(__file__).with_name("openapi.json")
WAY_OUT = "This breaks clients: restore it, or add a new path beside the old one."


def document() -> dict[str, Any]:
    """The current document; it needs no server."""
    return create_app(Settings(postgres_dsn="postgresql://unused"), cast(Client, None)).openapi()


def write(file: Path = FILE) -> None:
    """Updates the file, unless that would break clients."""
    update(file, document(), breaking_changes, WAY_OUT)


if __name__ == "__main__":
    write()
