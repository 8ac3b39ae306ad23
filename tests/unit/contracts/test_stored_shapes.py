"""Changes of stored shapes that break something are found, and others are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from contracts import stored_shapes
from contracts.shapes_diff import Change, Versions

Json = dict[str, Any]
Edit = Callable[[Json], object]

SHAPES: Json = json.loads(stored_shapes.FILE.read_text())


def fields(definition: str) -> Callable[[Json], Json]:
    return lambda shapes: shapes["$defs"][definition]["properties"]


def renamed(definition: str, old: str, new: str) -> Edit:
    def edit(shapes: Json) -> None:
        found = fields(definition)(shapes)
        found[new] = found.pop(old)
        required = shapes["$defs"][definition].get("required", [])
        if old in required:
            required[required.index(old)] = new

    return edit


def with_field(definition: str, **schema: Any) -> Edit:
    return lambda shapes: fields(definition)(shapes).update(more=schema)


def at(path: str, value: Any = None) -> Edit:
    """Replaces the value at a path, or removes it."""

    def edit(shapes: Json) -> None:
        *steps, last = path.split("/")
        for step in steps:
            shapes = shapes[step]
        if value is None:
            del shapes[last]
        else:
            shapes[last] = value

    return edit


def changes(*edits: Edit) -> list[Change]:
    new = deepcopy(SHAPES)
    for edit in edits:
        edit(new)
    return list(Versions(SHAPES, new).changes())


TEXT = {"type": "string"}
OPTIONAL = {"anyOf": [TEXT, {"type": "null"}], "default": None}
STATE, COMMANDS = "state", "commands"
REFUSED: list[tuple[Edit, str, str | None]] = [
    (at("schemas/events/note-added.v1"), "event note-added.v1 was removed", None),
    (renamed("NoteAdded", "text", "note"), "event note-added.v1: `text` was removed", None),
    (with_field("NoteAdded", type="string", default="en"), "has a default that is not null", None),
    (at("schemas/commands/add-note"), "command add-note was removed", None),
    (renamed("AddNote", "text", "note"), "command add-note: `text` was removed", None),
    (at("$defs/AddNote/required", ["text", "note_id"]), "`note_id` became required", None),
    (at("$defs/AddNote/properties/text/maxLength", 500), "has maxLength 500, had 1000", COMMANDS),
    (at("$defs/AddNote/properties/text/pattern", "^a$"), "has another pattern", COMMANDS),
    (at("$defs/LineQuantity/properties/quantity/maximum", 9), "`lines[].quantity`", COMMANDS),
    (renamed("StockHeld", "held", "reserved"), "result stock-held: `held` was removed", None),
    (renamed("CommandResult", "total", "sum"), "message CommandResult: `total`", None),
    (renamed("Order", "goodwill", "courtesy"), "Order: `goodwill` was removed", STATE),
    (renamed("Shipment", "needs_rebooking", "old"), "`shipments{}.needs_rebooking`", STATE),
    (renamed("Reserve", "lines", "pieces"), "Order: `steps{}.lines` was removed", STATE),
    (renamed("Snapshot", "results", "answers"), "Snapshot: `results` was removed", STATE),
    (renamed("StoredResult", "at", "time"), "StoredResult: `at` was removed", STATE),
    (at("state_version", 0), "schema_version of Snapshot was lowered", None),
    (at("client_ids/refund-payment", "other"), "refund-payment has another fingerprint", None),
    (at("queries", ["preview"]), "the query command_status of the workflow was removed", None),
    (at("read_models/order_stats/tables", "other"), "order_stats has other tables", None),
    (at("read_models/order_view/version", 1), "order_view has version 1, had", None),
    (at("documents/properties/note", TEXT), "order_view has another document", None),
    (at("allowed_in/add-note", ["draft"]), "order_view has other commands", None),
]
RAISED = at("read_models/order_view/version", SHAPES["read_models"]["order_view"]["version"] + 1)
HARMLESS: list[list[Edit]] = [
    [],
    [with_field("NoteAdded", **OPTIONAL)],
    [at("schemas/events/gift-set.v1", {"type": "object", "properties": {}})],
    [at("schemas/commands/set-gift", {"type": "object", "properties": {}})],
    [with_field("AddNote", type="boolean", default=False)],
    [at("$defs/AddNote/properties/text/maxLength", 2000)],
    [with_field("Order", type="integer", default=0)],
    [at("state_version", 2)],
    [RAISED, at("documents/properties/note", TEXT), at("allowed_in/add-note", ["draft"])],
    [RAISED, at("read_models/order_view/tables", "other")],
]


@pytest.mark.parametrize(
    ("edit", "sentence", "permit"), REFUSED, ids=[text for _, text, _ in REFUSED]
)
def test_breaking_change_is_named(edit: Edit, sentence: str, permit: str | None) -> None:
    found = changes(edit)
    assert any(sentence in change.sentence for change in found), found
    assert {change.permit for change in found if sentence in change.sentence} == {permit}


@pytest.mark.parametrize("edits", HARMLESS)
def test_harmless_change_is_not(edits: list[Edit]) -> None:
    assert changes(*edits) == []


def test_what_the_version_before_cannot_read_is_noted() -> None:
    new = deepcopy(SHAPES)
    with_field("AddNote", type="boolean", default=False)(new)
    new["schemas"]["events"]["gift-set.v1"] = {}
    assert list(Versions(SHAPES, new).notes()) == [
        "event gift-set.v1 is new",
        "command add-note has the new field more",
    ]


def test_file_matches_the_code() -> None:
    assert stored_shapes.FILE.read_text() == stored_shapes.text(stored_shapes.shapes()), (
        "run `make schemas`"
    )


def test_cursors_that_callers_kept_are_read() -> None:
    assert list(stored_shapes.unreadable_cursors(SHAPES["cursors"])) == []
    kept = {"feed": "AAAA", "lists": {"opened_at": SHAPES["cursors"]["lists"]["-total"]}}
    assert list(stored_shapes.unreadable_cursors(kept)) == [
        "the event feed",
        "lists sorted by opened_at",
    ]
