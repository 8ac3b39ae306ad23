"""Writes contracts/stored_shapes.json from the code: `make schemas`.

It has the shape of all that one version of orderly stores or sends and another one reads: events,
commands, results of services, messages between API and workflow, the state of an order, step
requests, read models and cursors. `make release-check` compares it with that of another version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from temporalio import workflow

from api.reads.cursor import decode_cursor as decode_list_cursor
from api.reads.cursor import encode_cursor as encode_list_cursor
from contracts.json_schema_diff import Schema
from eventlog.cursor import decode_cursor, encode_cursor
from eventlog.envelope import Batch
from eventlog.intents import Intent
from eventlog.log import Checkpoint
from orders.commands import COMMAND_TYPES, type_of
from orders.events import BY_TAG, EVENT_TYPES, ClientIdentified
from orders.order import Order
from orders.rules.checks import fingerprint
from orders.steps import RESULT_TYPES, StepRequest
from readside.order_view.document import OrderDocument
from readside.registry import PROJECTIONS
from workflows.idempotency import CommandStatus, StoredRejection
from workflows.messages import CommandBatch, CommandResult, Preview, QueuedCommands, Rejection
from workflows.order import OrderWorkflow
from workflows.snapshot import Snapshot, State, WorkflowInput, without_prose
from workflows.stored_results import StoredResult

FILE = Path(__file__).with_name("stored_shapes.json")
Json = dict[str, Any]

_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _result_type(result: type[Any]) -> str:
    tag: str = result.model_fields["type"].default
    return tag


KINDS: Mapping[str, Mapping[str, type[Any]]] = {
    "events": {f"{tag}.v{event.schema_version}": event for tag, event in BY_TAG.items()},
    "commands": {type_of(command): command for command in COMMAND_TYPES},
    "results": {_result_type(result): result for result in RESULT_TYPES},
    "messages": {
        one.__name__: one
        for one in (
            *(CommandBatch, QueuedCommands, CommandResult, Rejection, Preview, CommandStatus),
            *(State, Batch, Intent),
        )
    },
    "state": {
        one.__name__: one
        for one in (Order, Snapshot, WorkflowInput, StepRequest, StoredResult, StoredRejection)
    },
}


def shapes() -> Json:
    """All shapes of this version, as JSON."""
    keys = [(kind, name) for kind, types in KINDS.items() for name in types]
    found, definitions = TypeAdapter.json_schemas(
        [(key, "validation", TypeAdapter(KINDS[key[0]][key[1]])) for key in keys],
        schema_generator=_Shapes,
    )
    schemas: dict[str, Json] = {kind: {} for kind in KINDS}
    for (kind, name), _ in found:
        schemas[kind][name] = without_prose(found[(kind, name), "validation"])
    return {
        "schemas": schemas,
        "$defs": {name: without_prose(one) for name, one in sorted(definitions["$defs"].items())},
        "client_ids": dict(_fingerprints()),
        "state_version": Snapshot.model_fields["schema_version"].default,
        "queries": sorted(_queries()),
        "allowed_in": {type_of(command): sorted(command.allowed_in) for command in COMMAND_TYPES},
        "read_models": {
            projection.name: {
                "version": projection.version,
                "tables": _hash(projection.tables, projection.indexes, str(projection.types)),
            }
            for projection in PROJECTIONS
        },
        "documents": _document(),
        "cursors": _cursors(),
    }


def text(shapes: Json) -> str:
    """The shapes as they are written to the file; a line for each definition."""
    return json.dumps(shapes, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(file: Path = FILE) -> None:
    """Updates the file. What it may change is checked against a release, not against itself."""
    file.write_text(text(shapes()))


def unreadable_cursors(cursors: Mapping[str, Any]) -> Iterator[str]:
    """The names of another version's cursors that this version does not continue from."""
    try:
        feed = decode_cursor(cursors["feed"]) == (Checkpoint(11, 22), 1)
    except ValueError:
        feed = False
    if not feed:
        yield "the event feed"
    for sort, cursor in cursors["lists"].items():
        try:
            decode_list_cursor(cursor, sort)
        except Exception:  # A Problem of the API, or a field that is not there.
            yield f"lists sorted by {sort}"


class _Shapes(GenerateJsonSchema):
    """Leaves out the defaults of whole models: they repeat those of their fields."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if isinstance(found.get("default"), dict):
            del found["default"]
        return found


def _document() -> Schema:
    document: Schema = without_prose(OrderDocument.model_json_schema(mode="serialization"))
    return document


def _queries() -> Iterator[str]:
    definition = workflow._Definition.must_from_class(OrderWorkflow)
    return (name for name in definition.queries if name is not None)


def _fingerprints() -> Iterator[tuple[str, str]]:
    """By command, the fingerprint of an example: orders keep them to recognise a client id."""
    kept = {event.client_id_field for event in EVENT_TYPES if issubclass(event, ClientIdentified)}
    for command in COMMAND_TYPES:
        if command.client_id_field in kept:
            schema = command.model_json_schema()
            example = command.model_validate_json(json.dumps(_example(schema, schema)))
            yield type_of(command), fingerprint(example)


def _example(schema: Schema, root: Schema) -> Any:
    """The smallest value that a schema allows: only required fields, and one of each list."""
    if "$ref" in schema:
        return _example(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return _example(choices[0], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema["type"]:
        case "object":
            required = {*schema.get("required", []), "type"} & schema["properties"].keys()
            parts = schema["properties"]
            return {name: _example(parts[name], root) for name in sorted(required)}
        case "array":
            return [_example(schema["items"], root)]
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return False
        case _:
            return "a"


def _cursors() -> Json:
    """Examples of cursors that callers may have kept."""
    sorts: Mapping[str, datetime | int] = {"opened_at": _AT, "-total": 336}
    return {
        "feed": encode_cursor(Checkpoint(11, 22), 1),
        "lists": {sort: encode_list_cursor(sort, value, "ord_a") for sort, value in sorts.items()},
    }


def _hash(*texts: str) -> str:
    parts: Sequence[str] = [" ".join(text.split()) for text in texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    write()
