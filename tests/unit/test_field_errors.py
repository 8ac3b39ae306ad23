"""Malformed fields get codes and messages of our own, which say what to change."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from field_errors import first_fault, words_for
from orders.text import Name


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["inner"] = "inner"


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    number: Annotated[int, Field(gt=0, le=9)] = 1
    flag: bool = True
    text: Name = "x"
    short: Annotated[str, Field(min_length=2, max_length=3)] = "ab"
    digits: Annotated[str, Field(pattern="^[0-9]+$")] = "1"
    items: Annotated[list[int], Field(min_length=1, max_length=2)] = [1]
    inner: Inner = Inner()
    kind: Literal["a", "b"] = "a"
    at: Annotated[AwareDatetime, Field(strict=False)] = datetime.fromisoformat("2026-01-01T00:00Z")
    day: Annotated[date, Field(strict=False)] = date(2026, 1, 1)


@pytest.mark.parametrize(
    ("field", "value", "code", "message"),
    [
        ("number", 0, "too-small", "must be greater than 0"),
        ("number", 10, "too-large", "must be at most 9"),
        ("number", 1.5, "wrong-type", "must be an integer"),
        ("number", "1", "wrong-type", "must be an integer"),
        ("flag", 1, "wrong-type", "must be true or false"),
        ("text", 1, "wrong-type", "must be a text"),
        ("text", "x" * 101, "too-long", "must have at most 100 characters, not 101"),
        ("short", "a", "too-short", "must have at least 2 characters"),
        ("short", "abcd", "too-long", "must have at most 3 characters"),
        ("digits", "a", "malformed", "is not of the form that the API reference shows"),
        ("items", [], "too-short", "must have at least 1 item"),
        ("items", [1, 2, 3], "too-long", "must have at most 2 items"),
        ("items", {}, "wrong-type", "must be a list"),
        ("inner", [], "wrong-type", "must be an object"),
        ("kind", "c", "unknown-value", "must be 'a' or 'b'"),
        ("other", 1, "unknown-field", "is not a known field"),
        (
            "at",
            "yesterday",
            "malformed",
            "must be a date and time (RFC 3339), such as 2017-01-01T11:53:26Z",
        ),
        ("at", "2026-01-01T00:00:00", "malformed", "must have a time zone, such as Z"),
        ("day", "today", "malformed", "must be a date (RFC 3339), such as 2017-01-01"),
    ],
)
def test_error_has_our_code_and_says_what_to_change(
    field: str, value: Any, code: str, message: str
) -> None:
    with pytest.raises(ValidationError) as invalid:
        Shape.model_validate({field: value})
    (error,) = invalid.value.errors()
    assert words_for(error) == (code, message)


def test_missing_field_is_required() -> None:
    class Needs(BaseModel):
        name: str

    with pytest.raises(ValidationError) as invalid:
        Needs.model_validate({})
    assert words_for(invalid.value.errors()[0]) == ("required", "is required")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"inner": {"colour": "red"}}, "inner.colour is not a known field"),
        ({"tags": {"x": 1}}, "tags.x must be 'red' or 'blue'"),
        ([], "it must be an object"),
    ],
)
def test_first_fault_names_its_field(given: object, fault: str) -> None:
    class Tagged(Shape):
        tags: dict[Literal["red", "blue"], int] = Field(default_factory=dict)

    with pytest.raises(ValidationError) as invalid:
        Tagged.model_validate(given)
    assert first_fault(invalid.value) == fault
