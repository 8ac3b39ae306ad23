"""The history of an order: its events from the log."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

import telemetry
from api.auth.authentication import require_scope
from api.auth.permissions import READ
from api.context import VERSION_MAX, RequestContext, context_of
from api.dependencies import Services, ServicesDep
from api.problems.errors import UnknownOrder
from api.problems.handlers import PROBLEMS
from api.reads.consistency import ConsistencyQuery, PreferZoneHeader, read_consistency
from api.times import zone_of
from eventlog import log
from eventlog.envelope import Envelope, Metadata
from eventlog.journal import Entry, read_entries
from orders.text import Id
from outbound.event_data import ADDRESS_EVENTS, addresses_in, public_events, public_messages
from readside.order_view.narration import words_before
from readside.order_view.projection import PROJECTION
from readside.order_view.sentences import sentences
from readside.order_view.words import Words

router = APIRouter(
    prefix="/v1/orders", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)

HISTORY_MAX = 1_000
NO_OPS_MAX = 1_000
"""In a page. Each is unpacked to know its caller."""


class HistoryQuery(ConsistencyQuery):
    """The page of a history."""

    cursor: Annotated[
        int, Field(ge=0, le=VERSION_MAX, description="`next` of the page before: a version")
    ] = 0
    limit: Annotated[int, Field(ge=1, le=HISTORY_MAX, description="events per page")] = HISTORY_MAX
    include: Annotated[
        Literal["intents"] | None,
        Field(description="also what was asked of the order, and what of it was rejected"),
    ] = None


class HistoryEntry(BaseModel):
    """Something that happened to an order: what, when, and who caused it."""

    version: int
    type: str
    schema_version: int = Field(description="of `data`, which is upcast to the current version")
    data: dict[str, Any] = Field(
        description='an address in it is an `Address`, or `{"erased": true}` once erased,'
        ' or `{"unreadable": true}` if its key is missing'
    )
    sentence: str = Field(description="the event in words, in English, for people")
    occurred_at: datetime
    actor: str
    cause: str = Field(
        description="the type of the command, service result or deadline that caused it"
    )
    cause_id: str = Field(description="shared by all events with one cause")
    request_id: str | None
    trace_id: str | None


class IntentRejection(BaseModel):
    """Why an intent was rejected; `index` is that of the rejected command."""

    code: str
    message: str
    index: int
    field: str | None


class IntentEntry(BaseModel):
    """An input of the order: commands, the result of a step, or a passed deadline."""

    version: int = Field(description="of the order that decided on it")
    decided_at: datetime
    outcome: Literal["events", "no-op", "rejected"] = Field(
        description="`events`: it caused those with the same `cause_id`"
    )
    messages: list[dict[str, Any]] | None = Field(
        description="as received, with addresses as in events; null if it is damaged"
    )
    expected_versions: list[int] | None
    rejection: IntentRejection | None
    actor: str
    cause_id: str
    request_id: str | None
    trace_id: str | None


class OrderHistory(BaseModel):
    """Events in order; `next` is the `cursor` of the page that follows, and null at the end."""

    items: list[HistoryEntry]
    next: int | None
    intents: list[IntentEntry] | None = Field(
        None,
        description="with `include=intents`: what was decided between these events, in order;"
        " customers get what they sent. Rejections are kept as far as there is room.",
    )
    no_ops_left_out: bool | None = Field(
        None,
        description="with `include=intents`: whether there are more no-ops between these events,"
        f" of any caller, than the newest {NO_OPS_MAX:,}, which are read; no rejection is left out",
    )


@router.get("/{order_id}/history", summary="Get an order's history", response_model=OrderHistory)
async def get_history(
    request: Request,
    order_id: Id,
    services: ServicesDep,
    query: Annotated[HistoryQuery, Query()],
    prefer: PreferZoneHeader = None,
) -> Response:
    """Every event of the order: what happened, when, who caused it, and in which trace."""
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    await consistency.wait()
    stored = await log.read_stream(services.pool, order_id, query.cursor, query.limit)
    next_ = stored[-1].version if len(stored) == query.limit else None
    entries: list[Entry] = []
    lacks_no_ops: bool | None = None
    if query.include == "intents":
        until = VERSION_MAX if next_ is None else next_
        found = await read_entries(services.pool, order_id, query.cursor, until, NO_OPS_MAX)
        entries, lacks_no_ops = _visible(found.entries, context_of(request)), found.lacks_no_ops
    # An order whose opening was rejected has no event, but may have entries.
    if not stored and not entries and await log.head(services.pool, order_id) == 0:
        raise UnknownOrder(order_id)
    items = await _entries(services, order_id, stored, zone_of(prefer))
    intents: list[IntentEntry] | None = None
    has_addresses = any(event.type in ADDRESS_EVENTS for event in stored)
    if query.include == "intents":
        messages = await public_messages(entries, services.keys)
        intents = [_intent(*pair) for pair in zip(entries, messages, strict=True)]
        has_addresses |= any(map(addresses_in, entries))
    history = OrderHistory(items=items, next=next_, intents=intents, no_ops_left_out=lacks_no_ops)
    headers = consistency.headers()
    if has_addresses:
        headers["Cache-Control"] = "no-store"  # A cached copy would outlive the key.
    return Response(history.model_dump_json(), headers=headers, media_type="application/json")


async def _entries(
    services: Services, order_id: str, stored: list[Envelope], zone: tzinfo
) -> list[HistoryEntry]:
    words = Words(zone=zone)
    if stored and stored[0].version > 1:
        words = await words_before(services.pool, order_id, stored[0].version, zone)
    shown = await public_events(stored, services.keys)
    return [_entry(*pair) for pair in zip(shown, sentences(stored, words), strict=True)]


def _visible(entries: list[Entry], context: RequestContext) -> list[Entry]:
    """The entries that a caller may see: customers only those that they sent."""
    if not context.is_customer:
        return entries
    return [entry for entry in entries if entry.metadata.actor == context.actor]


def _intent(entry: Entry, messages: list[dict[str, Any]] | None) -> IntentEntry:
    intent, metadata = entry.intent, entry.metadata
    rejection = intent.rejection if intent else None
    return IntentEntry(
        version=entry.version,
        decided_at=entry.decided_at,
        outcome="events" if entry.is_effective else "rejected" if entry.code else "no-op",
        messages=messages,
        expected_versions=intent.expected_versions if intent else None,
        rejection=IntentRejection(**rejection.model_dump()) if rejection else None,
        actor=metadata.actor,
        cause_id=metadata.command_id,
        request_id=metadata.request_id,
        trace_id=_trace_id(metadata),
    )


def _trace_id(metadata: Metadata) -> str | None:
    return telemetry.trace_id(metadata.traceparent) if metadata.traceparent else None


def _entry(event: Envelope, sentence: str) -> HistoryEntry:
    metadata = event.metadata
    return HistoryEntry(
        version=event.version,
        type=event.type,
        schema_version=event.schema_version,
        data=event.data,
        sentence=sentence,
        occurred_at=event.occurred_at,
        actor=metadata.actor,
        cause=metadata.command,
        cause_id=metadata.command_id,
        request_id=metadata.request_id,
        trace_id=_trace_id(metadata),
    )
