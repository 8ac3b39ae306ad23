"""Where a read of the feed begins: after a cursor, at an instant, or with an event."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator

from api.feed_start import parse_start, position_before
from api.problems.catalog import INVALID_CURSOR
from api.problems.problem import FieldError, Problem, malformed
from eventlog.cursor import InvalidCursor, position_of
from eventlog.epochs import Epochs
from eventlog.log import START, Checkpoint
from eventlog.postgres import Reader


def _check(start: str) -> str:
    try:
        parse_start(start)
    except ValueError as error:
        raise ValueError(
            "must be an instant as in RFC 3339, such as 2026-03-02T09:30:00Z, or the id of an"
            " event, such as ord_x@4"
        ) from error
    return start


From = Annotated[
    Annotated[str, AfterValidator(_check)] | None,
    Query(
        alias="from",
        max_length=100,
        description="begin with what was published at this instant or later, or with this event",
    ),
]


async def position_after(
    reader: Reader, epochs: Epochs, cursor: str, source: dict[str, str]
) -> Checkpoint:
    """The position of a cursor, which is in the parameter or header `source`; raises a Problem."""
    try:
        return await position_of(reader, cursor, epochs)
    except InvalidCursor as error:
        at = FieldError(**source, code="invalid", detail=str(error))
        raise Problem(INVALID_CURSOR, f"The cursor {error}.", errors=[at]) from error


async def position_of_start(
    reader: Reader, epochs: Epochs, cursor: str | None, start: str | None, customer_id: str | None
) -> Checkpoint:
    """The position after which a read begins; raises a Problem.

    With a customer, only its events are known.
    """
    if cursor is not None and start is not None:
        detail = "cannot be combined with cursor: send one of them"
        raise malformed([FieldError(parameter="from", code="not-with-cursor", detail=detail)])
    if cursor is not None:
        return await position_after(reader, epochs, cursor, {"parameter": "cursor"})
    if start is None:
        return START
    return await position_before(reader, parse_start(start), {"parameter": "from"}, customer_id)
