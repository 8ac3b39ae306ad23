"""Where readers of the log begin: with what was published at an instant, or with an event."""

from __future__ import annotations

from datetime import datetime

from pydantic import TypeAdapter

from api.problems.catalog import UNKNOWN_EVENT
from api.problems.problem import FieldError, Problem
from api.times import Instant
from eventlog import feed
from eventlog.feed import EventFilter
from eventlog.log import Checkpoint
from eventlog.postgres import Reader
from orders.text import Id
from outbound.event_ids import parse_event_id

_INSTANT: TypeAdapter[Instant] = TypeAdapter(Instant)
_ORDER_ID: TypeAdapter[Id] = TypeAdapter(Id)

Start = datetime | tuple[str, int]
"""An instant, or an event by order id and version."""


def parse_start(text: str) -> Start:
    """An instant as in RFC 3339, or the id of an event; raises ValueError."""
    if "@" not in text:
        return _INSTANT.validate_python(text)
    order_id, version = parse_event_id(text)
    return _ORDER_ID.validate_python(order_id), version


async def position_before(
    reader: Reader, start: Start, source: dict[str, str], customer_id: str | None = None
) -> Checkpoint:
    """The position after which a reader begins; raises a Problem that names the `source`.

    With a customer, only its events are known.
    """
    if isinstance(start, datetime):
        return await feed.position_before(reader, start)
    found = await feed.find_events(reader, [start], EventFilter(customer_id=customer_id))
    if not found:
        detail = "is not the id of an event that you can access"
        error = FieldError(**source, code="unknown-event", detail=detail)
        raise Problem(UNKNOWN_EVENT, errors=[error])
    at = found[0].checkpoint
    return Checkpoint(at.transaction_id, at.position - 1)
