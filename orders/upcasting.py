"""Events to stored data and back; data in an older shape is upcast to the current one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from orders.events import BY_TAG, OrderEvent

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""By event type and schema version, the function from data of that version to the next one."""


class UnreadableEvent(ValueError):
    """A stored event that this version of the software does not understand."""


def stored_data(event: OrderEvent) -> dict[str, Any]:
    """The event as the log stores it: without nulls, and with its type in a column of its own."""
    return event.model_dump(mode="json", exclude={"type"}, exclude_none=True)


def upcast(type: str, schema_version: int, data: dict[str, Any]) -> dict[str, Any]:
    """Stored data in the current shape; raises UnreadableEvent for an unknown type or version."""
    if type not in BY_TAG:
        raise UnreadableEvent(f"{type} is not a known event")
    known = BY_TAG[type].schema_version
    if schema_version > known:
        raise UnreadableEvent(f"{type} has schema version {schema_version}, known is {known}")
    for version in range(schema_version, known):
        data = UPCASTERS[type, version](data)
    return data


def restore(type: str, schema_version: int, data: dict[str, Any]) -> OrderEvent:
    """The event of stored data; raises UnreadableEvent for data that this version cannot read."""
    data = upcast(type, schema_version, data)
    try:
        return BY_TAG[type].model_validate(data)
    except ValidationError as error:
        # Without the data: the message is logged, and the data may be personal.
        reasons = [f"{'.'.join(map(str, e['loc']))} {e['msg']}" for e in error.errors()]
        raise UnreadableEvent(f"{type}: {'; '.join(reasons)}") from None
