"""Event schemas match the code, and no change to them breaks consumers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contracts import event_schemas as contracts
from contracts.documents import text
from contracts.json_schema_diff import Schema, breaking_changes
from orders.events import BY_TAG, ItemAdded
from tests.support.paths import ROOT

OLD: Schema = {
    "type": "object",
    "required": ["line_id", "goods", "pieces"],
    "properties": {
        "line_id": {"type": "string", "description": "whose"},
        "goods": {"type": "string", "enum": ["lost", "returned"]},
        "reason": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "at": {"type": "string", "format": "date-time"},
        "pieces": {"type": "array", "items": {"$ref": "#/$defs/Piece"}},
    },
    "$defs": {
        "Piece": {
            "type": "object",
            "required": ["sku"],
            "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer"}},
        }
    },
}


def changed(path: str, value: Any = None) -> Schema:
    """OLD, with the value at a path replaced, or removed if it is None."""
    new = json.loads(json.dumps(OLD))
    *steps, last = path.split("/")
    place = new
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    schema: Schema = new
    return schema


@pytest.mark.parametrize(
    ("new", "change"),
    [
        (changed("properties/reason"), "`reason` was removed"),
        (changed("properties/line_id/type", "integer"), "`line_id` is integer, was string"),
        (changed("properties/at/format"), "`at` is string, was date-time string"),
        (
            changed("properties/line_id/format", "date-time"),
            "`line_id` is date-time string, was string",
        ),
        (
            changed("properties/reason", {"type": "string"}),
            "`reason` is string, was string or null",
        ),
        (
            changed("required", ["line_id", "goods", "pieces", "at"]),
            "`at` became required",
        ),
        (
            changed("required", ["line_id", "goods"]),
            "`pieces` became optional",
        ),
        (changed("properties/goods/enum", ["lost"]), "`goods` no longer allows 'returned'"),
        (changed("properties/line_id/enum", ["1"]), "`line_id` no longer allows others"),
        (changed("properties/line_id/const", "1"), "`line_id` no longer allows others"),
        (changed("$defs/Piece/properties/sku"), "`pieces[].sku` was removed"),
        (
            changed("$defs/Piece/properties/quantity/type", "string"),
            "`pieces[].quantity` is string, was integer",
        ),
        (
            changed("$defs/Piece/required", ["sku", "quantity"]),
            "`pieces[].quantity` became required",
        ),
        (
            changed("properties/pieces", {"type": "array", "items": {"type": "string"}}),
            "`pieces[]` is string, was object",
        ),
        (changed("properties/pieces", {"type": "array"}), "`pieces[]` is anything, was object"),
        (changed("type", "array"), "the data is array, was object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_breaking_change_is_named(new: Schema, change: str) -> None:
    assert breaking_changes(OLD, new) == [change]


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        changed("properties/more", {"type": "string"}),
        changed("$defs/Piece/properties/more", {"type": "string"}),
        changed("properties/goods/enum", ["lost", "returned", "stolen"]),
        changed("properties/goods/enum"),
        changed("properties/line_id/description", "which line"),
        changed("properties/pieces/items", OLD["$defs"]["Piece"]),
    ],
    ids=["nothing", "field", "inner field", "value", "any value", "description", "inlined"],
)
def test_compatible_change_is_allowed(new: Schema) -> None:
    assert breaking_changes(OLD, new) == []


def test_all_breaking_changes_are_named_at_once() -> None:
    assert len(breaking_changes(OLD, {"type": "object", "properties": {}})) == 5


def test_schema_files_match_the_code() -> None:
    there = {file.stem: file.read_text() for file in contracts.FOLDER.glob("*.json")}
    today = {name: text(schema) for name, schema in contracts.schemas().items()}
    assert today.items() <= there.items(), "run `make schemas`"
    older = {
        f"orderly.order.{tag}.v{version}"
        for tag, event in BY_TAG.items()
        for version in range(1, event.schema_version)
    }
    assert there.keys() - today.keys() == older, "each older version keeps its schema"


def test_breaking_change_is_rejected_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contracts.write(tmp_path)
    file = tmp_path / "orderly.order.item-added.v1.json"
    older = json.loads(file.read_text())
    older["properties"]["colour"] = {"type": "string"}
    file.write_text(json.dumps(older))
    (tmp_path / "orderly.order.note-added.v1.json").unlink()
    with pytest.raises(SystemExit) as ended:
        contracts.write(tmp_path)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "orderly.order.item-added.v1: `colour` was removed. This breaks consumers: restore it, or"
        " increment the event's schema_version and add an upcaster (docs/events.md).\n"
    )
    assert not (tmp_path / "orderly.order.note-added.v1.json").exists()

    monkeypatch.setattr(ItemAdded, "schema_version", 2)
    contracts.write(tmp_path)
    assert json.loads(file.read_text()) == older, "an older version stays as it was"
    assert (tmp_path / "orderly.order.item-added.v2.json").exists()


def test_type_with_stored_events_cannot_be_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orderly.order.order-teleported.v1.json").write_text("{}")
    with pytest.raises(SystemExit):
        contracts.write(tmp_path)
    assert "order-teleported.v1: the event type was removed" in capsys.readouterr().err


def test_make_schemas_changes_nothing() -> None:
    before = {file: file.read_bytes() for file in contracts.FOLDER.glob("*.json")}
    written = subprocess.run(
        [sys.executable, "-m", "contracts.event_schemas"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (written.returncode, written.stderr) == (0, b"")
    assert {file: file.read_bytes() for file in contracts.FOLDER.glob("*.json")} == before
