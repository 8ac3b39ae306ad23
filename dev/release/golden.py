"""Golden histories: runs of whole orders, recorded once, in folders that are numbered by epoch.

A new epoch begins with a release that decides the past otherwise on purpose. Histories of the
newest epoch replay with today's code; those of older ones only have to be readable.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

from dev.release.checkouts import CheckoutError

FOLDER = Path("tests/support/golden_histories")


def epochs(checkout: Path) -> list[Path]:
    """The folders of a checkout's golden histories, newest last."""
    numbered = [folder for folder in (checkout / FOLDER).iterdir() if folder.name.isdigit()]
    return sorted(numbered, key=lambda folder: int(folder.name))


def newest_histories(checkout: Path) -> list[Path]:
    """The files of the newest epoch."""
    return sorted(epochs(checkout)[-1].glob("*.json"))


def recorded_histories(folder: Path) -> list[Path]:
    """The files that `orderly record` wrote to a folder; raises CheckoutError."""
    # Absolute, because each version runs in its own folder.
    files = sorted(folder.resolve().glob("*.json"))
    if not files:
        raise CheckoutError(f"{folder} has no recorded histories: `orderly record` writes them.")
    for file in files:
        if not _is_recorded(file):
            raise CheckoutError(f"{file} is no history that `orderly record` has written.")
    return files


def _is_recorded(file: Path) -> bool:
    """Whether a file has the name and the content of a recorded run."""
    if not re.fullmatch(r".+-[0-9]+", file.stem):
        return False
    try:
        read_history(file)
    except Exception:  # It may have anything in it.
        return False
    return True


def read_history(file: Path) -> WorkflowHistory:
    """A recorded run."""
    history: dict[str, Any] = json.loads(file.read_text())
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], history)
