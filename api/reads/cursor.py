"""Cursors of order lists: the sort, and the last order of the page before."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from api.problems.catalog import INVALID_CURSOR
from api.problems.problem import not_issued
from api.times import Instant
from orders.text import Id
from readside.order_view.list_query import Position

_OF_TIMES: TypeAdapter[Any] = TypeAdapter(tuple[str, Instant, Id])
_OF_TOTALS: TypeAdapter[Any] = TypeAdapter(tuple[str, Annotated[int, Field(ge=0, lt=2**63)], Id])


def encode_cursor(sort: str, sort_value: datetime | int | None, order_id: str) -> str:
    """The cursor of the page that follows an order."""
    value = sort_value.isoformat() if isinstance(sort_value, datetime) else sort_value
    fields = [sort, value, order_id]
    return urlsafe_b64encode(json.dumps(fields).encode()).decode()


def decode_cursor(cursor: str, sort: str) -> Position:
    """The position in a list with this sort; raises a Problem for a cursor of another list."""
    try:
        text = urlsafe_b64decode(cursor)
        made_for, sort_value, order_id = _fields(sort).validate_json(text)
    except ValueError as error:
        raise not_issued(INVALID_CURSOR, "cursor", "is not one that a list returned") from error
    if made_for != sort:
        detail = f"belongs to another list, not to one sorted by {sort}"
        raise not_issued(INVALID_CURSOR, "cursor", detail)
    return sort_value, order_id


def _fields(sort: str) -> TypeAdapter[tuple[str, datetime | int, str]]:
    return _OF_TOTALS if "total" in sort else _OF_TIMES
