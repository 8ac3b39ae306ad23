"""JSON documents of contracts: their references, and their files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

EXIT_BREAKING = 2


def resolved(value: Json, document: Json) -> Json:
    """The target of a reference such as "#/components/responses/Conflict"; else the value."""
    if "$ref" not in value:
        return value
    found: Any = document
    for key in value["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return dict(found)


def text(document: Json) -> str:
    """A document as it is written to its file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def update(
    file: Path, new: Json, breaking: Callable[[Json, Json], list[str]], way_out: str
) -> None:
    """Writes a document, or prints each breaking change with the way out, and exits."""
    old = json.loads(file.read_text()) if file.exists() else new
    exit_if_breaking([f"{change}. {way_out}" for change in breaking(old, new)])
    file.write_text(text(new))


def exit_if_breaking(sentences: Sequence[str]) -> None:
    """Prints the sentences and exits, if there are any."""
    if sentences:
        print(*sentences, sep="\n", file=sys.stderr)
        sys.exit(EXIT_BREAKING)
