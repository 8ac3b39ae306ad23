"""What makes up requests to the API knows its schemas; here is what no schema says of them."""

from __future__ import annotations

import secrets
from typing import Any

import schemathesis

_KNOWN = {"currency": "USD", "country": "US"}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Countries and currencies are those that there are, and an integer is written as one."""
    return _understood(body)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """A key names one request: with another payload it would be refused, and rightly so."""
    if case.headers and "idempotency-key" in case.headers and case.meta.generation.mode.is_positive:
        case.headers["idempotency-key"] = secrets.token_hex(8)


def _understood(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _understood(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_understood(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # To JSON Schema 1.0 is an integer; to us it is no amount.
    return _KNOWN.get(name, value) if isinstance(value, str) else value
