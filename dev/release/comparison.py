"""What a release would break, by the descriptions of the version before it and of itself; pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from contracts import event_schemas, openapi_diff
from contracts.shapes_diff import Versions
from dev.release.describe import Description, Json, ReadModel

_REFERENCE = re.compile(r'"#/\$defs/([^"]+)"')


class Finding(NamedTuple):
    """Something that a release must not do, or must declare."""

    check: str
    """"shapes", "past", "fold", "documents", "migrations", "contracts" or "roll"."""
    sentence: str
    permit: str | None = None
    """The entry of contracts/release.toml that permits it; None if nothing does."""
    migration: str | None = None
    """The file, if it is about one."""


class Old(NamedTuple):
    """The version before: its description, and the contracts that it has published."""

    description: Description
    openapi: Json
    event_schemas: Mapping[str, Json]


def findings(old: Old, new: Description) -> Iterator[Finding]:
    """All that the newer version would break."""
    for change in Versions(old.description.shapes, new.shapes).changes():
        yield Finding("shapes", f"{change.sentence}.", change.permit)
    for name in new.unreadable_examples:
        yield Finding("shapes", f"{name} that the version before wrote cannot be read.")
    yield from _past(old.description, new)
    yield from _fold(old.description, new)
    yield from _documents(old.description, new)
    for sentence in event_schemas.rejections(old.event_schemas, new.event_schemas):
        yield Finding("contracts", sentence)
    for sentence in openapi_diff.breaking_changes(old.openapi, new.openapi):
        yield Finding("contracts", f"{sentence}. This breaks clients of the API.")


def _past(old: Description, new: Description) -> Iterator[Finding]:
    # What the version before cannot replay stays in the one in which it began.
    diverged = {name: why for name, why in new.diverged.items() if name not in old.diverged}
    rewritten = {**diverged, **new.rewritten}
    if rewritten:
        parts = [
            f"{len(found)} of {total} {what}"
            for found, total, what in (
                (diverged, new.replayed - len(old.diverged), "recorded runs"),
                (new.rewritten, new.redecided, "recorded orders"),
            )
            if found
        ]
        yield Finding(
            "past", f"It rewrites {' and '.join(parts)}, such as {_example(rewritten)}.", "rewrites"
        )


def _fold(old: Description, new: Description) -> Iterator[Finding]:
    if lost := {key: why for key, why in new.unreadable.items() if key not in old.unreadable}:
        yield Finding(
            "fold", f"The events of {_orders(lost)} cannot be read, such as {_example(lost)}."
        )
    if new.shapes["state_version"] > old.shapes["state_version"]:
        return
    others = _other_fields(old.shapes["$defs"], new.shapes["$defs"])
    differing = {
        key: ", ".join(fields)
        for key, state in old.states.items()
        if key in new.states and (fields := _differences(state, new.states[key], others))
    }
    if differing:
        yield Finding(
            "fold",
            f"{_orders(differing)} fold to another state, such as {_example(differing)}: if that is"
            " meant, raise the schema_version of Snapshot (workflows/snapshot.py).",
        )


def _other_fields(old: Json, new: Json) -> set[str]:
    """The fields of an order that only one of the versions has: `shapes` judges them."""
    fields: set[str] = set()
    for name in _parts_of_order(old) & _parts_of_order(new):
        fields |= old[name].get("properties", {}).keys() ^ new[name].get("properties", {}).keys()
    return fields


def _parts_of_order(definitions: Json) -> set[str]:
    """The definitions that the state of an order consists of."""
    found: set[str] = set()
    left = ["Order"]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _REFERENCE.findall(json.dumps(definitions[name]))
    return found


def _differences(one: Json, other: Json, others: set[str]) -> list[str]:
    """The fields of two states that have other content, apart from `others`."""
    return [key for key in one if key in other and not _is_same(one[key], other[key], others)]


def _is_same(one: Any, other: Any, others: set[str]) -> bool:
    """Whether two parts are equal, apart from those of `others` that only one of them has."""
    match one, other:
        case dict(), dict():
            return one.keys() ^ other.keys() <= others and not _differences(one, other, others)
        case list(), list():
            return len(one) == len(other) and all(
                _is_same(*parts, others) for parts in zip(one, other, strict=True)
            )
        case _:
            return bool(one == other)


def _documents(old: Description, new: Description) -> Iterator[Finding]:
    others = _other_fields(old.shapes["$defs"], new.shapes["$defs"])
    for name, now in new.read_models.items():
        was = old.read_models.get(name, ReadModel(version=0, rows=[], parked={}))
        if parked := {key: why for key, why in now.parked.items() if key not in was.parked}:
            yield Finding(
                "documents",
                f"{_orders(parked)} cannot be projected to {name}, such as {_example(parked)}.",
            )
        if now.version == was.version and (rows := _other_rows(was, now, others)):
            yield Finding(
                "documents",
                f"The read model {name} has {rows} other rows for the same events: raise its"
                " version.",
            )


def _other_rows(was: ReadModel, now: ReadModel, others: set[str]) -> int:
    """How many rows differ; fields of only one version may be there without content."""
    before, after = Counter(was.rows), Counter(now.rows)
    missing = Counter(_without_empty(row, others) for row in (before - after).elements())
    found = Counter(_without_empty(row, others) for row in (after - before).elements())
    return max((missing - found).total(), (found - missing).total())


def _without_empty(row: str, fields: set[str]) -> str:
    """A row without those of the fields that are null, zero or empty."""
    table, _, content = row.partition(" ")

    def drop(part: Any) -> Any:
        match part:
            case dict():
                return {key: drop(one) for key, one in part.items() if one or key not in fields}
            case [str(), *_]:  # A set of ids, which has no order.
                return sorted(part)
            case list():
                return [drop(one) for one in part]
            case _:
                return part

    return f"{table} {json.dumps(drop(json.loads(content)), sort_keys=True)}"


def _orders(found: Mapping[str, str]) -> str:
    return f"{len(found)} recorded order{'s' * (len(found) != 1)}"


def _example(found: Mapping[str, str]) -> str:
    key = min(found)
    return f"{key}: {found[key].rstrip('.')}"


def notes(old: Old, new: Description) -> Iterator[str]:
    """What harms nothing, if readers are deployed before writers."""
    for note in Versions(old.description.shapes, new.shapes).notes():
        yield f"{note}: the version before cannot read it."
    for name in raised_models(old.description, new):
        yield f"read model {name} has a new version: prepare it before you deploy the readers."


def raised_models(old: Description, new: Description) -> Iterator[str]:
    """The read models with a new version."""
    for name, model in new.read_models.items():
        if name in old.read_models and model.version > old.read_models[name].version:
            yield name
