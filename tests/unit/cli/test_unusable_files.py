"""Files and folders that cannot be used: one sentence that names them, and the code 2."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client

from cli import recording
from cli.backup_check import read_backup
from cli.info_file import NoRunningStack, addresses
from cli.operations import operate
from cli.postgres_programs import BackupError
from dev.stack import ResourceInUse, StackOptions, run_stack
from tests.support.processes import UNREACHABLE_DSN, run_inside


@pytest.mark.parametrize(
    ("folder", "reason"), [("file", "File exists"), ("file/folder", "Not a directory")]
)
def test_histories_are_not_recorded_in_a_file(tmp_path: Path, folder: str, reason: str) -> None:
    (tmp_path / "file").touch()
    ended = run_inside("record", str(tmp_path / folder), ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"orderly: {tmp_path / folder} cannot be written: {reason}.\n"


async def test_history_that_cannot_be_written_is_no_fault_of_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def listed(*_: object, **__: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(id="ord_1", to_json=lambda: "{}")

    monkeypatch.setattr(recording, "runs_of", listed)
    client = cast(Client, SimpleNamespace(list_workflows=listed))
    gone = tmp_path / "gone"
    with pytest.raises(SystemExit) as ended:
        _ = [_ async for _ in recording.record(client, "orders", 1, gone)]
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"orderly: {gone} cannot be written: No such file or directory.\n"
    )


def test_file_that_cannot_be_used_is_no_fault_of_postgres(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def read(_: str) -> None:
        tmp_path.read_text()

    with pytest.raises(SystemExit) as ended:
        operate(read, UNREACHABLE_DSN)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"orderly: {tmp_path} cannot be used: Is a directory.\n"


async def test_manifest_of_a_backup_that_is_no_text_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "backup.json").write_bytes(b"\xff")
    with pytest.raises(BackupError, match=r"is damaged: backup\.json is missing, or not"):
        await read_backup(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
def test_other_json_names_no_running_stack(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(NoRunningStack, match=r"other\.json names no running stack"):
        addresses(file)


@pytest.mark.parametrize("name", [".", "no/where.json"])
async def test_stack_does_not_start_if_its_info_file_cannot_be_written(
    tmp_path: Path, name: str
) -> None:
    data = tmp_path / "data"
    with pytest.raises(ResourceInUse, match="cannot be written: name a file in another"):
        async with run_stack(StackOptions(data, 0, 0, 0, info_file=tmp_path / name)):
            pass
    assert not data.exists()
