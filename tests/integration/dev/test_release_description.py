"""What a version describes of itself for a release check."""

from __future__ import annotations

from pathlib import Path

import pytest

import workflows.command_handler
from contracts import event_schemas, openapi_document, stored_shapes
from dev.release.describe import Request, describe
from dev.release.golden import newest_histories
from readside.registry import PROJECTIONS
from tests.support.changed_rules import decide_dearer
from tests.support.paths import ROOT


async def test_version_before_is_not_asked_for_what_it_has_committed(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("this version cannot say")

    for module, name in (
        (stored_shapes, "shapes"),
        (openapi_document, "document"),
        (event_schemas, "schemas"),
    ):
        monkeypatch.setattr(module, name, fail)
    orders = tmp_path / "orders.jsonl"
    orders.touch()
    request = Request(output=tmp_path / "description.json", orders=orders, dsn=dsn)

    described = await describe(request)
    assert described.read_models.keys() == {projection.name for projection in PROJECTIONS}
    with pytest.raises(ValueError, match="this version cannot say"):
        await describe(request.model_copy(update={"written": {}}))


async def test_version_before_says_what_it_cannot_replay_itself(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = tmp_path / "orders.jsonl"
    orders.touch()
    history = newest_histories(ROOT)[0]
    request = Request(
        output=tmp_path / "description.json", orders=orders, dsn=dsn, histories=[history]
    )

    described = await describe(request)
    assert (described.replayed, described.diverged) == (1, {})
    monkeypatch.setattr(workflows.command_handler, "decide_all", decide_dearer)
    assert (await describe(request)).diverged.keys() == {history.stem}
