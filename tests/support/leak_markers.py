"""Bodies, headers and queries with a marker in each of their places, by which it is known again."""

from __future__ import annotations

import json
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel


class Kind(StrEnum):
    """What a marker stands for, which says where it may come out: see docs/security.md."""

    SECRET = "secrets, and what nobody could make sense of"
    PERSONAL = "personal data"
    TEXT = "free text, references and tokens of payment methods"
    CATALOGUE = "what is sold, and how it travels"
    NAME = "names of things: ids"


_TEXTS = {"text", "reason", "external_reference", "payment_method", "method", "reference"}
_CATALOGUE = {"sku", "title", "tracking", "location"}
_GIVEN = {"currency": "USD", "country": "NL"}


@dataclass
class Markers:
    """All that was planted, by its kind."""

    of: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))

    def secret(self, name: str) -> str:
        return self._planted(Kind.SECRET, f"{name}-{secrets.token_hex(8)}")

    def word(self, name: str) -> str:
        """A value that a field of this name takes."""
        if name in _GIVEN:
            return _GIVEN[name]
        if name.endswith("_id"):
            return self._planted(Kind.NAME, f"{name}-{secrets.token_hex(8)}")
        if name in _CATALOGUE:
            return self._planted(Kind.CATALOGUE, f"{name}-{secrets.token_hex(8)}")
        if name in _TEXTS:
            return self._planted(Kind.TEXT, f"{name}-{secrets.token_hex(8)}")
        odd = {
            "email": f"{secrets.token_hex(8)}@example.org",
            "phone": f"+{10**17 + secrets.randbelow(9 * 10**17)}",
            "postal_code": secrets.token_hex(8),
        }
        return self._planted(Kind.PERSONAL, odd.get(name, f"{name}-{secrets.token_hex(8)}"))

    def body(self, shape: type[BaseModel]) -> dict[str, Any]:
        """What this shape describes, with all that it may have."""
        schema = shape.model_json_schema()
        return {
            name: self._value(name, of_it, schema.get("$defs", {}))
            for name, of_it in schema["properties"].items()
        }

    def malformed(self, body: dict[str, Any]) -> Iterator[bytes]:
        """The body with one mistake after the other in it, and a secret in each mistake."""
        yield json.dumps(body).encode()[:-1] + self.secret("unfinished").encode()
        yield json.dumps({**body, "unknown": self.secret("unknown")}).encode()
        yield json.dumps({**body, "type": self.secret("type")}).encode()
        yield json.dumps([self.secret("list")]).encode()
        for name in body:
            yield json.dumps({**body, name: {"x": self.secret(name)}}).encode()
            yield json.dumps({**body, name: [self.secret(name)]}).encode()
            yield json.dumps({**body, name: self.secret(name) + "\x00"}).encode()
            yield json.dumps({**body, name: self.secret(name) * 100}).encode()

    def _planted(self, kind: Kind, marker: str) -> str:
        self.of[kind].append(marker)
        return marker

    def _value(self, name: str, schema: dict[str, Any], defs: dict[str, Any]) -> Any:
        if "$ref" in schema:
            return self._value(name, defs[schema["$ref"].rpartition("/")[2]], defs)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        if "anyOf" in schema:  # A value or null.
            return self._value(name, schema["anyOf"][0], defs)
        match schema["type"]:
            case "object":
                fields = schema["properties"].items()
                return {inner: self._value(inner, of_it, defs) for inner, of_it in fields}
            case "array":
                each = schema["items"].get("oneOf", [schema["items"]])
                return [self._value(name, one, defs) for one in each]
            case "integer":
                return 1
            case "boolean":
                return True
        return self.word(name)


_RANDOM_PART = re.compile("[0-9a-f]{16}")  # Of nearly every marker.


class Output:
    """A text in which thousands of markers are searched for, each of which would take long."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parts = {
            run[start : start + 16]
            for run in re.findall("[0-9a-f]{16,}", text)
            for start in range(len(run) - 15)
        }

    def markers(self, planted: Iterable[str]) -> list[str]:
        """The planted markers that it contains."""
        return [marker for marker in planted if self._may_have(marker) and marker in self._text]

    def _may_have(self, marker: str) -> bool:
        part = _RANDOM_PART.search(marker)
        return part is None or part[0] in self._parts
