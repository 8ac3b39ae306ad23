"""Another version runs as a process of its own, if it has what the check needs, and may print."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dev.demo.baskets import PACKAGED_BASKETS
from dev.release import checkouts
from dev.release.check import orders_in
from dev.release.checkouts import CheckoutError, checkout_of, output_of
from dev.release.golden import newest_histories, recorded_histories
from dev.stack.programs import build_id_of
from tests.support.next_version import make_copy
from tests.support.paths import ROOT
from workflows.build_id import build_id

PARTS = (
    "contracts/stored_shapes.json",
    "dev/release/past.py",
    "tests/support/golden_histories/1/draft-0-0.json",
)
GOLDEN = newest_histories(ROOT)[0]


async def test_version_that_prints_is_read_as_any_other(tmp_path: Path) -> None:
    copy = make_copy(tmp_path, [])
    (copy / PACKAGED_BASKETS.relative_to(ROOT)).write_bytes(PACKAGED_BASKETS.read_bytes())
    (copy / "orders" / "__init__.py").write_text("print('{')\n")

    output = await output_of(copy, "dev.release.past", "3", "2")

    recorded = [json.loads(line) for line in orders_in(output).splitlines()]
    assert [each["order_id"] for each in recorded if "random" in each["order_id"]] == [
        *("ord_random_0000", "ord_random_0000_younger", "ord_random_0001", "ord_random_0002")
    ]
    assert len(recorded) == 6


async def test_build_id_of_a_version_that_prints_is_its_own(tmp_path: Path) -> None:
    copy = make_copy(tmp_path, [])
    (copy / "cli" / "__init__.py").write_text("print('starting')\n")

    assert await build_id_of(copy) == build_id()


@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "commit"])
@pytest.mark.parametrize("missing", PARTS)
def test_version_without_what_the_check_needs_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, is_folder: bool
) -> None:
    for part in ("README.md", *PARTS):
        if part != missing:
            (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / part).touch()
    monkeypatch.setattr(checkouts, "ROOT", tmp_path)
    if not is_folder:
        git(tmp_path, "init", "--quiet")
        git(tmp_path, "add", ".")
        git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "a")
    version = str(tmp_path) if is_folder else "HEAD"
    with pytest.raises(CheckoutError) as raised, checkout_of(version):
        pass
    assert str(raised.value).startswith(
        f"{version} is no checkout of orderly, or is older than `make release-check`: "
        f"it has no {missing.partition('1/')[0]}"
    )
    if not is_folder:
        assert git(tmp_path, "worktree", "list").count("\n") == 1


def git(folder: Path, *command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def test_relative_folder_of_recorded_histories_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = tmp_path / "recorded" / "ord_1-0.json"
    recorded.parent.mkdir()
    recorded.write_bytes(GOLDEN.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert recorded_histories(Path("recorded")) == [recorded]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.json", GOLDEN.read_bytes()),
        ("two-words.json", GOLDEN.read_bytes()),
        ("ord_1-1.json", b""),
        ("ord_1-1.json", b"[]"),
        ("ord_1-1.json", b'{"events": []}'),
        ("ord_1-1.json", GOLDEN.read_bytes()[:-100]),
    ],
    ids=["other name", "no number", "empty", "list", "no events", "truncated"],
)
def test_file_that_is_no_recorded_history_is_named(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / "ord_1-0.json").write_bytes(GOLDEN.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckoutError) as raised:
        recorded_histories(tmp_path)
    said = f"{tmp_path / name} is no history that `orderly record` has written."
    assert str(raised.value) == said
