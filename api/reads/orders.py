"""Reads of orders: one, as it is or as of some point in its history, and lists."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, JsonValue
from typing_extensions import TypeAliasType

from api.auth.authentication import require_scope, visible_customer_id
from api.auth.permissions import READ, allowed_to
from api.context import context_of
from api.dependencies import Services, ServicesDep, services_of
from api.personal_data import PUBLIC_COMMAND_TYPES
from api.problems.errors import UnknownOrder
from api.problems.handlers import PROBLEMS
from api.problems.problem import unsupported_sort
from api.reads.as_of import AsOfQuery, order_as_of
from api.reads.consistency import (
    PREFER,
    ConsistencyQuery,
    PreferHeader,
    ReadConsistency,
    TokenQuery,
    read_consistency,
)
from api.reads.cursor import decode_cursor, encode_cursor
from api.reads.order_json import CommandType, Order, may_change, orders_json
from api.reads.query_params import openapi_parameters
from api.times import Instant
from orders.commands import COMMAND_TYPES, type_of
from orders.decider import why_not
from orders.lifecycle import Decision
from orders.money import TOTAL_MAX
from orders.statuses import FulfilmentStatus, PaymentStatus, ReturnStatus
from orders.text import CustomerId, Id, LongName, Name
from readside.order_view.document import OrderStatus
from readside.order_view.list_query import DEADLINE_SORT, SORTS, ListQuery, OrderFilter, Position
from readside.order_view.projection import PROJECTION
from readside.order_view.queries import find_page, find_state
from readside.order_view.row import OrderRow

router = APIRouter(
    prefix="/v1/orders", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)

# The events up to a version never change; how a release shows them may.
AS_OF_VERSION_CACHING = "private, max-age=3600, immutable"

_COLUMNS = (*SORTS, DEADLINE_SORT)
_SORTS = tuple(f"{sign}{column}" for column in _COLUMNS for sign in ("", "-"))
_SORT_NAMES: JsonValue = [f"{c.upper()}_{way}" for c in _COLUMNS for way in ("UP", "DOWN")]
if TYPE_CHECKING:  # A type checker cannot follow literals that are made at runtime.
    Sort = str
else:
    Sort = TypeAliasType(
        "Sort",
        # In most languages a name has no minus sign.
        Annotated[Literal[_SORTS], Field(json_schema_extra={"x-enum-varnames": _SORT_NAMES})],
    )
Total = Annotated[int | None, Field(ge=0, le=TOTAL_MAX)]

_PUBLIC_FORMS = {type_of(each): each for each in PUBLIC_COMMAND_TYPES}


class OrderQuery(ConsistencyQuery, AsOfQuery):
    """The parameters of a read of one order."""


_ORDER_HEADERS = {
    "If-None-Match": "ETag of the version you have; 304 if it is current",
    "Prefer": PREFER,
}


class OrderSelectionQuery(TokenQuery):
    """The filters and the sort of a list."""

    customer_id: Annotated[CustomerId | None, Field(description="only orders of this customer")] = (
        None
    )
    status: Annotated[list[OrderStatus] | None, Field(description="any of these statuses")] = None
    needs_attention: Annotated[
        bool | None, Field(description="whether a person has to settle something")
    ] = None
    sku: Annotated[LongName | None, Field(description="a line has this SKU")] = None
    external_reference: Annotated[
        Name | None, Field(description="only orders with this reference")
    ] = None
    placed_from: Annotated[Instant | None, Field(description="placed at this time or later")] = None
    placed_until: Annotated[Instant | None, Field(description="placed before this time")] = None
    total_from: Annotated[Total, Field(description="minor units; this total or more")] = None
    total_until: Annotated[Total, Field(description="minor units; less than this total")] = None
    payment_status: Annotated[
        PaymentStatus | None, Field(description="only orders with this payment status")
    ] = None
    fulfilment_status: Annotated[
        FulfilmentStatus | None, Field(description="only orders with this fulfilment status")
    ] = None
    return_status: Annotated[
        ReturnStatus | None, Field(description="only orders with this return status")
    ] = None
    awaits: Annotated[
        Decision | None, Field(description="the decision that the customer has to make")
    ] = None
    attention_until: Annotated[
        Instant | None,
        Field(description="something has needed attention since before this time"),
    ] = None
    deadline_until: Annotated[
        Instant | None, Field(description="its next deadline is before this time")
    ] = None
    search: Annotated[
        LongName | None,
        Field(
            description="exactly this order id, external reference, customer id, SKU, tracking"
            " number or payment reference"
        ),
    ] = None
    sort: Annotated[
        Sort | None,
        Field(
            description="with a minus sign: descending; default: `-opened_at`. By `updated_at` and"
            " `total`, an order that changes moves. `deadline_at` is for `deadline_until`."
        ),
    ] = None

    def selection(self, request: Request) -> Selection:
        """What the caller may see of it; raises the Problem of a sort that no index supports."""
        filter = OrderFilter(
            customer_id=visible_customer_id(request, self.customer_id),
            status=self.status,
            needs_attention=self.needs_attention,
            sku=self.sku,
            external_reference=self.external_reference,
            placed_from=self.placed_from,
            placed_until=self.placed_until,
            total_from=self.total_from,
            total_until=self.total_until,
            payment_status=self.payment_status,
            fulfilment_status=self.fulfilment_status,
            return_status=self.return_status,
            awaits=self.awaits,
            attention_until=self.attention_until,
            deadline_until=self.deadline_until,
            search=self.search,
        )
        sort = self.sort or filter.default_sort
        if sort.removeprefix("-") not in filter.sorts:
            raise unsupported_sort(filter.sorts)
        return Selection(filter, sort)


class Selection(NamedTuple):
    """Which orders a list has, and in which order."""

    filter: OrderFilter
    sort: str

    def page(self, after: Position | None, limit: int) -> ListQuery:
        column, descending = self.sort.removeprefix("-"), self.sort.startswith("-")
        return ListQuery(self.filter, column, descending, after, limit)


class OrderListQuery(OrderSelectionQuery):
    """The filters, the sort and the page of a list."""

    cursor: Annotated[str | None, Field(description="`next` of the page before")] = None
    limit: Annotated[int, Field(ge=1, le=100, description="orders per page")] = 25


class OrderList(BaseModel):
    """A page of orders; `next` is the cursor of the page that follows, and null at the end."""

    items: list[Order]
    next: str | None


class AllowedCommand(BaseModel):
    """A command that the order's status allows, where to send it, and its schema."""

    type: CommandType
    href: str
    json_schema: dict[str, Any]


class UnavailableCommand(BaseModel):
    """A command that the order would reject now with any payload."""

    type: CommandType
    why_not: str = Field(description="what stands in the way, for people")


class AllowedCommands(BaseModel):
    """The commands that an order allows now, and why it allows no others."""

    order_id: str
    version: int
    status: OrderStatus
    commands: list[AllowedCommand]
    unavailable: list[UnavailableCommand]


@router.get(
    "/{order_id}",
    summary="Get an order",
    response_model=Order,
    responses={304: {"description": "Not modified: your version is current"}},
    openapi_extra=openapi_parameters(OrderQuery, _ORDER_HEADERS),
)
async def get_order(request: Request, order_id: Id) -> Response:
    """The order as in the read model, or as of a version or time; the ETag is its version."""
    services, query = services_of(request.app), OrderQuery.parse(request)
    prefer, if_none_match = map(request.headers.get, ("prefer", "if-none-match"))
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    if query.version is None and query.at is None:
        row = await _load(order_id, services, consistency)
    else:
        await consistency.wait()
        row = await order_as_of(services.pool, order_id, query)
    headers = {"ETag": f'"{row.version}"', **consistency.headers()}
    if query.version is not None:
        headers["Cache-Control"] = AS_OF_VERSION_CACHING
    # Erasure changes what is shown, but not the version.
    if _is_known(headers["ETag"], if_none_match) and not may_change([row]):
        return Response(status_code=304, headers=headers)
    (body,) = await orders_json([row], context_of(request), services.keys)
    return _json_response(body, headers, [row])


@router.get("/{order_id}/commands", summary="List allowed commands", response_model=AllowedCommands)
async def get_allowed_commands(
    request: Request,
    order_id: Id,
    services: ServicesDep,
    query: Annotated[ConsistencyQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """The commands that the caller may send: those that the order allows now, with their schemas.

    The others say what stands in their way.
    """
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    await consistency.wait()
    order = await find_state(services.pool, order_id)
    if order is None:
        raise UnknownOrder(order_id)
    permitted = allowed_to(context_of(request).is_customer, list(_PUBLIC_FORMS))
    allowed = AllowedCommands(
        order_id=order_id, version=order.version, status=order.status, commands=[], unavailable=[]
    )
    for command_type in COMMAND_TYPES:
        name = type_of(command_type)
        if name not in permitted:
            continue
        if (obstacle := why_not(command_type, order)) is not None:
            allowed.unavailable.append(UnavailableCommand(type=name, why_not=obstacle))
            continue
        href, schema = f"/v1/orders/{order_id}/commands/{name}", _json_schema(name)
        allowed.commands.append(AllowedCommand(type=name, href=href, json_schema=schema))
    headers = {"ETag": f'"{order.version}"', **consistency.headers()}
    return _json_response(allowed.model_dump_json(), headers)


@router.get("", summary="List orders", response_model=OrderList)
async def list_orders(
    request: Request,
    services: ServicesDep,
    query: Annotated[OrderListQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """Orders that match all filters.

    Follow `next`: an order that stays in the list, with the same sort value, is returned exactly
    once. By `updated_at` or `total`, an order that changes moves: onto a later page, which returns
    it again, or onto an earlier one, so that it is skipped. By `updated_at` ascending, none is
    skipped. By `placed_at`, only placed orders are listed.

    With a range, the list is sorted by the range's field; with a SKU, a search, or a payment,
    fulfilment or return status, by the time of opening.
    """
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    selection = query.selection(request)
    sort = selection.sort
    after = decode_cursor(query.cursor, sort) if query.cursor else None
    await consistency.wait()
    rows = await find_page(services.pool, selection.page(after, query.limit + 1))
    rows, has_more = rows[: query.limit], len(rows) > query.limit
    next_ = encode_cursor(sort, rows[-1].sort_value, rows[-1].order_id) if has_more else None
    items = ",".join(await orders_json(rows, context_of(request), services.keys))
    body = f'{{"items":[{items}],"next":{json.dumps(next_)}}}'
    return _json_response(body, consistency.headers(), rows)


@cache
def _json_schema(command: str) -> dict[str, Any]:
    """The schema of a command as callers send it; to generate all of them takes 30 ms."""
    schema: dict[str, Any] = _PUBLIC_FORMS[command].model_json_schema()
    return schema


async def _load(order_id: str, services: Services, consistency: ReadConsistency) -> OrderRow:
    await consistency.wait()
    row = await services.order_loader.load(order_id)
    if row is None:
        raise UnknownOrder(order_id)
    return row


def _is_known(etag: str, if_none_match: str | None) -> bool:
    if if_none_match is None:
        return False
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in known or "*" in known


def _json_response(
    body: str, headers: dict[str, str], rows: list[OrderRow] | None = None
) -> Response:
    """A response whose body may be kept by caches, unless an erasure must reach it."""
    if rows and may_change(rows):
        headers["Cache-Control"] = "no-store"
    return Response(body, headers=headers, media_type="application/json")
