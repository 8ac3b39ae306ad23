"""What breaks between two versions' stored shapes (contracts/stored_shapes.py); pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from contracts.json_schema_diff import Between, Schema
from workflows.snapshot import KEPT_NOWHERE_ELSE

Json = dict[str, Any]

_COMMANDS = "commands[]."
"""In a message; they are compared by themselves, too."""
_KEPT_NOWHERE_ELSE = tuple(f"`{name}`" for name in (*sorted(KEPT_NOWHERE_ELSE), "rejections"))
_COMPARED_BY_THEMSELVES = ("`snapshot.", "`order.", "`queued[].")


class Change(NamedTuple):
    """A change that breaks something, as a sentence."""

    sentence: str
    permit: str | None = None
    """The entry of contracts/release.toml that permits it; None if nothing does."""


@dataclass(frozen=True)
class Versions:
    """The shapes of an older and a newer version."""

    old: Json
    new: Json

    def changes(self) -> Iterator[Change]:
        """All that breaks stored data, or versions that work together."""
        yield from self._events()
        yield from self._commands()
        yield from self._others("results", limited=False)
        yield from self._others("messages", limited=True, read=True)
        yield from self._callbacks()
        yield from self._limits()
        yield from self._state()
        yield from self._client_ids()
        yield from self._read_models()
        for lost in _lost(self.old.get("derived", {}), self.new["derived"], ""):
            yield Change(f"{lost}: other versions, services or consumers rely on it")

    def notes(self) -> Iterator[str]:
        """What the older version cannot read yet: harmless in the order of deployment."""
        for kind in ("events", "commands", "results"):
            for name in sorted(self.new["schemas"][kind].keys() - self.old["schemas"][kind].keys()):
                yield f"{kind.removesuffix('s')} {name} is new"
            for name, before, now in self._both(kind):
                fields = now.get("properties", {}).keys() - before.get("properties", {}).keys()
                for field in sorted(fields):
                    yield f"{kind.removesuffix('s')} {name} has the new field {field}"

    def _both(self, kind: str) -> Iterator[tuple[str, Schema, Schema]]:
        """The schemas of a kind that both versions have, without a reference at their root."""
        old, new = self.old["schemas"][kind], self.new["schemas"][kind]
        for name in old.keys() & new.keys():
            yield name, _target(old[name], self.old["$defs"]), _target(new[name], self.new["$defs"])

    def _differences(
        self, kind: str, *, read: bool, limited: bool
    ) -> Iterator[tuple[str, list[str]]]:
        """By name, the changes of the shapes of a kind that both versions have."""
        between = Between(self.old["$defs"], self.new["$defs"], read=read, limited=limited)
        for name, before, now in sorted(self._both(kind)):
            yield name, list(between.changes(before, now, ""))

    def _gone(self, kind: str) -> list[str]:
        return sorted(self.old["schemas"][kind].keys() - self.new["schemas"][kind].keys())

    def _events(self) -> Iterator[Change]:
        versions = dict(map(_versioned, self.new["schemas"]["events"]))
        for name in self._gone("events"):
            tag, number = _versioned(name)
            if versions.get(tag, 0) < number:
                yield Change(f"event {name} was removed, but stored events have it: restore it")
        for name, changes in self._differences("events", read=True, limited=False):
            for change in changes:
                yield Change(f"event {name}: {change}: raise its schema_version, with an upcaster")
        for name, before, now in self._both("events"):
            for field in sorted(_with_default(now) - before.get("properties", {}).keys()):
                yield Change(
                    f"event {name}: the new field `{field}` has a default that is not null, so"
                    " events that are published already would be decided otherwise"
                )

    def _commands(self) -> Iterator[Change]:
        yield from self._others("commands", limited=False)
        broken = dict(self._differences("commands", read=False, limited=False))
        for name, changes in self._differences("commands", read=False, limited=True):
            for change in changes:
                if change not in broken[name]:
                    yield Change(
                        f"command {name}: {change}: commands that were accepted, or wait, cannot"
                        " be read any more",
                        permit="commands",
                    )

    def _others(self, kind: str, *, limited: bool, read: bool = False) -> Iterator[Change]:
        one = kind.removesuffix("s")
        for name in self._gone(kind):
            yield Change(f"{one} {name} was removed, and other versions send it")
        for name, changes in self._differences(kind, read=read, limited=limited):
            for change in changes:
                if _COMMANDS not in change:
                    yield Change(f"{one} {name}: {change}, and other versions send or read it")

    def _callbacks(self) -> Iterator[Change]:
        new = self.new["callbacks"]
        for name, was in sorted(self.old.get("callbacks", {}).items()):
            if name not in new:
                yield Change(f"the callback {name} is not known any more, and services send it")
                continue
            definitions = was.get("$defs", {}), new[name].get("$defs", {})
            between = Between(*definitions, read=False)
            for change in between.changes(was, new[name], ""):
                yield Change(f"the callback {name}: {change}, and services send it as it was")

    def _limits(self) -> Iterator[Change]:
        for name, was in sorted(self.old.get("limits", {}).items()):
            now = self.new["limits"].get(name, was)
            if isinstance(was, list):
                if gone := sorted({*was} - {*now}):
                    yield Change(f"orders no longer have the {name} {', '.join(gone)}", "commands")
            elif now < was:
                yield Change(f"the limit of {name} is {now}, was {was}", "commands")

    def _state(self) -> Iterator[Change]:
        if self.new["state_version"] < self.old["state_version"]:
            yield Change("the schema_version of Snapshot was lowered: raise it")
        for name in self._gone("state"):
            yield Change(f"{name} of the stored state was removed", permit="state")
        for name, changes in self._differences("state", read=False, limited=False):
            for change in changes:
                if change.startswith(_COMPARED_BY_THEMSELVES):
                    continue
                if name == "StoredRejection" or change.startswith(_KEPT_NOWHERE_ELSE):
                    yield Change(f"{name}: {change}, and no log can restore it")
                else:
                    yield Change(f"the state of orders changes: {name}: {change}", permit="state")

    def _client_ids(self) -> Iterator[Change]:
        commands = self.new["schemas"]["commands"]
        for name, was in sorted(self.old["client_ids"].items()):
            if name in commands and self.new["client_ids"].get(name) != was:
                yield Change(
                    f"command {name} has another fingerprint, so a repeated one would be rejected"
                    " as another command with its id"
                )

    def _read_models(self) -> Iterator[Change]:
        old, new = self.old["read_models"], self.new["read_models"]
        for name in sorted(old.keys() & new.keys()):
            was, now = old[name]["version"], new[name]["version"]
            if now < was:
                yield Change(f"read model {name} has version {now}, had {was}: raise it")
            elif now == was and old[name]["tables"] != new[name]["tables"]:
                yield Change(f"read model {name} has other tables or events: raise its version")
        if new["order_view"]["version"] != old["order_view"]["version"]:
            return
        for part, what in (("documents", "another document"), ("allowed_in", "other commands")):
            if self.old[part] != self.new[part]:
                yield Change(f"read model order_view has {what} of an order: raise its version")


def _lost(was: Any, now: Any, name: str) -> Iterator[str]:
    """What of a derived value is not as it was; more of it may be there."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key, part in was.items():
            at = f"{name}, {key}" if name else f"the {key}"
            yield from _lost(part, now.get(key), at)
    elif now is None and was is not None:
        yield f"{name} is gone, was {was}"
    elif was != now:
        yield f"{name} is {now}, was {was}"


def _versioned(name: str) -> tuple[str, int]:
    tag, _, number = name.rpartition(".v")
    return tag, int(number)


def _target(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    if "$ref" in schema:
        target: Schema = definitions[schema["$ref"].rpartition("/")[2]]
        return target
    return schema


def _with_default(schema: Schema) -> set[str]:
    """The fields that have a default other than null."""
    properties: Mapping[str, Schema] = schema.get("properties", {})
    return {name for name, one in properties.items() if one.get("default") is not None}
