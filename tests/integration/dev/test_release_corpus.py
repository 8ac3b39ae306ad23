"""`make release-check` over a corpus of changes: each gets the verdict that it must get."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.declaration import FILE, PERMITS, Declaration, read_declaration
from dev.release.check import OldVersion, find, judged, old_version_of, verdict
from dev.release.comparison import Finding
from dev.release.scratch import NewDatabase, scratch_databases
from tests.support.contract_changes import CONTRACT_CHANGES
from tests.support.next_version import make_copy
from tests.support.paths import ROOT
from tests.support.release_changes import CHANGES, OTHERS, SEEDED, Change
from tests.support.releasing_page import Example, examples

pytestmark = pytest.mark.xdist_group("release corpus")

ALL = (*CHANGES, *CONTRACT_CHANGES)


@pytest.fixture(scope="module")
async def before(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[OldVersion, NewDatabase]]:
    """This version, described once for all changes of it."""
    with scratch_databases() as new_database:
        folder = tmp_path_factory.mktemp("release")
        yield await old_version_of(ROOT, folder, new_database), new_database


def checks(sentences: list[str]) -> set[str]:
    return {sentence.partition(":")[0] for sentence in sentences}


def all_declared(findings: list[Finding]) -> Declaration:
    """The declaration that permits as much as any can."""
    migrations = {finding.migration: "small" for finding in findings if finding.migration}
    permits = dict.fromkeys(PERMITS, "because")
    return Declaration(workers="versioned", migrations=migrations, **permits)


@pytest.mark.soak  # test_release_comparison.py and test_stored_shapes.py are its short siblings.
@pytest.mark.parametrize("change", ALL, ids=lambda change: f"{change.verdict}: {change.name}")
async def test_change_gets_its_verdict(
    change: Change, before: tuple[OldVersion, NewDatabase], tmp_path: Path
) -> None:
    old, new_database = before
    copy = make_copy(tmp_path, change.edits)
    try:
        found = await find(old, copy, new_database)
    finally:
        shutil.rmtree(copy)
    findings = list(found.findings)
    undeclared, _ = judged(findings, Declaration())
    assert checks(undeclared) == change.found, undeclared
    declared, _ = judged(findings, all_declared(findings))
    assert checks(declared) == change.refused, declared


@pytest.mark.soak
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.subject)
async def test_example_of_the_page_may_be_released_as_it_says(
    example: Example, before: tuple[OldVersion, NewDatabase], tmp_path: Path
) -> None:
    old, new_database = before
    copy = make_copy(tmp_path, example.edits)
    if example.declaration:
        (copy / FILE).write_text(example.declaration)
    found = await find(old, copy, new_database)
    released = verdict(old, copy, found)
    assert released.refused == []
    assert bool(released.declared) == bool(example.declaration)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.subject)
def test_example_of_the_page_applies_and_declares_what_can_be(
    example: Example, tmp_path: Path
) -> None:
    assert example.edits
    for edit in example.edits:
        assert (ROOT / edit.file).read_text().count(edit.old) == 1, edit.old
    (tmp_path / "contracts").mkdir()
    (tmp_path / FILE).write_text(example.declaration)
    assert list(read_declaration(tmp_path).faults(Declaration())) == []


def test_page_has_an_example_of_each_kind() -> None:
    subjects = [example.subject for example in examples()]
    assert subjects == ["a rule", "an event", "a command", "the state", "a read model"]


def test_corpus_has_what_it_must_have() -> None:
    verdicts = {change.verdict for change in ALL}
    assert verdicts == {"allowed", "allowed if declared", "refused"}
    assert len(SEEDED) + len(OTHERS) >= 40
    assert len({change.name for change in ALL}) == len(ALL)


@pytest.mark.parametrize("change", ALL, ids=lambda change: change.name)
def test_change_still_applies(change: Change) -> None:
    for edit in change.edits:
        file = ROOT / edit.file
        assert file.read_text().count(edit.old) == 1 if edit.old else not file.exists(), edit.file
