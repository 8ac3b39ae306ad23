"""The history of an order: its events from the log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

import telemetry
from api.auth.authentication import require_scope
from api.auth.permissions import READ
from api.context import VERSION_MAX
from api.dependencies import ServicesDep
from api.problems.errors import UnknownOrder
from api.problems.handlers import PROBLEMS
from api.reads.consistency import ConsistencyQuery, PreferHeader, read_consistency
from eventlog import log
from eventlog.envelope import Envelope
from orders.text import Id
from outbound.event_data import ADDRESS_EVENTS, public_events
from readside.order_view.projection import PROJECTION

router = APIRouter(
    prefix="/v1/orders", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)

HISTORY_MAX = 1_000


class HistoryQuery(ConsistencyQuery):
    """The page of a history."""

    cursor: Annotated[
        int, Field(ge=0, le=VERSION_MAX, description="`next` of the page before: a version")
    ] = 0
    limit: Annotated[int, Field(ge=1, le=HISTORY_MAX, description="events per page")] = HISTORY_MAX


class HistoryEntry(BaseModel):
    """Something that happened to an order: what, when, and who caused it."""

    version: int
    type: str
    schema_version: int = Field(description="of `data`, which is upcast to the current version")
    data: dict[str, Any] = Field(
        description='an address in it is an `Address`, or `{"erased": true}` once erased,'
        ' or `{"unreadable": true}` if its key is missing'
    )
    occurred_at: datetime
    actor: str
    cause: str = Field(
        description="the type of the command, service result or deadline that caused it"
    )
    cause_id: str = Field(description="shared by all events with one cause")
    request_id: str | None
    trace_id: str | None


class OrderHistory(BaseModel):
    """Events in order; `next` is the `cursor` of the page that follows, and null at the end."""

    items: list[HistoryEntry]
    next: int | None


@router.get("/{order_id}/history", summary="Get an order's history", response_model=OrderHistory)
async def get_history(
    request: Request,
    order_id: Id,
    services: ServicesDep,
    query: Annotated[HistoryQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """Every event of the order: what happened, when, who caused it, and in which trace."""
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    await consistency.wait()
    stored = await log.read_stream(services.pool, order_id, query.cursor, query.limit)
    if not stored and (query.cursor == 0 or await log.head(services.pool, order_id) == 0):
        raise UnknownOrder(order_id)
    items = [_entry(event) for event in await public_events(stored, services.keys)]
    next_ = items[-1].version if len(items) == query.limit else None
    body = OrderHistory(items=items, next=next_).model_dump_json()
    headers = consistency.headers()
    if any(event.type in ADDRESS_EVENTS for event in stored):
        headers["Cache-Control"] = "no-store"  # A cached copy would outlive the key.
    return Response(body, headers=headers, media_type="application/json")


def _entry(event: Envelope) -> HistoryEntry:
    metadata = event.metadata
    trace_id = telemetry.trace_id(metadata.traceparent) if metadata.traceparent else None
    return HistoryEntry(
        version=event.version,
        type=event.type,
        schema_version=event.schema_version,
        data=event.data,
        occurred_at=event.occurred_at,
        actor=metadata.actor,
        cause=metadata.command,
        cause_id=metadata.command_id,
        request_id=metadata.request_id,
        trace_id=trace_id,
    )
