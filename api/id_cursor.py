"""Cursors of lists whose rows have growing ids: the id of the last one of the page before."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from api.problems.catalog import INVALID_CURSOR
from api.problems.problem import not_issued


def encode_cursor(row_id: int) -> str:
    return urlsafe_b64encode(str(row_id).encode()).decode()


def decode_cursor(cursor: str) -> int:
    """The id of the last row of the page before; raises a Problem."""
    try:
        text = urlsafe_b64decode(cursor).decode()
        if not re.fullmatch("[0-9]{1,18}", text) or encode_cursor(int(text)) != cursor:
            raise ValueError(text)
        return int(text)
    except ValueError as error:
        raise not_issued(INVALID_CURSOR, "cursor", "is not one that a list returned") from error
