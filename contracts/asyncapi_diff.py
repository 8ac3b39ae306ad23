"""The changes of an AsyncAPI document that break consumers of the old one; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contracts.documents import resolved
from contracts.json_schema_diff import Between

Json = dict[str, Any]

# The union of all events: each of them is compared as a message, and more may come.
_UNION = "Event"


def breaking_changes(old: Json, new: Json) -> list[str]:
    """A phrase for each change that breaks consumers, with its channel.

    Adding a channel, a message or a field, and changing a description, break nothing.
    """
    return list(_changes(old, new))


def _changes(old: Json, new: Json) -> Iterator[str]:
    for name, channel in old["channels"].items():
        there = new["channels"].get(name)
        if there is None:
            yield f"{name} was removed"
            continue
        if there["address"] != channel["address"]:
            yield f"{name}: the address is {there['address']}, was {channel['address']}"
        for key, message in channel["messages"].items():
            if key not in there["messages"]:
                if _replacement(key, there["messages"]) is None:
                    yield f"{name}: {key} was removed"
                continue
            for change in _of_message(message, there["messages"][key], old, new):
                yield f"{name}: {key}: {change}"


def _replacement(key: str, messages: Json) -> str | None:
    """A later version of a type of event, such as "….item-added.v2" for v1."""
    type_, _, _ = key.rpartition(".v")
    return next((one for one in messages if type_ and one.rpartition(".v")[0] == type_), None)


def _of_message(old: Json, new: Json, before: Json, now: Json) -> Iterator[str]:
    old, new = resolved(old, before), resolved(new, now)
    if old["contentType"] != new["contentType"]:
        yield f"the content type is {new['contentType']}, was {old['contentType']}"
    between = Between(_flat_schemas(before), _flat_schemas(now), written=False)
    for was, now_is in zip(_parts(old, before), _parts(new, now), strict=True):
        yield from between.changes(was, now_is, "")


def _parts(message: Json, document: Json) -> tuple[Json, Json]:
    """The schemas of the headers and of the payload of a message."""
    headers: Json = {}
    for trait in message.get("traits", []):
        headers = resolved(trait, document).get("headers", headers)
    return headers, message["payload"]


def _flat_schemas(document: Json) -> Json:
    schemas = document["components"]["schemas"]
    return {name: _flat(one, schemas) for name, one in schemas.items()} | {_UNION: {}}


def _flat(schema: Json, schemas: Json) -> Json:
    """The schema with the fields of all parts of an `allOf` as its own."""
    if "allOf" not in schema:
        return schema
    parts = [
        schemas[one["$ref"].rpartition("/")[2]] if "$ref" in one else one for one in schema["allOf"]
    ]
    return {
        "type": "object",
        "required": [name for part in parts for name in part.get("required", [])],
        "properties": {k: v for part in parts for k, v in part.get("properties", {}).items()},
    }
