"""What makes up requests to the API knows its schemas; here is what no schema says of them."""

from __future__ import annotations

import secrets
from typing import Any

import schemathesis

_KNOWN = {"currency": "USD", "country": "US"}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Makes a request that is meant to be good as good as its sender would who reads our docs.

    Countries and currencies are those that there are, and an integer is written as one. A key names
    one request: with another payload it would be refused. Any version will do.
    """
    if not case.meta.generation.mode.is_positive:
        return
    if isinstance(case.body, dict):  # What is set counts as a body, even if it is none.
        case.body = _understood(case.body)
    for name, value in (("idempotency-key", secrets.token_hex(8)), ("if-match", "*")):
        if case.headers and name in case.headers:
            case.headers[name] = value


def _understood(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _understood(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_understood(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # To JSON Schema 1.0 is an integer; to us it is no amount.
    return _KNOWN.get(name, value) if isinstance(value, str) else value
