"""What a changed OpenAPI document would break for those who call by the old one; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.openapi import METHODS
from contracts.json_schema_diff import Between

Json = dict[str, Any]


def breaking_changes(old: Json, new: Json) -> list[str]:
    """One phrase for each change that breaks a caller, with the operation that it is in.

    To add an operation, a response or what is not required, to allow more, to describe otherwise:
    none of these does. Limits of a value may change: what is too much, is a matter of rules.
    """
    return list(Documents(old, new).changes())


@dataclass(frozen=True)
class Documents:
    """Two documents of the same API, the older one and the newer."""

    old: Json
    new: Json

    def changes(self) -> Iterator[str]:
        for path, methods in self.old["paths"].items():
            for method in METHODS:
                if method not in methods:
                    continue
                there = self.new["paths"].get(path, {}).get(method)
                name = f"{method.upper()} {path}"
                if there is None:
                    yield f"{name} is gone"
                else:
                    for change in self._of_operation(methods[method], there):
                        yield f"{name}: {change}"

    def _of_operation(self, old: Json, new: Json) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"it is called {new['operationId']}, and was {old['operationId']}"
        if new.get("security") and new["security"] != old.get("security"):
            yield "it takes another token"
        yield from self._parameters(old, new)
        yield from self._bodies(old.get("requestBody"), new.get("requestBody"))
        for status, response in old["responses"].items():
            if status not in new["responses"]:
                yield f"{status} is no longer answered"
            else:
                for change in self._responses(response, new["responses"][status]):
                    yield f"{status}: {change}"

    def _parameters(self, old: Json, new: Json) -> Iterator[str]:
        before, now = _parameters(old, self.old), _parameters(new, self.new)
        for name, parameter in before.items():
            if name not in now:
                yield f"{name} is gone"
            else:
                schemas = parameter["schema"], now[name]["schema"]
                yield from (f"{name}: {c}" for c in self._schemas(*schemas, written=True))
        for name, parameter in now.items():
            if parameter.get("required") and not before.get(name, {}).get("required"):
                yield f"{name} is required, and was not"

    def _bodies(self, old: Json | None, new: Json | None) -> Iterator[str]:
        if new is None:
            if old is not None:
                yield "it takes no body any more"
            return
        if new.get("required") and not (old or {}).get("required"):
            yield "a body is required, and was not"
        if old is not None:
            yield from self._content(old, new, written=True)

    def _responses(self, old: Json, new: Json) -> Iterator[str]:
        old, new = _resolved(old, self.old), _resolved(new, self.new)
        for header in old.get("headers", {}):
            if header not in new.get("headers", {}):
                yield f"the header {header} is gone"
        yield from self._content(old, new, written=False)

    def _content(self, old: Json, new: Json, written: bool) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            there = new.get("content", {}).get(media_type)
            if there is None:
                yield f"there is no {media_type} any more"
            else:
                yield from self._schemas(
                    content.get("schema", {}), there.get("schema", {}), written
                )

    def _schemas(self, old: Json, new: Json, written: bool) -> Iterator[str]:
        between = Between(
            self.old["components"]["schemas"],
            self.new["components"]["schemas"],
            written=written,
            read=not written,
        )
        return between.changes(old, new, "")


def _parameters(operation: Json, document: Json) -> dict[str, Json]:
    found = (_resolved(one, document) for one in operation.get("parameters", []))
    return {f"the {one['in']} parameter `{one['name']}`": one for one in found}


def _resolved(value: Json, document: Json) -> Json:
    """What a reference leads to: "#/components/responses/Refused"."""
    if "$ref" not in value:
        return value
    *_, kind, name = value["$ref"].split("/")
    found: Json = document["components"][kind][name]
    return found
