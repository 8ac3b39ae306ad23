"""Adapts generated requests to the rules of the API that no schema expresses."""

from __future__ import annotations

import secrets
from typing import Any

import schemathesis

_KNOWN = {"currency": "USD", "country": "US"}
_REQUIRED = {"city": "Springfield", "postal_code": "12345"}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Makes a request that is meant to be valid conform to what the documentation says in words.

    Countries and currencies exist, integers are written without a fraction, each idempotency key is
    used once, and any version matches.
    """
    if not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict):  # Setting it to None would send a body.
        case.body = _conforming(case.body)
    for name, value in (("idempotency-key", secrets.token_hex(8)), ("if-match", "*")):
        if case.headers and name in case.headers:
            case.headers[name] = value


def _conforming(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        conforming = {key: _conforming(inner, key) for key, inner in value.items()}
        # What a country requires is no part of the schema.
        return {**conforming, **_REQUIRED} if "country" in value else conforming
    if isinstance(value, list):
        return [_conforming(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # JSON Schema takes 1.0 for an integer; the API rejects it.
    return _KNOWN.get(name, value) if isinstance(value, str) else value
