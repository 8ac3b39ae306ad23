"""What new migrations do to a database that the version before has set up, by themselves."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dev.release.migrations import FOLDER, migration_findings, schema_findings
from dev.release.scratch import NewDatabase, scratch_databases
from readside.engine.migrate import migrate
from readside.registry import PROJECTIONS
from tests.support.paths import ROOT
from tests.support.release_changes import HARMFUL_MIGRATIONS, HARMLESS_MIGRATIONS, Change


@pytest.fixture(scope="module")
async def before() -> AsyncIterator[tuple[str, NewDatabase]]:
    """A database of this version, to copy."""
    with scratch_databases() as new_database:
        database = await new_database()
        await migrate(database, PROJECTIONS)
        yield database, new_database


@pytest.mark.parametrize(
    "change", [*HARMLESS_MIGRATIONS, *HARMFUL_MIGRATIONS], ids=lambda change: change.name
)
async def test_migration_gets_its_verdict(
    change: Change, before: tuple[str, NewDatabase], tmp_path: Path
) -> None:
    database, new_database = before
    shutil.copytree(ROOT / FOLDER, tmp_path / FOLDER)
    change.apply_to(tmp_path)
    found = await migration_findings(await new_database(database), ROOT, tmp_path)
    assert bool(found) == bool(change.found), found
    assert all(finding.migration == "0100_next.sql" for finding in found)


async def test_same_version_changes_nothing(before: tuple[str, NewDatabase]) -> None:
    database, new_database = before
    fresh = await new_database()
    await migrate(fresh, PROJECTIONS)
    applied, migrated = await new_database(database), await new_database(database)
    assert await schema_findings(applied, migrated, fresh) == []
