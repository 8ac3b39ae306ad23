"""Where a read of the feed begins: after a cursor, at an instant, or with an event."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, TypeAdapter

from api.problems.catalog import INVALID_CURSOR, UNKNOWN_EVENT
from api.problems.problem import FieldError, Problem, malformed
from api.times import Instant
from eventlog import feed
from eventlog.cursor import InvalidCursor, position_of
from eventlog.epochs import Epochs
from eventlog.feed import EventFilter
from eventlog.log import START, Checkpoint
from eventlog.postgres import Reader
from orders.text import Id
from outbound.event_ids import parse_event_id

_INSTANT: TypeAdapter[Instant] = TypeAdapter(Instant)
_ORDER_ID: TypeAdapter[Id] = TypeAdapter(Id)


def _parse(start: str) -> datetime | tuple[str, int]:
    """An instant, or an event by order id and version; raises ValueError."""
    if "@" not in start:
        return _INSTANT.validate_python(start)
    order_id, version = parse_event_id(start)
    return _ORDER_ID.validate_python(order_id), version


def _check(start: str) -> str:
    try:
        _parse(start)
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
    match _parse(start):
        case datetime() as instant:
            return await feed.position_before(reader, instant)
        case event_id:
            return await _position_before_event(reader, event_id, customer_id)


async def _position_before_event(
    reader: Reader, event_id: tuple[str, int], customer_id: str | None
) -> Checkpoint:
    found = await feed.find_events(reader, [event_id], EventFilter(customer_id=customer_id))
    if not found:
        detail = "is not the id of an event that you can access"
        error = FieldError(parameter="from", code="unknown-event", detail=detail)
        raise Problem(UNKNOWN_EVENT, errors=[error])
    at = found[0].checkpoint
    return Checkpoint(at.transaction_id, at.position - 1)
