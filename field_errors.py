"""Codes and messages for malformed fields: ours, so that no library changes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

# By pydantic's error type: our code, and our message with the error's context filled in.
_WORDS: Mapping[str, tuple[str, str]] = {
    "missing": ("required", "is required"),
    "extra_forbidden": ("unknown-field", "is not a known field"),
    "string_type": ("wrong-type", "must be a text"),
    "int_type": ("wrong-type", "must be an integer"),
    "int_from_float": ("wrong-type", "must be an integer"),
    "int_parsing": ("wrong-type", "must be an integer"),
    "int_parsing_size": ("too-large", "has too many digits"),
    "bool_type": ("wrong-type", "must be true or false"),
    "bool_parsing": ("wrong-type", "must be true or false"),
    "list_type": ("wrong-type", "must be a list"),
    "frozen_set_type": ("wrong-type", "must be a list"),
    "dict_type": ("wrong-type", "must be an object"),
    "model_type": ("wrong-type", "must be an object"),
    "model_attributes_type": ("wrong-type", "must be an object"),
    "greater_than": ("too-small", "must be greater than {gt}"),
    "greater_than_equal": ("too-small", "must be at least {ge}"),
    "less_than": ("too-large", "must be less than {lt}"),
    "less_than_equal": ("too-large", "must be at most {le}"),
    "string_too_short": ("too-short", "must have at least {min_length} characters"),
    "string_too_long": ("too-long", "must have at most {max_length} characters"),
    "string_pattern_mismatch": ("malformed", "is not of the form that the API reference shows"),
    "literal_error": ("unknown-value", "must be {expected}"),
    "enum": ("unknown-value", "must be {expected}"),
    "union_tag_invalid": ("unknown-type", "must be one of {expected_tags}"),
    "union_tag_not_found": ("required", "must name its type"),
    "json_invalid": ("malformed", "is not JSON"),
    "timezone_aware": ("malformed", "must have a time zone, such as Z"),
}
_BY_PREFIX: Mapping[str, tuple[str, str]] = {
    "datetime_": ("malformed", "must be a date and time (RFC 3339), such as 2017-01-01T11:53:26Z"),
    "date_": ("malformed", "must be a date (RFC 3339), such as 2017-01-01"),
}


def words_for(error: Mapping[str, Any]) -> tuple[str, str]:
    """The code and the message of one of pydantic's errors; neither quotes what was sent."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("too_short", "too_long") and "field_type" in context:
        bound = context["min_length" if kind == "too_short" else "max_length"]
        words = "at least" if kind == "too_short" else "at most"
        return kind.replace("_", "-"), f"must have {words} {bound} item{'s' * (bound != 1)}"
    if kind in _WORDS:
        code, message = _WORDS[kind]
        return code, message.format_map(context)
    for prefix, known in _BY_PREFIX.items():
        if kind.startswith(prefix):
            return known
    if kind == "value_error":
        return "invalid", str(error["msg"]).removeprefix("Value error, ")
    return kind.replace("_", "-"), str(error["msg"])


def first_fault(error: ValidationError) -> str:
    """The first malformed field and what is wrong with it, as in "orders.at_most is required"."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part != "[key]")
    return f"{field or 'it'} {words_for(first)[1]}"
