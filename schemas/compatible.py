"""What a changed schema would break for those who read by the old one; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

_ANYTHING: Schema = {}


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """One phrase for each change that breaks a reader, or that old events do not keep to.

    To add what is not required, to allow another value, to describe otherwise: none of these does.
    """
    return list(_changes(old, new, old.get("$defs", {}), new.get("$defs", {}), ""))


def _changes(
    old: Schema,
    new: Schema,
    old_defs: Mapping[str, Schema],
    new_defs: Mapping[str, Schema],
    at: str,
) -> Iterator[str]:
    old, new = _resolved(old, old_defs), _resolved(new, new_defs)
    name = f"`{at}`" if at else "the data"
    if _kind(old) != _kind(new):
        yield f"{name} is {_kind(new)}, and was {_kind(old)}"
        return
    yield from _values(old, new, name)
    yield from _presence(old, new, at)
    for key, was in old.get("properties", {}).items():
        if key in new.get("properties", {}):
            yield from _changes(was, new["properties"][key], old_defs, new_defs, _path(at, key))
    for was, is_ in zip(old.get("anyOf", []), new.get("anyOf", []), strict=True):
        yield from _changes(was, is_, old_defs, new_defs, at)
    if "items" in old or "items" in new:
        inside = old.get("items", _ANYTHING), new.get("items", _ANYTHING)
        yield from _changes(*inside, old_defs, new_defs, f"{at}[]")


def _presence(old: Schema, new: Schema, at: str) -> Iterator[str]:
    """Fields that are gone, or must be there and need not, or the reverse."""
    before, now = old.get("properties", {}), new.get("properties", {})
    for key in before:
        if key not in now:
            yield f"`{_path(at, key)}` is gone"
    for key in sorted({*new.get("required", [])} - {*old.get("required", [])}):
        yield f"`{_path(at, key)}` is required, and events without it are stored"
    for key in sorted({*old.get("required", [])} - {*new.get("required", [])}):
        if key in now:
            yield f"`{_path(at, key)}` may be missing, and was always there"


def _values(old: Schema, new: Schema, name: str) -> Iterator[str]:
    before, now = _allowed(old), _allowed(new)
    if now is not None and (before is None or not before <= now):
        gone = "others" if before is None else ", ".join(sorted(before - now))
        yield f"{name} no longer allows {gone}"


def _allowed(schema: Schema) -> set[str] | None:
    """The values that a schema allows, as they are written; None if it does not list them."""
    if "const" in schema:
        return {repr(schema["const"])}
    return {repr(value) for value in schema["enum"]} if "enum" in schema else None


def _kind(schema: Schema) -> str:
    """What sort of value it is, in a word or two."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return "object"
    return " ".join(str(schema[key]) for key in ("format", "type") if key in schema) or "anything"


def _resolved(schema: Schema, defs: Mapping[str, Schema]) -> Schema:
    return defs[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _path(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key
