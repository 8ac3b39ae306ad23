"""Changes of stored shapes that break something are found, and others are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from contracts import stored_shapes
from contracts.shapes_diff import Change, Versions
from contracts.stored_examples import unreadable

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
    (at("$defs/AddNote/properties/text/pattern", "^[a-z\\]]+$"), "has another pattern", COMMANDS),
    (at("$defs/LineQuantity/properties/quantity/maximum", 9), "`lines[].quantity`", COMMANDS),
    (renamed("StockHeld", "held", "reserved"), "result stock-held: `held` was removed", None),
    (renamed("CommandResult", "total", "sum"), "message CommandResult: `total`", None),
    (renamed("Order", "goodwill", "courtesy"), "Order: `goodwill` was removed", STATE),
    (renamed("Shipment", "needs_rebooking", "old"), "`shipments{}.needs_rebooking`", STATE),
    (renamed("Reserve", "lines", "pieces"), "Order: `steps{}.lines` was removed", STATE),
    (renamed("Snapshot", "results", "answers"), "Snapshot: `results` was removed", STATE),
    (renamed("Snapshot", "queued", "waiting"), "no log can restore it", None),
    (renamed("Snapshot", "rejections", "refusals"), "no log can restore it", None),
    (renamed("StoredRejection", "pointer", "at"), "no log can restore it", None),
    (renamed("ResultChunk", "text", "packed"), "Snapshot: `results[].text` was removed", STATE),
    (renamed("StoredResult", "at", "time"), "StoredResult: `at` was removed", STATE),
    (at("state_version", 0), "schema_version of Snapshot was lowered", None),
    (at("client_ids/refund-payment", "other"), "refund-payment has another fingerprint", None),
    (at("derived/arguments of queries/preview"), "the arguments of queries, preview is gone", None),
    (at("derived/id of a command", "other"), "the id of a command is other, was", None),
    (at("derived/event/sequence", "4"), "the event, sequence is 4, was 0000000004", None),
    (at("derived/calls of services/void_payment/headers/idempotency-key"), "is gone", None),
    (at("derived/statuses of problems/no-lines", 422), "no-lines is 422, was 409", None),
    (at("callbacks/shipment.failed of shipping"), "shipment.failed of shipping is not known", None),
    (
        at("callbacks/shipment.failed of shipping/required", ["order_id", "reason"]),
        "`reason` became required, and services send it as it was",
        None,
    ),
    (at("limits/notes of an order", 50), "notes of an order is 50, was 1000", COMMANDS),
    (at("limits/currencies", ["USD"]), "orders no longer have the currencies AED, ", COMMANDS),
    (at("read_models/order_stats/tables", "other"), "order_stats has other tables", None),
    (at("read_models/order_view/version", 1), "order_view has version 1, had", None),
    (at("documents/properties/note", TEXT), "order_view has another document", None),
    (at("allowed_in/add-note", ["draft"]), "order_view has other commands", None),
]
RAISED = at("read_models/order_view/version", SHAPES["read_models"]["order_view"]["version"] + 1)
HARMLESS: list[list[Edit]] = [
    [],
    [with_field("NoteAdded", **OPTIONAL)],
    [at("$defs/AddNote/properties/text/pattern", r"^[^\x00]+$")],
    [at("schemas/events/gift-set.v1", {"type": "object", "properties": {}})],
    [at("schemas/commands/set-gift", {"type": "object", "properties": {}})],
    [with_field("AddNote", type="boolean", default=False)],
    [at("$defs/AddNote/properties/text/maxLength", 2000)],
    [with_field("Order", type="integer", default=0)],
    [at("state_version", 2)],
    [RAISED, at("documents/properties/note", TEXT), at("allowed_in/add-note", ["draft"])],
    [RAISED, at("read_models/order_view/tables", "other")],
    [at("derived/event/severity", "low"), at("derived/arguments of queries/age", [])],
    [at("derived/calls of services/void_payment/body/amount", 1)],
    [
        at("limits/notes of an order", 2_000),
        at("limits/currencies", [*SHAPES["limits"]["currencies"], "XXY"]),
    ],
    [at("callbacks/stock.gone of stock", {"type": "object", "properties": {}})],
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


def test_tighter_limit_of_a_message_is_named_apart_from_its_commands() -> None:
    edit = at("$defs/CommandBatch/properties/commands/maxItems", 100)
    shorter = at("$defs/AddNote/properties/text/maxLength", 500)
    found = [change for change in changes(edit, shorter) if change.permit is None]
    assert found
    assert all("commands` has maxItems 100, had none" in change.sentence for change in found)


def test_version_before_without_examples_is_compared_in_all_else() -> None:
    old = {key: part for key, part in SHAPES.items() if key not in ("derived", "written", "limits")}
    assert list(Versions({**old, "callbacks": {}}, SHAPES).changes()) == []


def test_what_other_versions_wrote_is_read() -> None:
    written: dict[str, str] = SHAPES["written"]
    assert list(unreadable(written)) == []
    for name, text in written.items():
        assert list(unreadable({name: f"{text[:-9]}AAAAAAAAA"})) == [name]
    assert list(unreadable({"a format of later": "a"})) == ["a format of later"]
