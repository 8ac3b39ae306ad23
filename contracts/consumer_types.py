"""Writes orderly_consumer/events.py from contracts/events/*.json: `make schemas`.

It has one class for each type and version of events, and their union.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent, wrap

from contracts.event_schemas import FOLDER
from contracts.json_schema_diff import Schema

FILE = Path(__file__).parents[1] / "orderly_consumer" / "events.py"
LINE_CHARACTERS_MAX = 100

_HEAD = '''"""The types of events, generated from their schemas by `make schemas`: do not edit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from orderly_consumer.cloud_event import CloudEvent, Data, OrderEvent, UnknownEvent
'''
_TAIL = '''
_ADAPTER: TypeAdapter[KnownEvent] = TypeAdapter(KnownEvent)


def parse_event(document: dict[str, Any], cursor: str | None = None) -> Event:
    """The event in a CloudEvent; raises ValueError for anything else."""
    attributes = {**document, "cursor": cursor}
    if document.get("type") in TYPES:
        return _ADAPTER.validate_python(attributes)
    return UnknownEvent.model_validate(attributes)
'''
_FORMATS = {"date-time": "datetime"}
_KINDS = {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}


def text(schemas: Mapping[str, Schema]) -> str:
    """The module, from all schemas by the names of their types."""
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FILE), "-"]
    return subprocess.run(
        ruff, input=_module(schemas), text=True, stdout=subprocess.PIPE, check=True
    ).stdout


def _module(schemas: Mapping[str, Schema]) -> str:
    parts: dict[str, Schema] = {}
    for schema in schemas.values():
        for name, part in schema.get("$defs", {}).items():
            if parts.setdefault(name, part) != part:
                raise ValueError(f"two event schemas define {name} differently: rename one")
    names = {class_name(type): type for type in schemas}
    classes = [_class(name, "Data", parts[name]) for name in sorted(parts)]
    for name, type in names.items():
        classes += [_class(f"{name}Data", "Data", schemas[type]), _event(name, type)]
    union = " | ".join(names)
    types = "".join(f'"{type}": {name}, ' for name, type in names.items())
    return "\n\n".join(
        [
            _HEAD,
            *classes,
            f'KnownEvent = Annotated[{union}, Field(discriminator="type")]',
            "Event = KnownEvent | UnknownEvent",
            f"TYPES: dict[str, type[CloudEvent]] = {{ {types} }}",
            _TAIL,
        ]
    )


def class_name(type: str) -> str:
    """`OrderPlaced` for "orderly.order.order-placed.v1", and `OrderPlacedV2` for its next one."""
    *_, tag, version = type.split(".")
    name = "".join(word.capitalize() for word in tag.split("-"))
    return name if version == "v1" else f"{name}{version.upper()}"


def _class(name: str, base: str, schema: Schema) -> str:
    required = schema.get("required", [])
    fields = [
        line
        for field, one in schema.get("properties", {}).items()
        for line in _field(field, one, is_required=field in required)
    ]
    body = "\n".join([*_docstring(schema.get("description")), *fields]) or "pass"
    return f"class {name}({base}):\n{indent(body, '    ')}\n"


def _event(name: str, type: str) -> str:
    return f'class {name}(OrderEvent):\n    type: Literal["{type}"]\n    data: {name}Data\n'


def _field(name: str, schema: Schema, *, is_required: bool) -> Iterator[str]:
    annotation = _annotation(schema)
    if is_required:
        yield f"{name}: {annotation}"
    else:
        yield f"{name}: {annotation.removesuffix(' | None')} | None = None"
    yield from _docstring(schema.get("description"))


def _docstring(description: str | None) -> list[str]:
    if not description:
        return []
    first, *more = description.split("\n\n")
    lines = wrap(f'"""{first}', LINE_CHARACTERS_MAX - 4)
    for paragraph in more:
        lines += ["", *wrap(paragraph, LINE_CHARACTERS_MAX - 4)]
    return [*lines[:-1], f'{lines[-1]}"""'] if len(lines) == 1 else [*lines, '"""']


def _annotation(schema: Schema) -> str:
    """The type of a value. A list of values may grow, so that any text is accepted beside them."""
    match schema:
        case {"$ref": ref}:
            return str(ref).rpartition("/")[2]
        case {"anyOf": alternatives}:
            kinds = dict.fromkeys(_annotation(one) for one in alternatives)
            return " | ".join(sorted(kinds, key=lambda kind: kind == "None"))
        case {"enum": values}:
            return f"Literal[{', '.join(json.dumps(value) for value in values)}] | str"
        case {"const": value}:
            return f"Literal[{value!r}]"
        case {"format": format}:
            return _FORMATS[format]
        case {"type": "array", "items": items}:
            return f"list[{_annotation(items)}]"
        case {"type": "null"}:
            return "None"
        case {"type": kind}:
            return _KINDS[kind]
    raise ValueError(f"no type is known for {schema}")


def schemas(folder: Path = FOLDER) -> dict[str, Schema]:
    """All committed schemas, by the names of their types."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


if __name__ == "__main__":
    FILE.write_text(text(schemas()))
