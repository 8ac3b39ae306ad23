"""Writes schemas/*.json from the code: `make schemas`.

One JSON Schema for the data of each type and version of events, as consumers get it. What would
break one who reads by a schema that is there already is refused, and nothing is written.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from api.event_data import INTERNAL_FIELDS
from api.events.cloudevents import type_name
from api.personal_data import ErasedAddress
from contracts.json_schema_diff import Schema, breaking_changes
from orders import events
from orders.events import BY_TAG
from privacy.address import Address

FOLDER = Path(__file__).parent / "events"
EXIT_REFUSED = 2


class ShippingAddressSet(events.ShippingAddressSet):
    address: Address | ErasedAddress  # type: ignore[assignment]  # Sealed in the log, open in the feed.


class BillingAddressSet(events.BillingAddressSet):
    address: Address | ErasedAddress  # type: ignore[assignment]


_OPEN_FORMS: Mapping[str, type[BaseModel]] = {
    "shipping-address-set": ShippingAddressSet,
    "billing-address-set": BillingAddressSet,
}
# The type is an attribute of the CloudEvent, beside its data.
_NOT_IN_DATA = {"type", *INTERNAL_FIELDS}
# What an event looks like. The rules for what comes in stay out: they may change, it does not.
_SHAPE = ("description", "$ref", "type", "format", "const", "enum", "required")


def schemas() -> dict[str, Schema]:
    """By the public names of their types, the schemas of the data of today's events."""
    return {
        type_name(tag, event.schema_version): _schema(_OPEN_FORMS.get(tag, event))
        for tag, event in BY_TAG.items()
    }


def text(schema: Schema) -> str:
    """The schema as its file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def refusals(there: Mapping[str, Schema], today: Mapping[str, Schema]) -> list[str]:
    """A sentence for each change that would break a reader of the schemas that are there."""
    types = {_without_version(name) for name in today}
    gone = [
        f"{name}: no event has this type any more, but events with it are stored. Put it back."
        for name in there
        if _without_version(name) not in types
    ]
    return gone + [
        f"{name}: {change}. This breaks those who read it: put it back, or raise the event's"
        " schema_version and add an upcaster (docs/events.md)."
        for name, schema in there.items()
        if name in today
        for change in breaking_changes(schema, today[name])
    ]


def _without_version(name: str) -> str:
    return name.rpartition(".v")[0]


def write(folder: Path = FOLDER) -> None:
    """Brings the files up to date; those of older versions stay, as does all if one would break."""
    there = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}
    today = schemas()
    if refused := refusals(there, today):
        print(*refused, sep="\n", file=sys.stderr)
        sys.exit(EXIT_REFUSED)
    for name, schema in today.items():
        (folder / f"{name}.json").write_text(text(schema))


def _schema(event: type[BaseModel]) -> Schema:
    """The schema of the public data of an event."""
    schema = _shape(event.model_json_schema())
    shown = {name: one for name, one in schema["properties"].items() if name not in _NOT_IN_DATA}
    schema["properties"] = shown
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if name in shown]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _shape(schema: Schema) -> Schema:
    """The schema, all the way down, without what is no shape."""
    shape = {key: schema[key] for key in _SHAPE if key in schema}
    if "items" in schema:
        shape["items"] = _shape(schema["items"])
    if "anyOf" in schema:
        shape["anyOf"] = [_shape(one) for one in schema["anyOf"]]
    for named in ("properties", "$defs"):
        if named in schema:
            shape[named] = {name: _shape(one) for name, one in schema[named].items()}
    return shape


if __name__ == "__main__":
    write()
