"""The public feed: every event as a CloudEvent, page by page or as a stream, and its schema."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Annotated

import asyncpg
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import format_sse_event
from pydantic import AfterValidator, BaseModel

from api.auth.authentication import assert_owns_order, require_scope
from api.auth.permissions import READ
from api.context import context_of
from api.dependencies import Services, ServicesDep
from api.event_data import public_events
from api.events.cloudevents import (
    SCHEMAS_PATH,
    CloudEvent,
    as_json,
    cloud_event,
    decode_cursor,
    encode_cursor,
)
from api.events.stream import EventStream
from api.problems.catalog import INVALID_CURSOR, UNKNOWN_SCHEMA
from api.problems.handlers import PROBLEMS
from api.problems.problem import FieldError, Problem
from eventlog import feed
from eventlog.feed import EventFilter, Page
from eventlog.log import START, Checkpoint
from eventlog.postgres import UNAVAILABLE
from orders.events import BY_TAG
from orders.text import Id
from privacy.keys import CustomerKeys

log = logging.getLogger("orderly.api")

router = APIRouter(tags=["Events"], responses=PROBLEMS, route_class=require_scope(READ))
# What events look like is nobody's secret.
schemas = APIRouter(prefix=SCHEMAS_PATH, tags=["Events"], responses=PROBLEMS)

LIMIT_MAX = 1_000
RECONNECT_MS = 1_000
SSE = "text/event-stream"
SCHEMA = "application/schema+json"
SCHEMAS = {
    file.stem: file.read_bytes()
    for file in sorted((Path(__file__).parents[2] / "contracts" / "events").glob("*.json"))
}


class EventList(BaseModel):
    """Some events; `next` is the `cursor` of the page that follows, and never null."""

    items: list[CloudEvent]
    next: str


class SchemaList(BaseModel):
    """The names of the schemas, one for each type and version of events; `next` is null."""

    items: list[str]
    next: None = None


def _known(tag: str) -> str:
    if tag not in BY_TAG:
        raise ValueError("no event has this type: name one as in item-added")
    return tag


Tag = Annotated[str, AfterValidator(_known)]


@router.get(
    "/v1/events",
    summary="What happened to all orders",
    response_model=EventList,
    responses={200: {"content": {SSE: {"schema": {"type": "string"}}}}},
)
async def list_events(
    request: Request,
    services: ServicesDep,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    type: Annotated[list[Tag] | None, Query(description="any of these, as item-added")] = None,
    order_id: Id | None = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="of a page")] = 100,
    accept: Annotated[str, Header(description=f"`{SSE}`: a stream")] = "application/json",
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="where a stream goes on")
    ] = None,
) -> Response:
    """Every event of every order that the caller may see, at least once, in commit order.

    Follow `next` for ever. If it equals the `cursor` you sent, you are up to date.
    """
    if order_id is not None:
        await assert_owns_order(request, order_id)
    types = tuple(sorted(type)) if type else None
    filter = EventFilter(types, order_id, context_of(request).customer_id)
    place = await _place(services.pool, cursor, last_event_id)
    if SSE in accept:
        return EventStream(services.streams, _sent(request, services, place, filter))
    page = await feed.read(services.pool, place, filter, limit)
    items = ",".join(map(as_json, await _cloud_events(request, services.keys, page)))
    body = f'{{"items":[{items}],"next":"{encode_cursor(page.end)}"}}'
    # The next request may find more, and erasing changes what is shown.
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")


@schemas.get("", summary="The schemas of all events", response_model=SchemaList)
async def list_event_schemas() -> SchemaList:
    """The names of the schemas that the `dataschema` of events may lead to."""
    return SchemaList(items=list(SCHEMAS))


@schemas.get(
    "/{type}",
    summary="The schema of one type of events",
    response_class=Response,
    response_description="A JSON Schema",
    responses={200: {"content": {SCHEMA: {"schema": {"type": "object"}}}}},
)
async def get_event_schema(type: str) -> Response:
    """The JSON Schema of the `data` of events of a type, such as orderly.order.item-added.v1."""
    if type not in SCHEMAS:
        detail = f"There is no schema {type}; {SCHEMAS_PATH} lists all."
        raise Problem(UNKNOWN_SCHEMA, detail)
    return Response(SCHEMAS[type], media_type=SCHEMA)


async def _place(pool: asyncpg.Pool, cursor: str | None, last_event_id: str | None) -> Checkpoint:
    """Where to go on. A stream that reconnects knows better than its address, which is old."""
    text = last_event_id or cursor
    if text is None:
        return START
    named = {"header": "Last-Event-ID"} if last_event_id else {"parameter": "cursor"}
    try:
        place = decode_cursor(text)
    except ValueError as error:
        raise _bad_cursor(named, "is not one that this feed handed out") from error
    if not await feed.can_have_been_reached(pool, place):
        raise _bad_cursor(named, "leads beyond the log, which may have been restored: begin anew")
    return place


def _bad_cursor(named: dict[str, str], detail: str) -> Problem:
    (name,) = named.values()
    error = FieldError(**named, code="invalid", detail=detail)
    return Problem(INVALID_CURSOR, f"The cursor in {name} {detail}.", errors=[error])


async def _sent(
    request: Request, services: Services, place: Checkpoint, filter: EventFilter
) -> AsyncIterator[bytes]:
    """The stream, piece by piece; ends when the log is away, and then the reader comes back.

    It ends with the token that it began with, too: who comes back must bring a new one.
    """
    expires_at = context_of(request).expires_at
    yield format_sse_event(retry=RECONNECT_MS)
    try:
        async for page in services.streams.follow(place, filter):
            if time() >= expires_at:
                break
            yield b"".join(await _sse_events(request, services.keys, page))
    except UNAVAILABLE as error:
        log.warning("a stream ends, Postgres is away: %r", error)


async def _sse_events(request: Request, keys: CustomerKeys, page: Page) -> list[bytes]:
    events = zip(page.events, await _cloud_events(request, keys, page), strict=True)
    return [
        *(
            format_sse_event(
                id=encode_cursor(published.checkpoint), event=event.type, data_str=as_json(event)
            )
            for published, event in events
        ),
        # An id without data is no event to the client, but moves its position.
        format_sse_event(id=encode_cursor(page.end), comment=""),
    ]


async def _cloud_events(request: Request, keys: CustomerKeys, page: Page) -> list[CloudEvent]:
    events = await public_events((published.envelope for published in page.events), keys)
    base_url = str(request.base_url)
    return [
        cloud_event(published.order_id, event, base_url)
        for published, event in zip(page.events, events, strict=True)
    ]
