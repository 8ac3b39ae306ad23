"""The changes of an OpenAPI document that break clients of the old one; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.openapi import METHODS
from contracts.documents import resolved
from contracts.json_schema_diff import Between

Json = dict[str, Any]


def breaking_changes(old: Json, new: Json) -> list[str]:
    """A phrase for each change that breaks clients, with its operation.

    Adding an operation, a response or an optional field, allowing more and changing a description
    break nothing. Limits of values may change, as other rules may.
    """
    return list(Documents(old, new).changes())


@dataclass(frozen=True)
class Documents:
    """An old and a new document of the same API."""

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
                    yield f"{name} was removed"
                else:
                    for change in self._of_operation(methods[method], there):
                        yield f"{name}: {change}"

    def _of_operation(self, old: Json, new: Json) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"operationId is {new['operationId']}, was {old['operationId']}"
        if new.get("security") and new["security"] != old.get("security"):
            yield "the required scopes changed"
        yield from self._parameters(old, new)
        yield from self._bodies(old.get("requestBody"), new.get("requestBody"))
        for status, response in old["responses"].items():
            if status not in new["responses"]:
                yield f"response {status} was removed"
            else:
                for change in self._responses(response, new["responses"][status]):
                    yield f"{status}: {change}"

    def _parameters(self, old: Json, new: Json) -> Iterator[str]:
        before, now = _parameters(old, self.old), _parameters(new, self.new)
        for name, parameter in before.items():
            if name not in now:
                yield f"{name} was removed"
            else:
                schemas = parameter["schema"], now[name]["schema"]
                yield from (f"{name}: {c}" for c in self._schemas(*schemas, written=True))
        for name, parameter in now.items():
            if parameter.get("required") and not before.get(name, {}).get("required"):
                yield f"{name} became required"

    def _bodies(self, old: Json | None, new: Json | None) -> Iterator[str]:
        if new is None:
            if old is not None:
                yield "the body was removed"
            return
        if new.get("required") and not (old or {}).get("required"):
            yield "the body became required"
        if old is not None:
            yield from self._content(old, new, written=True)

    def _responses(self, old: Json, new: Json) -> Iterator[str]:
        old, new = resolved(old, self.old), resolved(new, self.new)
        for header in old.get("headers", {}):
            if header not in new.get("headers", {}):
                yield f"the header {header} was removed"
        yield from self._content(old, new, written=False)

    def _content(self, old: Json, new: Json, written: bool) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            there = new.get("content", {}).get(media_type)
            if there is None:
                yield f"{media_type} was removed"
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
    found = (resolved(one, document) for one in operation.get("parameters", []))
    return {f"the {one['in']} parameter `{one['name']}`": one for one in found}
