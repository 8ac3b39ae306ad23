"""`orderly up` over the read models of another version, and with workers of other versions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

import dev.stack.read_models
from dev.stack import StackError
from dev.stack.programs import DEPLOYMENT_NAME, Addresses, build_id_of, worker_of
from dev.stack.read_models import upgrade_read_models
from readside.engine import generations
from readside.engine.generations import LIVE
from tests.support.command_builders import new_order_id
from tests.support.paths import ROOT
from tests.support.processes import HANGING, assert_ended, pid_in, run_python
from tests.support.projections import (
    BAGELS,
    OPENED,
    ORDER_VIEW,
    assert_views_equal_folds,
    project_all,
    publish,
)
from workflows.build_id import build_id, replayed_files

NEWER = replace(ORDER_VIEW, version=ORDER_VIEW.version + 1)


async def test_read_model_of_another_version_is_rebuilt_with_progress(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await publish(pool, new_order_id(), 1, OPENED, BAGELS)
    await project_all(dsn)
    shown: list[tuple[str, str]] = []

    async def upgrade() -> list[tuple[str, str]]:
        shown.clear()
        await upgrade_read_models(dsn, lambda name, state: shown.append((name, state)))
        return shown

    assert await upgrade() == [], "nothing has another version"
    monkeypatch.setattr(dev.stack.read_models, "PROJECTIONS", [NEWER])
    first, *_, last = await upgrade()
    assert first == ("order_view", "rebuilding: 0 of 6 events")
    assert last == (
        "order_view",
        f"rebuilt: version {ORDER_VIEW.version} became {NEWER.version}",
    )
    async with pool.acquire() as connection:
        assert await generations.version_of(connection, "order_view", LIVE) == NEWER.version
    await assert_views_equal_folds(pool)
    assert await upgrade() == []


def test_worker_of_another_folder_is_a_version_of_its_own(tmp_path: Path) -> None:
    addresses = Addresses("http://127.0.0.1:1", "127.0.0.1:2", "default", "orders", "", "", "")
    (tmp_path / "settings.py").write_text("postgres_dsn: str\n")
    other = worker_of(addresses, tmp_path, tmp_path, "old")
    settings = [name for name in other.environment if name.startswith("ORDERLY_")]
    assert settings == ["ORDERLY_POSTGRES_DSN"], "it rejects those that it does not know"
    assert other.name == "worker old"
    assert other.environment["PYTHONPATH"] == str(tmp_path)
    assert other.environment["TEMPORAL_WORKER_BUILD_ID"] == "old"
    assert other.environment["TEMPORAL_DEPLOYMENT_NAME"] == DEPLOYMENT_NAME


async def test_folder_without_orderly_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="has no version of orderly"):
        await build_id_of(tmp_path)


async def test_interrupted_question_for_a_build_id_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "__init__.py").write_text(HANGING)
    asking = asyncio.ensure_future(build_id_of(tmp_path))
    pid = await pid_in(tmp_path / "cli")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert_ended(pid)


def test_build_id_follows_the_code_that_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.build_id.ROOT", tmp_path)
    (tmp_path / "eventlog").mkdir()
    for name in ("orders", "workflows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("1")
    for name in ("envelope.py", "intents.py"):
        (tmp_path / "eventlog" / name).write_text("1")
    first = build_id()
    (tmp_path / "api.py").write_text("not replayed")
    assert build_id() == first
    (tmp_path / "orders" / "code.py").write_text("2")
    assert build_id() != first


def test_build_id_covers_all_that_a_workflow_imports() -> None:
    show = "import sys, workflows.order; print(*(m.__file__ for m in sys.modules.values()"
    loaded = run_python("-c", f"{show} if getattr(m, '__file__', None)))").stdout.split()
    of_ours = {Path(file).relative_to(ROOT) for file in loaded if Path(file).is_relative_to(ROOT)}
    of_ours -= {file for file in of_ours if file.parts[0] == ".venv"}
    covered = {file.relative_to(ROOT) for file in replayed_files()}
    assert of_ours - covered - {Path("eventlog/__init__.py")} == set()
