"""Writes contracts/events/*.json from the code: `make schemas`.

There is one JSON Schema for the public data of each type and version of events. A change that
would break consumers of an existing schema is rejected, and nothing is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from api.personal_data import ErasedAddress, UnreadableAddress
from contracts.documents import exit_if_breaking, text
from contracts.json_schema_diff import Schema, breaking_changes
from orders import events
from orders.events import BY_TAG
from outbound.cloudevents import type_name
from outbound.event_data import INTERNAL_FIELDS
from privacy.address import Address

FOLDER = Path(__file__).parent / "events"


class ShippingAddressSet(events.ShippingAddressSet):
    address: Address | ErasedAddress | UnreadableAddress  # type: ignore[assignment]  # Encrypted in the log.


class BillingAddressSet(events.BillingAddressSet):
    address: Address | ErasedAddress | UnreadableAddress  # type: ignore[assignment]


PLAINTEXT_FORMS: Mapping[str, type[BaseModel]] = {
    "shipping-address-set": ShippingAddressSet,
    "billing-address-set": BillingAddressSet,
}
# The type is an attribute of the CloudEvent, beside its data.
_NOT_IN_DATA = {"type", *INTERNAL_FIELDS}
# The shape of the data, without rules such as patterns: those may change.
_SHAPE = ("description", "$ref", "type", "format", "const", "enum", "required")


def schemas() -> dict[str, Schema]:
    """The current schemas, by the public names of the types."""
    return {
        type_name(tag, event.schema_version): schema_of(PLAINTEXT_FORMS.get(tag, event))
        for tag, event in BY_TAG.items()
    }


def rejections(old: Mapping[str, Schema], new: Mapping[str, Schema]) -> list[str]:
    """A sentence for each change that would break consumers of the old schemas."""
    types = {_without_version(name) for name in new}
    removed = [
        f"{name}: the event type was removed, but stored events have it: restore it."
        for name in old
        if _without_version(name) not in types
    ]
    return removed + [
        f"{name}: {change}. This breaks consumers: restore it, or increment the event's"
        " schema_version and add an upcaster (docs/events.md)."
        for name, schema in old.items()
        if name in new
        for change in breaking_changes(schema, new[name])
    ]


def _without_version(name: str) -> str:
    return name.rpartition(".v")[0]


def write(folder: Path = FOLDER) -> None:
    """Updates the files, unless one would break consumers; files of older versions remain."""
    old = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}
    new = schemas()
    exit_if_breaking(rejections(old, new))
    for name, schema in new.items():
        (folder / f"{name}.json").write_text(text(schema))


def schema_of(event: type[BaseModel]) -> Schema:
    """The schema of the public data of an event."""
    schema = shape(event.model_json_schema())
    shown = {name: one for name, one in schema["properties"].items() if name not in _NOT_IN_DATA}
    schema["properties"] = shown
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if name in shown]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def shape(schema: Schema) -> Schema:
    """The schema reduced to its shape, recursively."""
    found = {key: schema[key] for key in _SHAPE if key in schema}
    if "items" in schema:
        found["items"] = shape(schema["items"])
    if "anyOf" in schema:
        found["anyOf"] = [shape(one) for one in schema["anyOf"]]
    for named in ("properties", "$defs"):
        if named in schema:
            found[named] = {name: shape(one) for name, one in schema[named].items()}
    return found


if __name__ == "__main__":
    write()
