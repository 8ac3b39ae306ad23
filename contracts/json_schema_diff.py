"""The changes of a JSON Schema that break writers or readers of the old one; pure."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
Schemas = Mapping[str, Schema]

_ANYTHING: Schema = {}
_MAPPED = "additionalProperties"
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_FEW = 3
_ONLY_CHARACTERS = re.compile(r"\^\[((?:\\.|[^\]\\])+)\]\+\$")


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """A phrase for each change that breaks readers, or that makes old events invalid.

    Adding an optional field, allowing another value and changing a description break nothing.
    """
    between = Between(old.get("$defs", {}), new.get("$defs", {}))
    return list(between.changes(old, new, ""))


@dataclass(frozen=True)
class Between:
    """Compares an old schema with a new one, resolving their references.

    Writers need everything the old schema allows to remain allowed; readers need everything it
    guarantees to remain guaranteed. Events are written and read, requests are written, and
    responses are read.
    """

    old_schemas: Schemas
    new_schemas: Schemas
    written: bool = True
    read: bool = True
    limited: bool = False
    """Whether tighter limits of values break writers; rules may otherwise change."""

    def changes(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        """A phrase for each breaking change; `at` is the path in the data, such as "lines[]"."""
        name = f"`{at}`" if at else "the data"
        before = _alternatives(_resolved(old, self.old_schemas), self.old_schemas)
        now = _alternatives(_resolved(new, self.new_schemas), self.new_schemas)
        removed, added = before.keys() - now.keys(), now.keys() - before.keys()
        if (self.written and removed) or (self.read and added):
            yield f"{name} is {_difference(before, now)}"
            return
        for kind in before:
            if kind in now:
                yield from self._one(before[kind], now[kind], name, at)

    def _one(self, old: Schema, new: Schema, name: str, at: str) -> Iterator[str]:
        """The changes within one alternative that both schemas have."""
        if self.written:
            yield from _values(old, new, name)
        if self.limited:
            yield from _limits(old, new, name)
        yield from self._presence(old, new, at)
        for key, was in old.get("properties", {}).items():
            if key in new.get("properties", {}):
                yield from self.changes(was, new["properties"][key], _path(at, key))
        if "items" in old or "items" in new:
            inside = old.get("items", _ANYTHING), new.get("items", _ANYTHING)
            yield from self.changes(*inside, f"{at}[]")
        if _MAPPED in old or _MAPPED in new:
            inside = old.get(_MAPPED, _ANYTHING), new.get(_MAPPED, _ANYTHING)
            if all(isinstance(one, dict) for one in inside):
                yield from self.changes(*inside, f"{at}{{}}")

    def _presence(self, old: Schema, new: Schema, at: str) -> Iterator[str]:
        """Removed fields, and fields that became required or optional."""
        before, now = old.get("properties", {}), new.get("properties", {})
        required, was_required = {*new.get("required", [])}, {*old.get("required", [])}
        for key in before:
            if key not in now:
                yield f"`{_path(at, key)}` was removed"
        if self.written:
            for key in sorted(required - was_required):
                yield f"`{_path(at, key)}` became required"
        if self.read:
            for key in sorted((was_required - required) & now.keys()):
                yield f"`{_path(at, key)}` became optional"


def _values(old: Schema, new: Schema, name: str) -> Iterator[str]:
    before, now = _allowed(old), _allowed(new)
    if now is not None and (before is None or not before <= now):
        gone = "others" if before is None else ", ".join(sorted(before - now))
        yield f"{name} no longer allows {gone}"


def _limits(old: Schema, new: Schema, name: str) -> Iterator[str]:
    for key in (*_AT_MOST, *_AT_LEAST):
        was, now, sign = old.get(key), new.get(key), 1 if key in _AT_MOST else -1
        if now is not None and (was is None or sign * now < sign * was):
            yield f"{name} has {key} {now}, had {'none' if was is None else was}"
    if "pattern" in new and not _is_as_wide(old.get("pattern", ""), new["pattern"]):
        yield f"{name} has another pattern"


def _is_as_wide(old: str, new: str) -> bool:
    """Whether a pattern allows all that another one did; known only of character classes."""
    if old == new:
        return True
    before, now = _ONLY_CHARACTERS.fullmatch(old), _ONLY_CHARACTERS.fullmatch(new)
    if before is None or now is None:
        return False
    return _characters(before[1]) <= _characters(now[1])


def _characters(inside: str) -> set[str]:
    """All that are in a character class."""
    return set(re.findall(f"[{inside}]", "".join(map(chr, range(sys.maxunicode + 1)))))


def _allowed(schema: Schema) -> set[str] | None:
    """The values that a schema lists, as text; None if it lists none."""
    if "const" in schema:
        return {repr(schema["const"])}
    return {repr(value) for value in schema["enum"]} if "enum" in schema else None


def _alternatives(schema: Schema, schemas: Schemas) -> dict[str, Schema]:
    """The alternatives of a union by their discriminator, or else by their type."""
    tagged = schema.get("discriminator", {}).get("mapping")
    if tagged:
        return {tag: _resolved({"$ref": ref}, schemas) for tag, ref in tagged.items()}
    found: dict[str, Schema] = {}
    counted: Counter[str] = Counter()
    for one in schema.get("anyOf") or schema.get("oneOf") or [schema]:
        one = _resolved(one, schemas)
        kind = _kind(one)
        counted[kind] += 1
        found[kind if counted[kind] == 1 else f"{kind} {counted[kind]}"] = one
    return found


def _kind(schema: Schema) -> str:
    """The type of a value, with its format."""
    return " ".join(str(schema[key]) for key in ("format", "type") if key in schema) or "anything"


def _difference(before: Collection[str], now: Collection[str]) -> str:
    """How the alternatives changed; of many, only the removed ones."""
    removed = [kind for kind in before if kind not in now]
    if removed and len(before) > _FEW:
        return f"no longer {' or '.join(removed)}"
    return f"{' or '.join(now)}, was {' or '.join(before)}"


def _resolved(schema: Schema, schemas: Schemas) -> Schema:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _path(at: str, key: str) -> str:
    return f"{at}.{key}" if at else key
