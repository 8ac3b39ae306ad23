"""Writes contracts/stored_shapes.json from the code: `make schemas`.

It has the shape of all that one version of orderly stores or sends and another one reads: events,
commands, results and callbacks of services, messages between API and workflow, the state of an
order, step requests and read models, and examples (`stored_examples.py`). `make release-check`
compares it with that of another version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from api.callbacks.payloads import EVENTS as CALLBACK_EVENTS
from contracts import stored_examples
from contracts.json_schema_diff import Schema
from contracts.stored_examples import smallest
from eventlog.envelope import Batch
from eventlog.intents import Intent
from orders.commands import COMMAND_TYPES, type_of
from orders.events import BY_TAG, EVENT_TYPES, ClientIdentified
from orders.money import CURRENCIES, TOTAL_MAX
from orders.order import Order
from orders.rules.checks import fingerprint
from orders.rules.draft import DISCOUNTS_MAX, LINES_MAX, NOTES_MAX
from orders.rules.shipments import SHIPMENTS_MAX
from orders.steps import RESULT_TYPES, StepRequest
from readside.order_view.document import OrderDocument
from readside.registry import PROJECTIONS
from workflows.idempotency import CommandStatus, StoredRejection
from workflows.messages import (
    COMMANDS_MAX,
    CommandBatch,
    CommandResult,
    Preview,
    QueuedCommands,
    Rejection,
)
from workflows.snapshot import Snapshot, State, WorkflowInput, without_prose
from workflows.stored_results import StoredResult

FILE = Path(__file__).with_name("stored_shapes.json")
Json = dict[str, Any]


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
        "allowed_in": {type_of(command): sorted(command.allowed_in) for command in COMMAND_TYPES},
        "read_models": {
            projection.name: {
                "version": projection.version,
                "tables": _hash(projection.tables, projection.indexes, str(projection.types)),
            }
            for projection in PROJECTIONS
        },
        "documents": _document(),
        "callbacks": _callbacks(),
        "limits": _limits(),
        "derived": stored_examples.derived(),
        "written": stored_examples.written(),
    }


def text(shapes: Json) -> str:
    """The shapes as they are written to the file; a line for each definition."""
    return json.dumps(shapes, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(file: Path = FILE) -> None:
    """Updates the file. What it may change is checked against a release, not against itself."""
    file.write_text(text(shapes()))


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


def _fingerprints() -> Iterator[tuple[str, str]]:
    """By command, the fingerprint of an example: orders keep them to recognise a client id."""
    kept = {event.client_id_field for event in EVENT_TYPES if issubclass(event, ClientIdentified)}
    for command in COMMAND_TYPES:
        if command.client_id_field in kept:
            schema = command.model_json_schema()
            example = command.model_validate_json(json.dumps(smallest(schema, schema)))
            yield type_of(command), fingerprint(example)


def _callbacks() -> dict[str, Schema]:
    """By type, the data of what services report."""
    return {
        f"{type_} of {sender}": without_prose(data.model_json_schema())
        for sender, types in CALLBACK_EVENTS.items()
        for type_, data in types.items()
    }


def _limits() -> Json:
    """What orders and requests may have at most, and the currencies that orders may have."""
    return {
        "lines of an order": LINES_MAX,
        "discounts of an order": DISCOUNTS_MAX,
        "notes of an order": NOTES_MAX,
        "shipments of an order": SHIPMENTS_MAX,
        "the total of an order": TOTAL_MAX,
        "commands in a request": COMMANDS_MAX,
        "currencies": sorted(CURRENCIES),
    }


def _hash(*texts: str) -> str:
    parts: Sequence[str] = [" ".join(text.split()) for text in texts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    write()
