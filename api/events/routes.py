"""The public event feed: CloudEvents, in pages or as a stream, and their schemas."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from datetime import tzinfo
from pathlib import Path
from time import time
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.sse import format_sse_event
from pydantic import BaseModel

from api.auth.authentication import require_scope
from api.auth.permissions import READ
from api.context import context_of
from api.dependencies import Services, ServicesDep
from api.events.filter import OfCustomer, OfOrder, Types, requested_filter
from api.events.start import From, position_after, position_of_start
from api.events.stream import EventStream
from api.problems.catalog import UNKNOWN_SCHEMA
from api.problems.handlers import PROBLEMS
from api.problems.problem import Problem
from api.problems.strict_route import StrictRoute
from api.times import TIMEZONE, zone_of
from eventlog import feed
from eventlog.cursor import encode_cursor
from eventlog.epochs import read_epochs
from eventlog.feed import EventFilter, Page
from eventlog.log import Checkpoint
from eventlog.postgres import UNAVAILABLE
from outbound.cloudevents import SCHEMAS_PATH, CloudEvent, as_json, cloud_event
from outbound.event_data import public_events
from readside.order_view.narration import narrated

log = logging.getLogger("orderly.api")

router = APIRouter(tags=["Events"], responses=PROBLEMS, route_class=require_scope(READ))
# Public: no token is required.
schemas = APIRouter(
    prefix=SCHEMAS_PATH, tags=["Events"], responses=PROBLEMS, route_class=StrictRoute
)

LIMIT_MAX = 1_000
RECONNECT_MS = 1_000
SSE = "text/event-stream"
SCHEMA = "application/schema+json"
SCHEMAS = {
    file.stem: file.read_bytes()
    for file in sorted((Path(__file__).parents[2] / "contracts" / "events").glob("*.json"))
}


class EventList(BaseModel):
    """A page of events; `next` is the `cursor` of the page that follows, and is never null."""

    items: list[CloudEvent]
    next: str


class EventSchemaList(BaseModel):
    """The names of all schemas, one for each type and version of events; `next` is null."""

    items: list[str]
    next: None = None


@router.get(
    "/v1/events",
    summary="List or stream events",
    response_model=EventList,
    responses={200: {"content": {SSE: {"schema": {"type": "string"}}}}},
)
async def list_events(
    request: Request,
    services: ServicesDep,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    start: From = None,
    type: Types = None,
    order_id: OfOrder = None,
    customer_id: OfCustomer = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="events per page")] = 100,
    include: Annotated[
        Literal["sentences"] | None, Query(description="also each event in words, for people")
    ] = None,
    accept: Annotated[str, Header(description=f"`{SSE}`: a stream")] = "application/json",
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="`id` of a stream's last event, to resume it",
        ),
    ] = None,
    prefer: Annotated[str | None, Header(description=TIMEZONE)] = None,
) -> Response:
    """The events of all orders that the caller can access, at least once, in commit order.

    It begins with the first event, with `from`, or after a `cursor`. Follow `next`; if it equals
    the `cursor` you sent, there is no more to read now. An event appears once every older
    transaction has ended, normally within milliseconds. With `Accept: text/event-stream`, events
    are streamed as they appear.
    """
    filter = await requested_filter(request, type, order_id, customer_id)
    zone = zone_of(prefer) if include == "sentences" else None
    epochs = await read_epochs(services.pool)
    if last_event_id:  # It wins: a client that reconnects repeats its original query.
        source = {"header": "Last-Event-ID"}
        position = await position_after(services.pool, epochs, last_event_id, source)
    else:
        own = context_of(request).customer_id
        position = await position_of_start(services.pool, epochs, cursor, start, own)
    if SSE in accept:
        stream = _stream(request, services, position, epochs.current, filter, zone)
        return EventStream(services.streams, stream)
    page = await feed.read(services.pool, position, filter, limit)
    items = ",".join(map(as_json, await _cloud_events(request, services, page, zone)))
    body = f'{{"items":[{items}],"next":"{encode_cursor(page.end, epochs.current)}"}}'
    # A repeated request can return more events, or an address that has been erased since.
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")


@schemas.get("", summary="List event schemas", response_model=EventSchemaList)
async def list_event_schemas() -> EventSchemaList:
    """The names of all schemas that the `dataschema` of an event can refer to."""
    return EventSchemaList(items=list(SCHEMAS))


@schemas.get(
    "/{type}",
    summary="Get an event schema",
    response_class=Response,
    response_description="A JSON Schema",
    responses={200: {"content": {SCHEMA: {"schema": {"type": "object"}}}}},
)
async def get_event_schema(
    type: Annotated[str, PathParameter(description="such as orderly.order.item-added.v1")],
) -> Response:
    """The JSON Schema of the `data` of one type of event, such as orderly.order.item-added.v1."""
    if type not in SCHEMAS:
        detail = f"There is no schema {type}; {SCHEMAS_PATH} lists all."
        raise Problem(UNKNOWN_SCHEMA, detail)
    return Response(SCHEMAS[type], media_type=SCHEMA)


async def _stream(
    request: Request,
    services: Services,
    position: Checkpoint,
    epoch: int,
    filter: EventFilter,
    zone: tzinfo | None,
) -> AsyncIterator[bytes]:
    """Server-sent events, until the caller's token expires or Postgres becomes unavailable.

    Then the client reconnects, with a new token where one is needed.
    """
    expires_at = context_of(request).expires_at
    yield format_sse_event(retry=RECONNECT_MS)
    try:
        async for page in services.streams.follow(position, filter):
            if time() >= expires_at:
                break
            events = await _cloud_events(request, services, page, zone)
            yield b"".join(_sse_events(page, events, epoch))
    except UNAVAILABLE as error:
        log.warning("a stream ends, as Postgres is unavailable: %r", error)


def _sse_events(page: Page, cloud_events: list[CloudEvent], epoch: int) -> list[bytes]:
    events = zip(page.events, cloud_events, strict=True)
    return [
        *(
            format_sse_event(
                id=encode_cursor(published.checkpoint, epoch),
                event=event.type,
                data_str=as_json(event),
            )
            for published, event in events
        ),
        # An id without data is no event to the client, but moves its position.
        format_sse_event(id=encode_cursor(page.end, epoch), comment=""),
    ]


async def _cloud_events(
    request: Request, services: Services, page: Page, zone: tzinfo | None
) -> list[CloudEvent]:
    """The events of a page; with a zone, also in words."""
    events = await public_events((each.envelope for each in page.events), services.keys)
    said: Sequence[str | None] = [None] * len(events)
    if zone is not None and events:
        stored = [(each.order_id, each.envelope) for each in page.events]
        said = await narrated(services.pool, stored, zone)
    base_url = str(request.base_url)
    return [
        cloud_event(published.order_id, event, base_url, sentence)
        for published, event, sentence in zip(page.events, events, said, strict=True)
    ]
