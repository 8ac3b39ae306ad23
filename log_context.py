"""What the lines of a log say of the request that they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar

Fields = Callable[[], Mapping[str, str]]

# A function, as most requests log nothing.
FIELDS_OF_REQUEST: ContextVar[Fields | None] = ContextVar("fields_of_request", default=None)


def fields_of_request() -> Mapping[str, str]:
    """Of the request that is being served here; empty if there is none."""
    fields = FIELDS_OF_REQUEST.get()
    return fields() if fields else {}
