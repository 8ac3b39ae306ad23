"""Text fields of commands: which characters and how many; errors say it in words."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class Characters:
    """Annotates a `str` that has 1 to `most` characters, each of them in `allowed`.

    `allowed` is the inside of a character class that Python and ECMA 262 read alike; `words` says
    the same to people.
    """

    most: int
    allowed: str
    words: str
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(f"[{self.allowed}]+"))

    def check(self, text: str) -> str:
        """The text itself; raises an error that says what to change, and quotes nothing."""
        if not text:
            raise PydanticCustomError("empty", "must not be empty")
        if len(text) > self.most:
            raise PydanticCustomError(
                "too_long",
                "must have at most {most} characters, not {count}",
                {"most": self.most, "count": len(text)},
            )
        if not self.pattern.fullmatch(text):
            raise PydanticCustomError(
                "invalid_characters", "may contain {words} only", {"words": self.words}
            )
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        bounds = {"minLength": 1, "maxLength": self.most, "pattern": f"^[{self.allowed}]+$"}
        return {**handler(schema), **bounds}


_PRINTABLE = r"^\x00-\x1f\x7f-\x9f\u2028\u2029"
_PRINTABLE_WORDS = "printable characters, without line breaks,"
_WORD = "A-Za-z0-9._:~|-"
_WORD_WORDS = "letters, digits and . _ : ~ | -"

ID_CHARACTERS_MAX = 64
Id = Annotated[str, Characters(ID_CHARACTERS_MAX, _WORD, _WORD_WORDS)]
"""Safe in a URL and in a log line."""

CustomerId = Annotated[
    str,
    Characters(255, r"A-Za-z0-9._:~|@+!$&'*=^{}-", "letters, digits and ._:~|@+!$&'*=^{}-"),
    Field(description="the shop's id of a customer or guest; best one that is no personal data"),
]
Name = Annotated[str, Characters(100, _PRINTABLE, _PRINTABLE_WORDS)]
LongName = Annotated[str, Characters(255, _PRINTABLE, _PRINTABLE_WORDS)]
"""Titles and SKUs, as long as marketplaces have them."""
Reference = Annotated[str, Characters(256, _PRINTABLE, _PRINTABLE_WORDS)]
"""The payment service's own id of an authorisation."""
Text = Annotated[
    str, Characters(1000, r"^\x00-\x08\x0b-\x1f\x7f-\x9f", "printable characters and line breaks")
]

REASON_CHARACTERS_MAX = 200


def fingerprint_of(text: str) -> str:
    """A hash that tells one text from another, for state that needs no more of it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def one_line(text: str) -> str:
    """Another service's words, for an event or a log: one printable line, shortened."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:REASON_CHARACTERS_MAX]
