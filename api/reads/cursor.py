"""Cursors of order lists: the sort, and the last order of the page before."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime

from api.problems.catalog import INVALID_CURSOR
from api.problems.problem import not_issued
from readside.order_view.list_query import Position


def encode_cursor(sort: str, sort_value: datetime | int | None, order_id: str) -> str:
    """The cursor of the page that follows an order."""
    value = sort_value.isoformat() if isinstance(sort_value, datetime) else sort_value
    fields = [sort, value, order_id]
    return urlsafe_b64encode(json.dumps(fields).encode()).decode()


def decode_cursor(cursor: str, sort: str) -> Position:
    """The position in a list with this sort; raises a Problem for a cursor of another list."""
    try:
        made_for, value, order_id = json.loads(urlsafe_b64decode(cursor))
        sort_value = int(value) if "total" in sort else datetime.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise not_issued(INVALID_CURSOR, "cursor", "is not one that a list returned") from error
    if made_for != sort or not isinstance(order_id, str):
        detail = f"belongs to another list, not to one sorted by {sort}"
        raise not_issued(INVALID_CURSOR, "cursor", detail)
    return sort_value, order_id
