"""Read models out: every route here only reads, and says how fresh its answer is."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Any, Literal

import asyncpg
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, JsonValue
from typing_extensions import TypeAliasType

import telemetry
from api.auth.authentication import require_scope, visible_customer_id
from api.auth.permissions import READ, allowed_to, redact_for
from api.context import VERSION_MAX, context_of
from api.dependencies import Services, ServicesDep
from api.event_data import ADDRESS_EVENTS, public_events
from api.personal_data import PUBLIC_COMMAND_TYPES, ErasedAddress, contains_sealed, unsealed
from api.problems.catalog import INVALID_CURSOR
from api.problems.errors import UnknownOrder
from api.problems.handlers import PROBLEMS
from api.problems.problem import not_issued, unsupported_sort
from api.reads.as_of import AsOfInstant, AsOfVersion, order_as_of
from api.reads.consistency import (
    PREFER,
    ConsistencyDep,
    ConsistencyToken,
    MinVersion,
    ReadConsistency,
    wanted,
)
from api.reads.query_params import Instant, asked, documented
from eventlog import log
from eventlog.envelope import Envelope
from orders.commands import type_of
from orders.money import TOTAL_MAX
from orders.text import CustomerId, Id, LongName, Name
from privacy.address import Address
from privacy.keys import CustomerKeys
from readside.order_view import projection as order_view
from readside.order_view import queries as order_lists
from readside.order_view.document import OrderDocument, document

router = APIRouter(
    prefix="/v1/orders", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)

HISTORY_MAX = 1_000
# What a version says never changes; how we word it may, with a release.
PAST_STAYS = "private, max-age=3600, immutable"
_SORT_NAMES: JsonValue = [
    f"{column}_{way}"
    for column in ("OPENED_AT", "PLACED_AT", "UPDATED_AT", "TOTAL")
    for way in ("UP", "DOWN")
]
# Named, for the document.
OrderStatus = TypeAliasType(
    "OrderStatus",
    Literal[
        "draft",
        "placed",
        "awaiting_customer",
        "confirmed",
        "on_hold",
        "cancelling",
        "completed",
        "cancelled",
        "expired",
    ],
)
Sort = TypeAliasType(
    "Sort",
    Annotated[
        Literal[
            "opened_at",
            "-opened_at",
            "placed_at",
            "-placed_at",
            "updated_at",
            "-updated_at",
            "total",
            "-total",
        ],
        # In most languages a name has no minus sign.
        Field(json_schema_extra={"x-enum-varnames": _SORT_NAMES}),
    ],
)


Total = Annotated[int | None, Query(ge=0, le=TOTAL_MAX, description="minor units")]


class Order(OrderDocument):
    """One order. Amounts are integer minor units of `currency`; `total` has all discounts off."""

    # Sealed in the read model, and unsealed on the way out.
    shipping_address: Address | ErasedAddress | None  # type: ignore[assignment]
    billing_address: Address | ErasedAddress | None  # type: ignore[assignment]


class OrderList(BaseModel):
    """Some orders, and the cursor of those that follow; `next` is null at the end."""

    items: list[Order]
    next: str | None


class HistoryEntry(BaseModel):
    """Something that happened to an order: what, when, and who asked for it."""

    version: int
    type: str
    schema_version: int = Field(description="of `data`, whatever it was when it was stored")
    data: dict[str, Any] = Field(
        description='an address in it is an `Address`, or `{"erased": true}` once erased'
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


class AllowedCommand(BaseModel):
    """A command that the order's status admits, where to send it, and what it looks like."""

    type: str
    href: str
    json_schema: dict[str, Any]


class AllowedCommands(BaseModel):
    """What may be asked of an order now."""

    order_id: str
    version: int
    status: str
    commands: list[AllowedCommand]


class OrderAsked(BaseModel):
    """What may be asked of one order, beside which one."""

    min_version: MinVersion = None
    consistency_token: ConsistencyToken = None
    version: AsOfVersion = None
    at: AsOfInstant = None


_HEADERS = {"If-None-Match": "an ETag you have: 304", "Prefer": PREFER}


@router.get(
    "/{order_id}",
    summary="One order",
    response_model=Order,
    responses={304: {"description": "Nothing of it is newer than what you have"}},
    openapi_extra=documented(OrderAsked, _HEADERS),
)
async def get_order(request: Request, order_id: Id, services: ServicesDep) -> Response:
    """The order as the read model last saw it, or as it was; the ETag is the version shown."""
    wants = asked(request, OrderAsked)
    version, at = wants.version, wants.at
    recency = await wanted(
        request,
        order_view.PROJECTION.name,
        wants.min_version,
        wants.consistency_token,
        request.headers.get("prefer"),
        services.freshness,
    )
    if version is None and at is None:
        row = await _found(services, order_id, recency)
    else:
        row = await _as_of(services.pool, order_id, recency, version, at)
    headers = {"ETag": f'"{row.version}"', **recency.headers()}
    if version is not None:
        headers["Cache-Control"] = PAST_STAYS
    if_none_match = request.headers.get("if-none-match", "")
    known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    # Erasing a customer changes what is shown, but no version: then only all of it will do.
    if (headers["ETag"] in known or "*" in known) and not contains_sealed(row.document):
        return Response(status_code=304, headers=headers)
    return await _shown(request, services.keys, row.document, headers)


@router.get(
    "/{order_id}/history", summary="All that happened to an order", response_model=OrderHistory
)
async def get_history(
    request: Request,
    order_id: Id,
    services: ServicesDep,
    recency: ConsistencyDep,
    cursor: Annotated[
        int, Query(ge=0, le=VERSION_MAX, description="`next` of the page before: a version")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = HISTORY_MAX,
) -> Response:
    """Every event from the log: what happened, when, who asked for it, and in which trace."""
    pool = services.pool
    await recency.reach(pool, order_id)
    events = await log.read_stream(pool, order_id, cursor, limit)
    if not events and (cursor == 0 or await log.head(pool, order_id) == 0):
        raise UnknownOrder(order_id)
    items = [_history_entry(event) for event in await public_events(events, services.keys)]
    next_ = items[-1].version if len(items) == limit else None
    history = OrderHistory(items=items, next=next_).model_dump_json()
    headers = recency.headers()
    if any(event.type in ADDRESS_EVENTS for event in events):
        headers["Cache-Control"] = "no-store"  # A copy elsewhere would outlive the key.
    return _json(history, headers)


@router.get("/{order_id}/commands", summary="What may be asked now", response_model=AllowedCommands)
async def get_allowed_commands(
    request: Request, order_id: Id, services: ServicesDep, recency: ConsistencyDep
) -> Response:
    """The commands that the order admits now and you may send, each with its schema."""
    row = await _found(services, order_id, recency)
    order = OrderDocument.model_validate_json(row.document)
    permitted = allowed_to(context_of(request), order.allowed_commands)
    allowed = AllowedCommands(
        order_id=order_id,
        version=order.version,
        status=order.status,
        commands=[
            AllowedCommand(
                type=type_of(command_type),
                href=f"/v1/orders/{order_id}/commands/{type_of(command_type)}",
                json_schema=command_type.model_json_schema(),
            )
            for command_type in PUBLIC_COMMAND_TYPES
            if type_of(command_type) in permitted
        ],
    )
    return _json(allowed.model_dump_json(), {"ETag": f'"{row.version}"', **recency.headers()})


@router.get("", summary="Orders, page by page", response_model=OrderList)
async def list_orders(
    request: Request,
    services: ServicesDep,
    recency: ConsistencyDep,
    customer_id: CustomerId | None = None,
    status: Annotated[list[OrderStatus] | None, Query(description="any of these")] = None,
    needs_attention: Annotated[bool | None, Query(description="a step does not get on")] = None,
    sku: Annotated[LongName | None, Query(description="a line has this SKU")] = None,
    external_reference: Name | None = None,
    placed_from: Instant | None = None,
    placed_until: Instant | None = None,
    total_from: Total = None,
    total_until: Total = None,
    sort: Annotated[
        Sort | None,
        Query(description="a minus sign: greatest or latest first; usually `-opened_at`"),
    ] = None,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> Response:
    """Orders that match all filters. Follow `next`: pages neither skip nor repeat an order.

    With a range, the list is sorted by what the range is of; with a SKU, by the time of opening.
    """
    pool = services.pool
    filter = order_lists.Filter(
        customer_id=visible_customer_id(request, customer_id),
        status=status,
        needs_attention=needs_attention,
        sku=sku,
        external_reference=external_reference,
        placed_from=placed_from,
        placed_until=placed_until,
        total_from=total_from,
        total_until=total_until,
    )
    by = sort or f"-{filter.sorts[0]}"
    column, descending = by.removeprefix("-"), by.startswith("-")
    if column not in filter.sorts:
        raise unsupported_sort(filter.sorts)
    after = _after(cursor, by) if cursor else None
    await recency.reach(pool)
    rows = await order_lists.page(pool, filter, column, descending, after, limit + 1)
    next_ = cursor_after(rows[limit - 1], by) if len(rows) > limit else None
    items = ",".join(row.document for row in rows[:limit])
    page = f'{{"items":[{items}],"next":{json.dumps(next_)}}}'
    return await _shown(request, services.keys, page, recency.headers())


async def _found(services: Services, order_id: str, recency: ReadConsistency) -> order_lists.Row:
    await recency.reach(services.pool, order_id)
    row = await services.order_loader.find(order_id)
    if row is None:
        raise UnknownOrder(order_id)
    return row


async def _as_of(
    pool: asyncpg.Pool,
    order_id: str,
    recency: ReadConsistency,
    version: int | None,
    at: datetime | None,
) -> order_lists.Row:
    await recency.reach(pool, order_id)
    view = await order_as_of(pool, order_id, version, at)
    return order_lists.Row(order_id, view.order.version, document(view).model_dump_json())


def _history_entry(envelope: Envelope) -> HistoryEntry:
    about = envelope.metadata
    return HistoryEntry(
        version=envelope.version,
        type=envelope.type,
        schema_version=envelope.schema_version,
        data=envelope.data,
        occurred_at=envelope.occurred_at,
        actor=about.actor,
        cause=about.command,
        cause_id=about.command_id,
        request_id=about.request_id,
        trace_id=telemetry.trace_id(about.traceparent) if about.traceparent else None,
    )


def cursor_after(last: order_lists.Row, sort: str) -> str:
    """Where the page after the one that ends with this row begins."""
    value = last.sort_value
    place = [sort, value.isoformat() if isinstance(value, datetime) else value, last.order_id]
    return urlsafe_b64encode(json.dumps(place).encode()).decode()


def _after(cursor: str, sort: str) -> tuple[datetime | int, str]:
    try:
        made_for, value, order_id = json.loads(urlsafe_b64decode(cursor))
        place: int | datetime = int(value) if "total" in sort else datetime.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise not_issued(INVALID_CURSOR, "cursor", "is not one that a page answered") from error
    if made_for != sort or not isinstance(order_id, str):
        raise not_issued(
            INVALID_CURSOR, "cursor", f"belongs to another list, not to one sorted by {sort}"
        )
    return place, order_id


async def _shown(
    request: Request, keys: CustomerKeys, body: str, headers: dict[str, str]
) -> Response:
    """The body as the caller may see it, with its personal data unsealed if it has any."""
    body = redact_for(context_of(request), body)
    if contains_sealed(body):
        body = await unsealed(body, keys)
        headers["Cache-Control"] = "no-store"  # A copy elsewhere would outlive the key.
    return _json(body, headers)


def _json(body: str, headers: dict[str, str]) -> Response:
    return Response(body, headers=headers, media_type="application/json")
