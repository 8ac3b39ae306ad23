"""Whether a backup is intact: its own manifest, and that of Postgres, against its files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path

from pydantic import ValidationError

from cli.backup_files import MANIFEST, POSTGRES, Manifest, sha256_of
from cli.postgres_programs import BackupError, find_program, run_program
from runtime import EXIT_USAGE


async def read_backup(folder: Path) -> Manifest:
    """What a backup has; raises BackupError if it is none, or is not as it was written."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        reason = error.strerror or str(error)
        raise BackupError(
            f"{folder} is no whole backup: {MANIFEST} cannot be read ({reason}).", EXIT_USAGE
        ) from error
    except ValidationError as error:
        raise _damaged(folder, MANIFEST) from error
    await verify_postgres(folder, manifest.postgres_version)
    for name, sha256 in manifest.files.items():
        await _verify_file(folder, name, sha256)
    return manifest


async def verify_postgres(folder: Path, postgres_version: int) -> None:
    """Compares Postgres' files with their manifest, and reads the WAL; raises BackupError."""
    try:
        text = (folder / POSTGRES / "backup_manifest").read_bytes()
        manifest = json.loads(text)
        is_intact = _manifest_checksum(text) == manifest["Manifest-Checksum"]
    except (OSError, ValueError, KeyError):
        is_intact = False
    if not is_intact:
        raise _damaged(folder, "the manifest of Postgres")
    for entry in manifest["Files"]:
        name = entry.get("Path") or os.fsdecode(bytes.fromhex(entry["Encoded-Path"]))
        await _verify_file(folder, f"{POSTGRES}/{name}", entry["Checksum"])
    for wal in manifest["WAL-Ranges"]:
        try:
            await run_program(
                *(find_program("pg_waldump", postgres_version), "--quiet"),
                *("--path", folder / POSTGRES / "pg_wal", "--timeline", str(wal["Timeline"])),
                *("--start", wal["Start-LSN"], "--end", wal["End-LSN"]),
            )
        except BackupError as error:
            raise BackupError(f"{folder} is damaged: {error}", error.exit_code) from error


def _manifest_checksum(text: bytes) -> str:
    """The checksum that a manifest must name in its last line: that of all lines before."""
    return hashlib.sha256(text[: text.rindex(b"\n", 0, -1) + 1]).hexdigest()


async def _verify_file(folder: Path, name: str, sha256: str) -> None:
    try:
        is_intact = await asyncio.to_thread(sha256_of, folder / name) == sha256
    except OSError:
        is_intact = False
    if not is_intact:
        raise _damaged(folder, name)


def _damaged(folder: Path, what: str) -> BackupError:
    return BackupError(f"{folder} is damaged: {what} is missing, or not as it was written.")
