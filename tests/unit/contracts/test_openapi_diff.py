"""Changes of the API that break clients are found and rejected."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from contracts import openapi_document as openapi
from contracts.documents import text
from contracts.openapi_diff import breaking_changes

Json = dict[str, Any]

generated = cache(openapi.document)


@pytest.fixture(autouse=True)
def generated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The document is the same each time, and takes a second to generate."""
    monkeypatch.setattr(openapi, "document", lambda: deepcopy(generated()))


OLD: Json = {
    "paths": {
        "/orders": {
            "post": {
                "operationId": "open_order",
                "security": [{"bearer": ["write"]}],
                "parameters": [
                    {"name": "key", "in": "header", "schema": {"type": "string"}},
                    {"name": "sort", "in": "query", "schema": {"enum": ["up", "down"]}},
                    {"$ref": "#/components/parameters/Trace"},
                ],
                "requestBody": {
                    "content": {"json": {"schema": {"$ref": "#/components/schemas/New"}}}
                },
                "responses": {
                    "201": {
                        "headers": {"ETag": {}},
                        "content": {"json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                    },
                    "409": {"$ref": "#/components/responses/Conflict"},
                },
            },
        }
    },
    "components": {
        "parameters": {"Trace": {"name": "trace", "in": "header", "schema": {"type": "string"}}},
        "responses": {
            "Conflict": {"content": {"json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        },
        "schemas": {
            "New": {
                "type": "object",
                "required": ["currency"],
                "properties": {
                    "currency": {"type": "string"},
                    "way": {"type": "string", "enum": ["post", "van"]},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "items": {
                        "type": "array",
                        "items": {
                            "oneOf": [
                                {"$ref": "#/components/schemas/Add"},
                                {"$ref": "#/components/schemas/Place"},
                            ],
                            "discriminator": {
                                "propertyName": "type",
                                "mapping": {
                                    "add": "#/components/schemas/Add",
                                    "place": "#/components/schemas/Place",
                                },
                            },
                        },
                    },
                },
            },
            "Add": {"type": "object", "properties": {"sku": {"type": "string"}}},
            "Place": {"type": "object", "properties": {}},
            "Order": {
                "type": "object",
                "required": ["total"],
                "properties": {
                    "total": {"type": "integer"},
                    "status": {"type": "string", "enum": ["draft", "placed"]},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
            "Problem": {"type": "object", "properties": {"code": {"type": "string"}}},
        },
    },
}
POST = "paths|/orders|post"
NEW, ORDER = "components|schemas|New", "components|schemas|Order"
UNION = f"{NEW}|properties|items|items"


def changed(path: str, value: Any = None) -> Json:
    """OLD, with the value at a path replaced, or removed if it is None."""
    new = json.loads(json.dumps(OLD))
    *steps, last = path.split("|")
    place = new
    for step in steps:
        place = place[int(step) if isinstance(place, list) else step]
    key = int(last) if isinstance(place, list) else last
    if value is None:
        del place[key]
    else:
        place[key] = value
    document: Json = new
    return document


SENT = "POST /orders: "
ANSWERED = "POST /orders: 201: "


@pytest.mark.parametrize(
    ("path", "value", "change"),
    [
        ("paths|/orders", None, "POST /orders was removed"),
        (POST, None, "POST /orders was removed"),
        (f"{POST}|operationId", "begin", f"{SENT}operationId is begin, was open_order"),
        (f"{POST}|security", [{"bearer": ["operate"]}], f"{SENT}the required scopes changed"),
        (f"{POST}|parameters|1", None, f"{SENT}the query parameter `sort` was removed"),
        (f"{POST}|parameters|2", None, f"{SENT}the header parameter `trace` was removed"),
        (
            f"{POST}|parameters|0|required",
            True,
            f"{SENT}the header parameter `key` became required",
        ),
        (
            f"{POST}|parameters|1",
            {"name": "way", "in": "query", "required": True, "schema": {}},
            [
                f"{SENT}the query parameter `sort` was removed",
                f"{SENT}the query parameter `way` became required",
            ],
        ),
        (
            f"{POST}|parameters|1|schema|enum",
            ["up"],
            f"{SENT}the query parameter `sort`: the data no longer allows 'down'",
        ),
        (f"{POST}|requestBody", None, f"{SENT}the body was removed"),
        (f"{POST}|requestBody|required", True, f"{SENT}the body became required"),
        (f"{POST}|requestBody|content", {"xml": {}}, f"{SENT}json was removed"),
        (f"{NEW}|required", ["currency", "way"], f"{SENT}`way` became required"),
        (f"{NEW}|properties|way", None, f"{SENT}`way` was removed"),
        (f"{NEW}|properties|way|enum", ["post"], f"{SENT}`way` no longer allows 'van'"),
        (
            f"{NEW}|properties|currency|type",
            "integer",
            f"{SENT}`currency` is integer, was string",
        ),
        (
            f"{NEW}|properties|note",
            {"type": "string"},
            f"{SENT}`note` is string, was string or null",
        ),
        (
            f"{UNION}|discriminator|mapping|place",
            None,
            f"{SENT}`items[]` is add, was add or place",
        ),
        ("components|schemas|Add|properties|sku", None, f"{SENT}`items[].sku` was removed"),
        (f"{POST}|responses|409", None, f"{SENT}response 409 was removed"),
        (f"{POST}|responses|201|headers", {}, f"{ANSWERED}the header ETag was removed"),
        (f"{POST}|responses|201|content", {}, f"{ANSWERED}json was removed"),
        (f"{ORDER}|properties|status", None, f"{ANSWERED}`status` was removed"),
        (
            f"{ORDER}|properties|total|type",
            "string",
            f"{ANSWERED}`total` is string, was integer",
        ),
        (
            f"{ORDER}|properties|total",
            {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            f"{ANSWERED}`total` is integer or null, was integer",
        ),
        (f"{ORDER}|required", [], f"{ANSWERED}`total` became optional"),
        (
            "components|schemas|Problem|properties|code|type",
            "integer",
            "POST /orders: 409: `code` is integer, was string",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_breaking_change_is_named(path: str, value: Any, change: Any) -> None:
    changes = [change] if isinstance(change, str) else change
    assert breaking_changes(OLD, changed(path, value)) == changes


ANOTHER = {"type": "string"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("paths|/more", OLD["paths"]["/orders"]),
        ("paths|/orders|get", OLD["paths"]["/orders"]["post"]),
        (f"{POST}|summary", "Otherwise said"),
        (f"{POST}|security", []),
        (f"{POST}|parameters|1|schema|enum", ["up", "down", "best"]),
        (f"{POST}|responses|429", {"$ref": "#/components/responses/Conflict"}),
        (f"{POST}|responses|201|headers|Location", {}),
        (f"{NEW}|properties|more", ANOTHER),
        (f"{NEW}|required", []),
        (f"{NEW}|properties|way|enum", ["post", "van", "bike"]),
        (f"{NEW}|properties|currency", {"anyOf": [ANOTHER, {"type": "null"}]}),
        (f"{UNION}|discriminator|mapping|take", "#/components/schemas/Add"),
        (f"{ORDER}|properties|more", ANOTHER),
        (f"{ORDER}|required", ["total", "status"]),
        (f"{ORDER}|properties|status|enum", ["draft"]),
        (f"{ORDER}|properties|note", ANOTHER),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_compatible_change_is_allowed(path: str, value: Any) -> None:
    assert breaking_changes(OLD, changed(path, value)) == []


def test_only_the_removed_of_many_alternatives_is_named() -> None:
    old, new = openapi.document(), openapi.document()
    union = new["components"]["schemas"]["CommandBatch"]["properties"]["commands"]["items"]
    del union["discriminator"]["mapping"]["hold-order"]
    path = "POST /v1/orders/{order_id}/commands"
    assert breaking_changes(old, new) == [
        f"{path}{preview}: `commands[]` is no longer hold-order" for preview in ("", "/preview")
    ]


def test_code_does_not_break_clients_of_the_document() -> None:
    assert breaking_changes(json.loads(openapi.FILE.read_text()), openapi.document()) == []


def test_document_matches_the_code() -> None:
    assert openapi.FILE.read_text() == text(openapi.document()), "run `make openapi`"


def test_breaking_change_is_rejected_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "openapi.json"
    openapi.write(file)
    assert file.read_text() == text(openapi.document())
    older = json.loads(file.read_text())
    older["info"]["title"] = "older"
    file.write_text(text(older))
    openapi.write(file)
    assert json.loads(file.read_text())["info"]["title"] == "orderly"

    older["paths"]["/v1/teleport"] = older["paths"]["/v1/orders"]
    file.write_text(broken := text(older))
    with pytest.raises(SystemExit) as ended:
        openapi.write(file)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{method} /v1/teleport was removed. This breaks clients: restore it, or add a new path"
        " beside the old one."
        for method in ("GET", "POST")
    ]
    assert file.read_text() == broken
