"""A build id for versioned workers: a hash of all that decides how a history is replayed."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPLAYED = ("orders", "workflows", "eventlog/envelope.py", "eventlog/intents.py")
PACKAGES = ("temporalio", "pydantic", "pydantic-core")


def build_id() -> str:
    """Equal for two versions of the software only if they replay alike."""
    content = hashlib.sha256()
    for file in sorted(replayed_files()):
        content.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    for package in PACKAGES:
        content.update(f"{package} {version(package)}\0".encode())
    return content.hexdigest()[:12]


def replayed_files() -> list[Path]:
    """The code that decides how a history is replayed, and what stands beside it."""
    paths = [ROOT / name for name in REPLAYED]
    return [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])]
